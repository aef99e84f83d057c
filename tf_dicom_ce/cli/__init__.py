"""Command line: arguments become a configuration and one call; nothing else composes."""

import argparse
import os
import sys
from collections.abc import Sequence

from tf_dicom_ce import __version__
from tf_dicom_ce.cli import finetune, index, phantom, predict, serve, study, train, tune
from tf_dicom_ce.errors import StoppedError, UserError
from tf_dicom_ce.whole_files import private

_COMMANDS = (phantom, index, train, tune, finetune, study, predict, serve)


def main(arguments: Sequence[str] | None = None) -> int:
    """Runs `tf-dicom-ce <command> …`.

    Returns:
        Exit code: 0, 2 for a mistake that the user can mend (one message on stderr), or 128 and the
        signal that ended it: 130 after Ctrl-C, 143 after SIGTERM, 141 if nobody reads the output.
    """
    parser = argparse.ArgumentParser(
        prog="tf-dicom-ce",
        description="Weakly supervised context encoder using DICOM metadata in ultrasound imaging.",
    )
    parser.add_argument("--version", action="version", version=__version__)
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
    options = parser.parse_args(arguments)
    try:
        with private():
            options.execute(options)
    except UserError as error:
        print(f"{parser.prog} {options.command}: {error}", file=sys.stderr)
        return 2
    except StoppedError as stopped:
        print(f"{parser.prog} {options.command}: {stopped}", file=sys.stderr)
        return 128 + stopped.signal
    except KeyboardInterrupt:
        print(f"{parser.prog} {options.command}: stopped.", file=sys.stderr)
        return 130
    except BrokenPipeError:  # as by `… --list | head`
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    return 0
