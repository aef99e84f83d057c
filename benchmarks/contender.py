"""The process of one contender, which runs tasks on request and reports their times.

    python -m benchmarks.contender MODULE:FUNCTION ARGUMENTS

FUNCTION, called with the JSON object ARGUMENTS, returns the tasks: name -> function, which may
return measures besides its seconds. Then every line {"task": name, "times": n} on standard input is
answered on standard output by n measures and the process's memory.
"""

import importlib
import json
import os
import sys
import time
from pathlib import Path


def memory() -> dict[str, int]:
    """Bytes of this process: `peak`, all that was ever resident; `anonymous` and `mapped` now."""
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    names = {"peak": "VmHWM", "anonymous": "RssAnon", "mapped": "RssFile"}
    return {name: 1024 * int(status[field].split()[0]) for name, field in names.items()}


def measured(task) -> dict[str, float]:
    """Wall time of a call in seconds, and what it returns beside."""
    start = time.perf_counter()
    more = task()
    return {"seconds": time.perf_counter() - start, **(more or {})}


def answer() -> None:
    with os.fdopen(os.dup(1), "w", buffering=1) as answers:
        os.dup2(2, 1)  # what libraries print goes to the log
        module, _, function = sys.argv[1].partition(":")
        tasks = getattr(importlib.import_module(module), function)(**json.loads(sys.argv[2]))
        print(json.dumps({"tasks": list(tasks)}), file=answers)
        for line in sys.stdin:
            asked = json.loads(line)
            measures = [measured(tasks[asked["task"]]) for _ in range(asked["times"])]
            print(json.dumps({"measures": measures, "memory": memory()}), file=answers)


if __name__ == "__main__":
    answer()
