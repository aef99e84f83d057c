"""Run a head on every image of a folder, archive or PACS, and write DICOM results.

  tf-dicom-ce predict DIR --out results                          with export/segmentation
  tf-dicom-ce predict DIR --out results --model export/classification --frames every:10
  tf-dicom-ce predict https://HOST/dicom-web --out results --send https://HOST/dicom-web
  tf-dicom-ce predict dicom://AET@HOST:104 --out results --send dicom://AET@HOST:104

--out receives predictions.csv (one row per frame: class and probabilities; or, for segmentation,
shares of the classes and measures), sr/ (one Structured Report per file), report/ (one per study of
several files) and skipped.csv (files and frames without an answer, files without a report, and
why). Segmentation adds seg/ (one Segmentation per file) and overlay/ (outlines on each frame). PNG
and JPEG get row and overlay only, because a DICOM result needs a DICOM header. If UIDs of a source
are absent or illegal, its DICOM results have made-up ones, and its row names them under
made_up_uids. Files are named by pseudonyms, which files.csv explains. files.csv and skipped.csv
quote paths, and results hold what headers and pictures say about the patient: keep them where the
images are.

To continue after any interruption, repeat the command: what is new or has changed is answered.
--send sends the results to a PACS, each once. For research; not a medical device.
"""

import argparse
from pathlib import Path

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.config import PretrainConfig
from tf_dicom_ce.dicom.refusals import Code
from tf_dicom_ce.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    add("source", metavar="SRC", help="folder, zip or tar of DICOM, PNG or JPEG files, or URL")
    add("--out", type=Path, metavar="DIR", required=True, help="folder to write to or to continue")
    head = "exported head or one of its versions (default: newest of export/segmentation)"
    add("--model", type=Path, default=Path("export/segmentation"), metavar="DIR", help=head)
    where = "PACS to send the DICOM results to: https://HOST/dicom-web, or dicom://AET@HOST:PORT"
    add("--send", "--stow", metavar="URL", help=where)
    arguments.add_codes_argument(parser)
    arguments.add_audit_log_argument(parser)
    arguments.add_settings(
        parser, PretrainConfig, ("frames", "find_sector", "blank_outside", "exclude")
    )
    arguments.add_include_argument(parser)
    arguments.add_engine_argument(parser)
    arguments.add_pacs_arguments(parser)


def run(options: argparse.Namespace) -> None:
    """Runs the command: head → index → answers → results → PACS."""
    import highdicom  # noqa: F401  if missing, say so before TensorFlow is loaded

    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.workers import warm_up

    warm_up("tf_dicom_ce.prediction.writing", "scipy.ndimage", "scipy.spatial")
    load_tensorflow()

    from tf_dicom_ce.audit_log import AuditLog
    from tf_dicom_ce.data.ultrasound import UltrasoundDataset
    from tf_dicom_ce.intake.dicomweb_server import Credentials
    from tf_dicom_ce.intake.index import check_choice
    from tf_dicom_ce.prediction import sending
    from tf_dicom_ce.prediction.batch import Head, predict
    from tf_dicom_ce.prediction.folder import open_results
    from tf_dicom_ce.results.codes import read_codes

    frames = options.frames or "middle"
    check_choice(frames)
    if options.out.resolve().is_relative_to(Path(options.source).resolve()):
        raise UserError(
            f"--out {options.out}: lies in {options.source}; the next run would read overlays as "
            "images. Choose a folder beside it."
        )
    if options.send:
        sending.check_target(options.send)
    credentials = Credentials.from_environment()
    log = AuditLog(options.audit_log) if options.audit_log else None
    head = Head(options.model, read_codes(options.codes))
    sector = head.model.find_sector if options.find_sector is None else options.find_sector
    blank = head.model.blank_outside if options.blank_outside is None else options.blank_outside
    source = UltrasoundDataset.from_images(
        options.source,
        find_sector=sector,
        blank_outside=blank,
        exclude=options.exclude or (),
        query=arguments.query_of(options),
        include=options.include or (),
        sop_classes=head.model.sop_classes,
    ).source
    with open_results(options.out, head.model, source.reader, frames):
        done = predict(source.index, head, options.out, frames, source.reader, log)
        _print(done, head, options.out)
        if not done.before + done.new:
            raise UserError(f"none of the images could be read: see {options.out / 'skipped.csv'}.")
        if options.send:
            stored = sending.store(options.send, credentials, options.out, done.dicom)
            print(
                f"PACS: {stored.instances} results stored, {stored.sent} of them sent now"
                + (f", {stored.refused} refused by the server" if stored.refused else "")
            )


def _print(done, head, folder: Path) -> None:
    """Prints what was done, and what was not."""
    model = head.model
    print(
        f"{model.name} {model.version}: {done.images} images, {done.new} answered now"
        + (f", {done.before} before" if done.before else "")
    )
    if done.pictures:
        print(f"PNG or JPEG: {done.pictures}, without a DICOM result, as they have no header")
    if done.made_up:
        print(
            f"Made-up UIDs: {done.made_up} images, whose sources have absent or illegal UIDs; see "
            f"made_up_uids in {folder / 'predictions.csv'}"
        )
    if done.unreported:
        print(
            f"Without a report of their study: {done.unreported} files, which contradict each "
            f"other; see {Code.CONTRADICTION} in {folder / 'skipped.csv'}"
        )
    if done.skipped:
        counts = ", ".join(f"{number} {code}" for code, number in done.skipped.most_common())
        print(f"Without an answer: {counts}; see {folder / 'skipped.csv'}")
    if model.synthetic:
        print("The head was trained on synthetic images only.")
    print(f"Results: {folder}")
