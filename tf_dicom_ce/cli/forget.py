"""Remove what is kept of a folder, archive or PACS: headers, decoded images, copies of files.

  tf-dicom-ce forget DIR
  tf-dicom-ce forget EXPORT.zip                              even if the file was deleted
  tf-dicom-ce forget https://HOST/dicom-web                  all queries to it

Give the source as you gave it before. For example, a folder within DIR that was indexed by itself
has to be forgotten by itself. Afterwards nothing in the cache (~/.cache/tf-dicom-ce) holds the
source's headers, pixels or paths. An image that another source has, too, is removed, and decoded
anew for that source when needed. The command changes neither the source nor your own folders, such
as runs/ and --out: delete these yourself.
"""

import argparse


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    parser.add_argument("source", metavar="SRC", help="folder, zip or tar, or URL")


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.data.forgetting import forget

    found = forget(options.source)
    if not any(found):
        print(f"Nothing is kept of {options.source}.")
        return
    print(
        f"Removed of {options.source}: headers of {found.headers} files, {found.frames} decoded "
        f"images, {found.copies} folders of copies"
    )
