"""Runs benchmarks, fuzzers and other long checks.

    python -m benchmarks                           lists them
    python -m benchmarks step input --minutes 5    runs two, five minutes each
    python -m benchmarks step input --trial        runs them at tiny sizes
    python -m benchmarks all                       runs all of the first list

Needs the extra `[bench]` and an idle machine. The stated times are for two cores. Those of the
first list write every round as it comes to build/benchmarks and go on when they are run again; the
tables, of whatever there is, are printed and go into docs/performance.md.
"""

import argparse
import ast
import importlib
import itertools
import sys
from collections.abc import Sequence
from pathlib import Path

from benchmarks import MEASURED


def listing() -> dict[str, str]:
    """Name -> first line of its docstring, without slow imports."""
    found = dict.fromkeys(MEASURED, "")
    for path in sorted(Path(__file__).parent.glob("[!_]*.py")):
        tree = ast.parse(path.read_text())
        functions = {node.name for node in tree.body if isinstance(node, ast.FunctionDef)}
        if path.stem in MEASURED or "add_arguments" in functions:
            found[path.stem] = ast.get_docstring(tree).partition("\n")[0]
    return found


def main(words: Sequence[str]) -> int | None:
    """Runs the benchmarks named by the first words; without a word, lists all."""
    known = listing()
    if not words or words[0] in ("-h", "--help"):
        print(__doc__)
        for name, line in known.items():
            print(f"{name:16}  {line}")
        return 0
    name = words[0]
    if name not in (*known, "all"):
        print(f"{name}: no benchmark; `python -m benchmarks` lists them.", file=sys.stderr)
        return 2
    measured = [*itertools.takewhile(MEASURED.__contains__, words)]
    rest = words[len(measured) or 1 :]
    described = importlib.import_module(f"benchmarks.{'report' if name == 'all' else name}")
    module = importlib.import_module("benchmarks.report") if measured else described
    parser = argparse.ArgumentParser(
        prog=f"python -m benchmarks {' '.join(measured) or name}",
        description=described.__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    module.add_arguments(parser)
    measured = MEASURED if name == "all" else tuple(measured)
    return module.run(parser.parse_args(rest, argparse.Namespace(measured=measured)))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
