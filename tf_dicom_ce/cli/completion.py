"""Completion of the command line by a shell."""

import argparse

#: Metavar of an option -> what the shell completes.
_PATHS = {"DIR": "DIRECTORY", **dict.fromkeys(("SRC", "CSV", "TOML", "FILE", "ENCODER"), "FILE")}


class PrintCompletion(argparse.Action):
    """Prints the script that completes commands, options, choices, files and folders."""

    def __call__(self, parser, namespace, values, option_string=None):
        """Prints it for the shell `values` and ends the program."""
        import shtab  # here, because no other command needs it

        commands = next(a for a in parser._actions if isinstance(a, argparse._SubParsersAction))
        for command in commands.choices.values():
            for action in command._actions:
                if action.metavar in _PATHS:
                    action.complete = getattr(shtab, _PATHS[action.metavar])
        print(shtab.complete(parser, values))
        parser.exit()
