"""Renders the stored rounds into docs/performance.md again (seconds).

Each benchmark has a file with a line of JSON for every round, and their conditions (`rounds`). A
block of the document is between `<!-- name -->` and `<!-- /name -->`: `goals`, and one for each
benchmark. The prose is not changed, nor is a block without rounds.
"""

import argparse
import contextlib
import datetime
import hashlib
import importlib
import importlib.metadata
import os
import platform
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from types import ModuleType

import tf_dicom_ce
from benchmarks import MEASURED
from benchmarks.plot import draw
from benchmarks.rounds import Rounds, Stage
from benchmarks.sizes import FULL, TRIAL, Setup
from benchmarks.tables import Goal, Table

_DOCUMENT = Path("docs", "performance.md")
_PACKAGES = (
    *("tensorflow", "keras", "torch", "timm", "monai", "pydicom", "python-gdcm", "numpy"),
    *("pillow", "pyjpegls", "pylibjpeg-rle", "tf-dicom-ce"),
)
_EXTENSIONS = ("avx2", "avx512f", "avx512_bf16", "amx_tile")
_WITHOUT_GPU = """
import tensorflow, torch
print(*["TensorFlow"] * (not tensorflow.config.list_physical_devices("GPU")), end=" ")
print(*["PyTorch"] * (not torch.cuda.is_available()))
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    add = parser.add_argument
    add("--minutes", type=float, metavar="N", help="measure each benchmark for so long, once more")
    add("--only", nargs="+", default=(), metavar="STAGE", help="of one benchmark (default: all)")
    add("--against", type=Path, metavar="DIR", help="another checkout, compared with this one")
    add("--device", choices=("cpu", "gpu"), default="cpu", help="of `step` (default: cpu)")
    add("--anew", action="store_true", help="do not go on with the rounds that are there")
    add("--trial", action="store_true", help="tiny sizes; not into docs")
    add("--results", type=Path, metavar="DIR", help="on a disk, not in memory")
    add("--out", type=Path, metavar="MD", help=f"default: {_DOCUMENT}")


def run(options: argparse.Namespace) -> int:
    """Measures the benchmarks `options.measured`, and renders all rounds.

    Returns:
        1 if a check such as a fuzzer found a fault or an option does not fit, else 0.
    """
    trial = " --trial" if options.trial else ""
    folder = options.results or Path("build", "benchmarks-trial" if trial else "benchmarks")
    folder.mkdir(parents=True, exist_ok=True)
    document = options.out or (folder / _DOCUMENT.name if trial else _DOCUMENT)
    if trial or not document.exists():
        shutil.copy(_DOCUMENT, document)
    modules = {name: importlib.import_module(f"benchmarks.{name}") for name in MEASURED}
    chosen, on_gpu = options.measured, options.device == "gpu"
    if problem := _problem(options, chosen, modules):
        print(problem, file=sys.stderr)
        return 1
    for name in chosen:
        file = folder / f"{name}{'-gpu' * on_gpu}.jsonl"
        rounds, module = Rounds(file), modules[name]
        sizes = TRIAL if trial else FULL
        rounds.begin(conditions(name, options), options.anew)
        wanted = {s: seconds * sizes.patience for s, seconds in module.STAGES.items()}
        with _work(file.with_suffix(".work")) as work:
            device = "cpu" if trial else options.device
            against = options.against and options.against.resolve()
            setup = Setup(sizes, work, device, against)
            only = options.only or (module.ON_GPU if on_gpu else ())
            for stage in rounds.lacking(wanted, sizes.least, options.minutes, only):
                module.measure(stage, setup)
        print(_block(rounds, module))
    found = {name: Rounds(folder / f"{name}.jsonl") for name in (*MEASURED, "step-gpu")}
    for name in [name for name, rounds in found.items() if _measured(rounds)]:
        if found[name].conditions.get("benchmark") != _benchmark(name):
            print(f"{name}: left out, its benchmark has changed; run it again", file=sys.stderr)
            del found[name]
    found = {name: rounds for name, rounds in found.items() if _measured(rounds)}
    write(document, found, modules)
    checks = [modules[name].goals(_measured(found[name])) for name in chosen if name in found]
    return int(any(not goal.met for goals in checks for goal in goals if goal.is_check))


@contextlib.contextmanager
def _work(folder: Path) -> Iterator[Path]:
    """An empty folder, removed at the end; what a run that was cut off left there goes, too."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir()
    try:
        yield folder.resolve()
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _problem(options: argparse.Namespace, chosen: tuple, modules: Mapping) -> str:
    """What of the options does not fit; empty if all does."""
    for name in chosen if options.only else ():
        if unknown := set(options.only) - set(modules[name].STAGES):
            stages = ", ".join(modules[name].STAGES)
            return f"--only {', '.join(sorted(unknown))}: {name} has the stages {stages}."
    numbers = sorted(name for name in os.environ if name.endswith("_THREADS"))
    if chosen and numbers and not options.trial:
        return f"{', '.join(numbers)}: unset it, or the figures are not those of all cores."
    if options.device == "cpu":
        return ""
    if chosen != ("step",):
        return "--device gpu: only `step` runs on a GPU."
    if options.trial:
        return ""
    words = [sys.executable, "-c", _WITHOUT_GPU]
    without = subprocess.run(words, check=True, capture_output=True, text=True).stdout.split()
    if without:
        return (
            f"--device gpu: {' and '.join(without)} see no GPU. Install the driver and "
            "pip install '.[and-cuda]', or try the wiring on the CPU with --trial."
        )
    return ""


def conditions(name: str, options: argparse.Namespace) -> dict:
    """What the figures of a benchmark depend on; `code` and `benchmark` are digests of modules."""
    root, command = Path(tf_dicom_ce.__file__).parent, f"python -m benchmarks {name}"
    command += " --device gpu" * (options.device == "gpu") + " --trial" * options.trial
    return {
        "command": command,
        "date": datetime.date.today().isoformat(),
        "machine": machine(),
        "versions": {name: version for name in _PACKAGES if (version := _version(name))},
        "code": _digest(*sorted(root.rglob("*.py"))),
        "benchmark": _benchmark(name),
        "against": str(options.against or ""),
    }


def _benchmark(name: str) -> str:
    """What tells whether the tables of a benchmark can be made of its rounds."""
    return _digest(Path(__file__).with_name(f"{name.removesuffix('-gpu')}.py"))


def _digest(*paths: Path) -> str:
    return hashlib.sha256(b"".join(path.read_bytes() for path in paths)).hexdigest()[:12]


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:  # a part that needs it says so
        return ""


def machine() -> dict[str, str]:
    """Processor, memory, system and Python."""
    cpu, memory = Path("/proc/cpuinfo").read_text(), Path("/proc/meminfo").read_text()
    flags = re.search(r"^flags\s*: (.*)$", cpu, re.MULTILINE)
    known = [name for name in _EXTENSIONS if flags and name in flags[1].split()]
    model = re.search(r"^model name\s*: (.*)$", cpu, re.MULTILINE)
    kibibytes = int(re.search(r"^MemTotal:\s*(\d+)", memory)[1])
    return {
        "processor": f"{model[1] if model else platform.machine()} ({', '.join(known)})",
        "cores": str(len(os.sched_getaffinity(0))),
        "memory": f"{kibibytes / 1024**2:.1f} GiB",
        "system": f"{platform.freedesktop_os_release()['PRETTY_NAME']}, {platform.machine()}",
        "python": platform.python_version(),
    }


def _measured(rounds: Rounds) -> dict[str, Stage]:
    """The stages with a round."""
    return {name: stage for name, stage in rounds.stages.items() if stage.rounds}


def write(document: Path, found: Mapping[str, Rounds], modules: Mapping[str, ModuleType]) -> None:
    """Renders rounds.

    Args:
        document: Markdown with the marks; a picture of the same name is drawn beside it.
        found: Benchmark -> its rounds.
        modules: Benchmark -> its module.
    """
    stages = {name: _measured(rounds) for name, rounds in found.items()}
    module_of = {name: modules[name.removesuffix("-gpu")] for name in found}
    blocks = {name: _block(rounds, module_of[name]) for name, rounds in found.items()}
    goals = [g for name in stages if name in modules for g in modules[name].goals(stages[name])]
    if goals:
        blocks["goals"] = _goals(goals).markdown()
    text = document.read_text()
    for name, block in blocks.items():
        before, mark, rest = text.partition(f"<!-- {name} -->\n")
        _, end, after = rest.partition(f"<!-- /{name} -->")
        if not end:
            raise ValueError(f"{document.name} has no place for {name}.")
        text = f"{before}{mark}\n{block}\n\n{end}{after}"
    document.write_text(text)
    draw(stages, document.with_suffix(".svg"))


def _block(rounds: Rounds, module: ModuleType) -> str:
    """The tables of a benchmark, under the conditions and what there is of rounds."""
    stages, about = _measured(rounds), rounds.conditions
    machine = about["machine"]
    versions = ", ".join(f"{name} {version}" for name, version in about["versions"].items())
    amount = "; ".join(f"{name}: {stage}" for name, stage in stages.items())
    head = (
        f"`{about['command']}`, {about['date']}. {machine['processor']}, {machine['cores']} "
        f"threads, {machine['memory']}, {machine['system']}; Python {machine['python']}, "
        f"{versions} (code {about['code']}). {amount}."
    )
    return "\n\n".join([head, *(table.markdown() for table in module.tables(stages))])


def _goals(goals: list[Goal]) -> Table:
    rows = [[g.what, g.wanted, g.found, "yes" if g.met else "**no**"] for g in goals]
    return Table("Goals", ("", "wanted", "found", "met"), rows)
