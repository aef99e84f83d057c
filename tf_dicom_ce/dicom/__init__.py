"""DICOM files to headers and frames; NumPy and pydicom only, never TensorFlow."""
