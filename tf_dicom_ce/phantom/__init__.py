"""A procedural ultrasound phantom: synthetic DICOM with truth; it is never clinical data."""
