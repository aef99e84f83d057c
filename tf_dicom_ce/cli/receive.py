"""Take what ultrasound machines and archives push by DICOM C-STORE into a folder.

  tf-dicom-ce receive DIR                                    at TF-DICOM-CE@127.0.0.1:11112
  tf-dicom-ce receive DIR --host 0.0.0.0 --from US_ROOM_1 --from ARCHIVE
  tf-dicom-ce index DIR                                      at any time, also meanwhile

A machine is told "success" once its file is whole and on the disk; what it was not told it pushes
again, after a kill of this program, too. A full disk is answered A700H, so that the machine keeps
its images. Instances that come again replace those that are there.

Only this machine can reach 127.0.0.1. Any other --host needs the AE titles that may push. DICOM
travels in clear, and an AE title is no password: keep it in a network that you trust, or in a
tunnel. SIGTERM ends it. Files hold what machines send, and are readable by you alone.
"""

import argparse
from pathlib import Path


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("folder", type=Path, metavar="DIR", help="folder to write to; made if there is none")
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    add("--port", type=int, default=11112, metavar="N", help="default: 11112; 0 is any free one")
    add("--aet", default="TF-DICOM-CE", metavar="AET", help="our AE title (default: TF-DICOM-CE)")
    text = "AE title that may push; may be given several times (default: any of this machine)"
    add("--from", dest="callers", action="append", metavar="AET", help=text)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.intake.dimse_peer import checked_title
    from tf_dicom_ce.intake.receiver import receive

    title = checked_title(options.aet, "--aet")
    callers = [checked_title(one, "--from") for one in options.callers or ()]
    receive(options.folder, options.host, options.port, title, callers)
