"""Remove what is kept of a folder, archive or PACS: headers, decoded images, copies of files.

  tf-dicom-ce forget DIR
  tf-dicom-ce forget EXPORT.zip                              also after the file was deleted
  tf-dicom-ce forget https://HOST/dicom-web                  whatever was asked of it

Give it as it was given before: a folder within DIR that was given by itself is forgotten by itself.
Afterwards nothing in the cache (~/.cache/tf-dicom-ce) holds its headers, pixels or paths. An image
that another source has, too, goes as well, and is decoded anew for that one. The source is not
touched, nor is what commands wrote into folders of yours, such as runs/ and --out; delete those
yourself.
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
        f"Forgotten of {options.source}: headers of {found.headers} files, {found.frames} decoded "
        f"images, {found.copies} folders of copies"
    )
