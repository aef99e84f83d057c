"""Compare ways to pretrain by the heads trained on them: the paper's Table 2 with a control.

  tf-dicom-ce study quick                     on the phantom, minutes to hours on two CPU cores
  tf-dicom-ce study mine.toml --out studies/mine
  tf-dicom-ce study mine.toml --out DIR --list        jobs by number, with their states
  tf-dicom-ce study mine.toml --out DIR --job 7       one job, for a cluster's scheduler
  tf-dicom-ce study mine.toml --out DIR --report      the report of all jobs done so far

Every pretraining and every head is a job in its own process. To continue a study that was killed,
repeat the command; finished jobs are not run again. The report is written to --out: report.html,
report.md, table2.csv, table2.tex, comparisons.csv. docs/study.md describes the TOML file.
"""

import argparse
import dataclasses
import functools
from collections.abc import Sequence
from importlib import resources
from pathlib import Path

from tf_dicom_ce.cli import finetune, probe, train
from tf_dicom_ce.errors import UserError

_COMMANDS = {"train": train, "finetune": finetune, "probe": probe}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("protocol", metavar="TOML", help="quick, standard, paper, or a file")
    add("--out", type=Path, metavar="DIR", help="the study's folder (default: studies/<name>)")
    add("--parallel", type=int, default=2, metavar="N", help="jobs at a time (default: 2)")
    add("--retry-failed", action="store_true", help="also run failed jobs again")
    add("--list", action="store_true", help="list the jobs and stop")
    add("--job", type=int, metavar="K", help="run only job K of --list")
    add("--report", action="store_true", help="write the report and stop")


@functools.cache
def _parser(command: str) -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(add_help=False)
    _COMMANDS[command].add_arguments(parser)
    return parser


def options_of() -> dict[str, set[str]]:
    """Command -> its options, which are also keys of the TOML file."""
    return {name: {action.dest for action in _parser(name)._actions} for name in _COMMANDS}


def check_job(words: Sequence[str]) -> None:
    """Checks the options of a job's command before any job has run; UserError if they are wrong."""
    _COMMANDS[words[0]].configure(_parser(words[0]).parse_args(words[1:]))


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.study.exhibits import difficulty, render_phantom
    from tf_dicom_ce.study.protocol import read_protocol
    from tf_dicom_ce.study.report import write_report
    from tf_dicom_ce.study.runner import State, Study, run_all, run_job, settle

    shipped = resources.files("tf_dicom_ce.study") / f"{options.protocol}.toml"
    path = Path(str(shipped)) if shipped.is_file() else Path(options.protocol)
    protocol = read_protocol(path, options_of())
    jobs = protocol.jobs()
    for job in jobs:
        check_job(job.command)
    study = Study(options.out or Path("studies") / protocol.name, jobs)
    if options.list:
        for k, job in enumerate(jobs):
            print(f"{k:4}  {study.state(job):8} {job.name}")
        return
    settle(study.folder, dataclasses.asdict(protocol))
    if options.job is not None:
        if not 0 <= options.job < len(jobs):
            raise UserError(f"--job {options.job}: there are jobs 0 to {len(jobs) - 1}.")
        job = jobs[options.job]
        if job.needs and not study.is_done(job.needs):
            raise UserError(f"--job {options.job}: run its job '{job.needs}' first.")
        if run_job(study, job) is not State.DONE:
            raise UserError(f"job '{job.name}' failed; see {study.place(job.name)}.log.")
        return
    if not options.report:
        render_phantom(protocol)
        run_all(study, options.parallel, options.retry_failed)
    write_report(study, study.folder, difficulty(protocol))
    print(f"Jobs: {study.counts()}.\nReport: {study.folder / 'report.html'}")
