"""DICOM tags as labels: which elements are read, and what their values mean."""
