"""From files to batches: a plain pydicom loop, MONAI, and this project with and without a store."""
