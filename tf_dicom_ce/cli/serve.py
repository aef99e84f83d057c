r"""Serve exported models over HTTP, as TensorFlow Serving does, and for DICOM files.

  tf-dicom-ce serve                          all models under export/, at http://127.0.0.1:8501/
  tf-dicom-ce serve DIR --port 0             another model repository, any free port
  tf-dicom-ce serve --selftest               do the models still answer as they did at export?

Open the address in a browser to try a model on a DICOM, PNG or JPEG file; /docs describes the API.
export/client.py asks about PNG and JPEG files, and asks TensorFlow Serving the same way. A DICOM
file is answered by JSON, or by a DICOM SEG or SR:

  curl --data-binary @image.dcm -H 'Content-Type: application/dicom' \
      -H 'Accept: application/dicom' http://127.0.0.1:8501/v1/models/segmentation/dicom -o seg.dcm

DIR holds <name>/<version>/saved_model.pb. New versions are found while the server runs and take
over when they are loaded; an older one stays at /v1/models/<name>/versions/<version>.

Only this machine can reach 127.0.0.1. Any other --host needs a token in the environment, which
clients send as 'Authorization: Bearer <token>':

  TF_DICOM_CE_SERVE_TOKEN=$(openssl rand -hex 32) tf-dicom-ce serve --host 0.0.0.0

or a file of several tokens, each with its client's name (--tokens FILE). Tokens and images are not
encrypted: in a network, put a proxy with TLS in front of the server. /healthz and /readyz answer
without a token, /metrics is for Prometheus. SIGTERM ends the server after all requests in progress
are answered. Not a medical device.
"""

import argparse
from pathlib import Path

from tf_dicom_ce.cli import arguments
from tf_dicom_ce.errors import UserError


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Declares the command's arguments."""
    add = parser.add_argument
    repository = "model repository (default: export)"
    add("root", type=Path, nargs="?", default=Path("export"), metavar="DIR", help=repository)
    add("--host", default="127.0.0.1", help="address to listen at (default: 127.0.0.1)")
    add("--port", type=int, default=8501, metavar="N", help="port (default: 8501; 0: any free)")
    text = "file with a line 'NAME TOKEN' per client, which only you can read"
    add("--tokens", type=Path, metavar="FILE", help=text)
    text = "another host name of the server for browsers, e.g. of a proxy; may be repeated"
    add("--name", action="append", default=[], metavar="HOST", help=text)
    add("--selftest", action="store_true", help="replay the golden inputs of all models and stop")
    arguments.add_audit_log_argument(parser)
    arguments.add_codes_argument(parser)
    limits = parser.add_argument_group("limits")
    for name, kind, default, metavar, text in (
        ("--max-body", int, 64, "MIB", "largest request; longer ones are answered 413"),
        ("--timeout", float, 30, "SECONDS", "longest time for a request; then 504"),
        ("--threads", int, 16, "N", "requests answered at the same time"),
        ("--queue", int, 48, "N", "requests that may wait; more are answered 503"),
    ):
        text += f" (default: {default})"
        limits.add_argument(name, type=kind, default=default, metavar=metavar, help=text)


def run(options: argparse.Namespace) -> None:
    """Runs the command."""
    from tf_dicom_ce.cli.tensorflow_loading import load_tensorflow
    from tf_dicom_ce.results.codes import read_codes
    from tf_dicom_ce.serving.settings import Settings, read_tokens

    settings = Settings(
        host=options.host,
        port=options.port,
        tokens=read_tokens(options.tokens),
        names=options.name,
        max_body=options.max_body << 20,
        seconds=options.timeout,
        threads=options.threads,
        queue=options.queue,
        audit_log=options.audit_log,
        codes=read_codes(options.codes),
    )
    if not options.selftest:
        import uvicorn  # noqa: F401  if missing, say so before TensorFlow is loaded
    load_tensorflow()
    if options.selftest:
        _selftest(options.root)
        return
    from tf_dicom_ce.serving.server import serve

    serve(options.root, settings)


def _selftest(root: Path) -> None:
    from tf_dicom_ce.saved_model.golden import selftest

    outcomes = selftest(root)
    for outcome in outcomes:
        difference = "" if outcome.difference is None else f"{outcome.difference:.2g}"
        print(f"{outcome.model:16} {outcome.version:5} {difference:>8}  {outcome.note}")
    failed = [f"{one.model}/{one.version}" for one in outcomes if one.failed]
    if failed:
        raise UserError(f"{', '.join(failed)}: export again, or remove it from {root}.")
