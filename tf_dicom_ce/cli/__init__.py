"""Command line: turns arguments into a configuration and one call."""

import argparse
import errno
import os
import sys
from collections.abc import Sequence

from tf_dicom_ce import __version__
from tf_dicom_ce.cli import (
    audit,
    finetune,
    forget,
    index,
    phantom,
    predict,
    probe,
    receive,
    serve,
    study,
    train,
    tune,
)
from tf_dicom_ce.cli.completion import PrintCompletion
from tf_dicom_ce.errors import EXTRAS, StoppedError, UserError, missing
from tf_dicom_ce.whole_files import private
from tf_dicom_ce.workers import cluster

_COMMANDS = (
    phantom,
    index,
    audit,
    train,
    probe,
    tune,
    finetune,
    study,
    predict,
    serve,
    receive,
    forget,
)
_SPACE = "Free some, or choose another folder; caches go to XDG_CACHE_HOME"
_FULL, _OUTPUT = os.strerror(errno.ENOSPC), "the output"
# Error number of the operating system -> remedy.
_REMEDIES = {
    errno.ENOSPC: _SPACE,
    errno.EDQUOT: _SPACE,
    errno.EROFS: "Choose a folder that you can write",
    errno.EACCES: "Choose a folder that you can write, and files that you can read",
    errno.EMFILE: "Raise the limit: ulimit -n 4096",
    errno.ENFILE: "The machine has too many files open; end other programs",
}


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tf-dicom-ce <command> …`.

    Returns:
        Exit code: 0; 2 for a mistake that the user can correct (one message on stderr); or 128 plus
        the signal: 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the output.
    """
    parser = argparse.ArgumentParser(
        prog="tf-dicom-ce",
        description="Weakly supervised context encoder using DICOM metadata in ultrasound imaging.",
    )
    parser.add_argument("--version", action="version", version=__version__)
    text = "print the script that completes commands and options in a shell (README.md)"
    parser.add_argument(
        "--print-completion", action=PrintCompletion, choices=("bash", "zsh"), help=text
    )
    commands = parser.add_subparsers(title="commands", dest="command", required=True)
    for module in _COMMANDS:
        name = module.__name__.rpartition(".")[-1]
        summary, _, details = module.__doc__.partition("\n\n")
        command = commands.add_parser(
            name,
            help=summary,
            description=f"{summary}\n\n{details}",
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        module.add_arguments(command)
        command.set_defaults(execute=module.run)
    _open_streams()
    options, unknown = parser.parse_known_args(arguments)
    if unknown:
        is_data = hasattr(options, "data") and not unknown[0].startswith("-")
        hint = f" (your own data: --data {unknown[0]})" if is_data else ""
        commands.choices[options.command].error(
            f"unrecognized arguments: {' '.join(unknown)}{hint}"
        )
    try:
        _require_working_folder()
        with private(), cluster(getattr(options, "engine", None)):
            options.execute(options)
        print(end="", flush=True)
    except (UserError, ModuleNotFoundError) as error:
        if isinstance(error, ModuleNotFoundError):
            library = (error.name or "").partition(".")[0]
            if library not in EXTRAS:
                raise
            error = missing(library, EXTRAS[library])
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 2
    except StoppedError as stopped:
        print(f"{parser.prog} {options.command}: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print(f"{parser.prog} {options.command}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as by `… --list | head`
        _to_nowhere(sys.stdout)
        return 141
    except Exception as error:
        if (words := _refusal(error)) is None:
            raise
        print(f"{parser.prog} {options.command}: {words}", file=sys.stderr)
        if words.startswith(_OUTPUT):
            _to_nowhere(sys.stdout)  # Python ends with a traceback otherwise
        return 2
    return 0


def _refusal(error: Exception) -> str | None:
    """The message for an error of the operating system, with a remedy; None for other errors."""
    number, place = (getattr(error, name, None) for name in ("errno", "filename"))
    told, full, _ = str(error).partition(_FULL)
    if full and not place and told != f"[Errno {number}] ":  # as in TensorFlow and HDF5
        return f"{told[-200:].strip(' :;')}: {_FULL}. {_SPACE}."
    if number == errno.ENOSPC:
        place = place or _OUTPUT
    if number in (errno.EMFILE, errno.ENFILE):
        place = place or "too many files at once"
    if number not in _REMEDIES or not place:
        return None
    return f"{place}: {os.strerror(number)}. {_REMEDIES[number]}."


def _open_streams() -> None:
    """Opens standard streams that the caller has closed, so that no other file gets their numbers.

    Characters outside of the terminal's encoding are printed as escapes.
    """
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            os.open(os.devnull, os.O_RDWR)  # gets the lowest number, which is this one
            setattr(sys, name, os.fdopen(number, "r" if number == 0 else "w"))
    if hasattr(sys.stdout, "reconfigure"):
        sys.stdout.reconfigure(errors="backslashreplace")


def _require_working_folder() -> None:
    try:
        os.getcwd()  # noqa: PTH109
    except FileNotFoundError:
        raise UserError("the working folder was deleted. Change to another one.") from None


def _to_nowhere(stream) -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
