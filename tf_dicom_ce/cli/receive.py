"""Receive what ultrasound machines and archives push by DICOM C-STORE, into a folder.

  tf-dicom-ce receive DIR                                    at TF-DICOM-CE@127.0.0.1:11112
  tf-dicom-ce receive DIR --host 0.0.0.0 --from US_ROOM_1 --from ARCHIVE
  tf-dicom-ce index DIR                                      at any time, even while receiving

A machine is answered "success" once its file is complete and on the disk. Without this answer, for
example after a kill of this program, it pushes the file again. If the disk is full, the answer is
A700H, so that the machine keeps its images. A repeated instance replaces the earlier one.

Only this machine can reach 127.0.0.1. Any other --host needs the AE titles that may push (--from).
DICOM is not encrypted, and an AE title is not a password: use a network that you trust, or a
tunnel. SIGTERM ends the command. The files are as machines send them; only you can read them.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder to write to; made if missing")
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    add("--port", type=int, default=11112, metavar="N", help="port (default: 11112; 0: any free)")
    add("--aet", default="TF-DICOM-CE", metavar="AET", help="our AE title (default: TF-DICOM-CE)")
    text = "AE title that may push; may be repeated (default: any, from this machine)"
    add("--from", dest="callers", action="append", metavar="AET", help=text)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.intake.dimse_peer import checked_title
    from tf_dicom_ce.intake.receiver import receive

    title = checked_title(options.aet, "--aet")
    callers = [checked_title(one, "--from") for one in options.callers or ()]
    receive(options.folder, options.host, options.port, title, callers)
