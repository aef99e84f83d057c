"""DICOM files to frames and encoded tags; NumPy and pydicom only, never TensorFlow."""
