"""Ways from files to batches: a pydicom loop, MONAI, and this project with or without a store."""
