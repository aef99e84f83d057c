"""Benchmarks and long checks of the package; `python -m benchmarks` lists them."""

#: Each has `STAGES`, stage -> seconds; `measure` of a stage; `tables` and `goals` of stages.
MEASURED = (
    *(
        "step",
        "ways",
        "input",
        "growth",
        "scaling",
        "index",
        "phantom",
        "start",
        "waits",
        "serving",
    ),
    *("fuzz_reader", "fuzz_server", "kill_and_resume"),
)
