"""An exported head over a whole source of images: DICOM results, overlays and a table."""
