"""Runs an exported head on a whole source: DICOM results, overlays and a table."""
