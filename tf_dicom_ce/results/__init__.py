"""A head's answers as a clinic stores them: DICOM SEG, DICOM SR, pictures; no TensorFlow."""
