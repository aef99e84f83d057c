"""Turns an index of files into batches: split, store, preprocessing, tf.data."""
