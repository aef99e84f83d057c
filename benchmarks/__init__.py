"""Benchmarks and long checks of the package; `python -m benchmarks` lists them."""

#: Each has `measure`: sizes and a folder to work in -> results; `tables` and `goals` of results.
MEASURED = ("step", "ways", "input", "growth", "scaling", "index", "phantom", "start", "serving")
