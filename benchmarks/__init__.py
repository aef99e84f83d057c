"""What the package is measured against; `python -m benchmarks` lists it."""

#: Each has `measure`: sizes and a folder to work in -> results; `tables` and `goals` of results.
MEASURED = ("step", "ways", "input", "growth", "scaling", "index", "phantom", "start", "serving")
