"""DICOM tags as labels: the elements to read, and the meaning of their values."""
