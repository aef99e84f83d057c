"""From an index of files to batches: split, store, preprocessing, tf.data."""
