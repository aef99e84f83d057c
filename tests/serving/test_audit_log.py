"""Who asked which model about which study."""

import datetime
import getpass
import io
import json
import stat
from pathlib import Path

import httpx
import numpy as np
import pytest
from pydicom import dcmread

from tf_dicom_ce.audit_log import AuditLog
from tf_dicom_ce.cli import main
from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.results.model import Model

STUDY = "1.2.3.4.5"


@pytest.fixture
def image(write):
    pixels = np.random.default_rng(2).integers(0, 256, (32, 64), np.uint8)
    return write("in/Planted", pixels, StudyInstanceUID=STUDY, PatientID="Planted")


def lines(log):
    return [json.loads(line) for line in log.read_text().splitlines()]


def check(line, who, results, digest):
    time = datetime.datetime.fromisoformat(line["time"])
    assert abs(datetime.datetime.now(datetime.UTC) - time) < datetime.timedelta(minutes=5)
    assert line["who"] == who
    assert line["study"] == pseudonym(load_secret(), "StudyInstanceUID", STUDY)
    assert line["model"] == {"name": "segmentation", "version": "1", "weights_digest": digest}
    assert line["results"] == results


def test_of_predict(image, heads, tmp_path):
    log, out = tmp_path / "audit.jsonl", tmp_path / "out"
    words = ["predict", str(image.parent), "--model", str(heads / "segmentation")]
    words += ["--out", str(out)]
    assert main([*words, "--audit-log", str(log)]) == 0
    results = [next((out / kind).iterdir()) for kind in ("seg", "sr")]
    digest = json.loads((out / "model.json").read_text())["weights_digest"]
    (line,) = lines(log)
    check(line, getpass.getuser(), [dcmread(one).SOPInstanceUID for one in results], digest)
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "Planted" not in log.read_text()
    assert STUDY not in log.read_text()
    # What had an answer before is none now.
    assert main([*words, "--audit-log", str(log)]) == 0
    assert len(lines(log)) == 1


@pytest.mark.parametrize(("tokens", "who"), [({}, "127.0.0.1"), ({"ward": "s3cret"}, "ward")])
def test_of_serve(image, heads, tmp_path, serve_models, tokens, who):
    log = tmp_path / "audit.jsonl"
    credentials = {"Authorization": "Bearer s3cret"} if tokens else {}

    def ask(url, accept, content):
        headers = {"Content-Type": "application/dicom", "Accept": accept, **credentials}
        address = f"{url}/v1/models/segmentation/dicom"
        return httpx.post(address, content=content, headers=headers, timeout=60)

    with serve_models(heads, audit_log=log, tokens=tokens) as url:
        answer = ask(url, "application/dicom", image.read_bytes())
        assert answer.status_code == 200
        assert ask(url, "application/json", image.read_bytes()).status_code == 200
        assert ask(url, "application/json", b"none").status_code == 415
        known = httpx.get(f"{url}/v1/models", headers=credentials).json()["models"]
    digests = {one["name"]: one["weights_digest"] for one in known}
    result = dcmread(io.BytesIO(answer.content)).SOPInstanceUID
    of_dicom, of_json = lines(log)
    for line, uids in ((of_dicom, [result]), (of_json, [])):
        check(line, who, uids, digests["segmentation"])


def test_a_file_that_cannot_be_written(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "elsewhere")
    for path in (tmp_path, tmp_path / "none" / "log", tmp_path / "link"):
        with pytest.raises(UserError, match=r"--audit-log .* Choose a file"):
            AuditLog(path)


def test_a_full_disk(tmp_path):
    """Nothing is answered that cannot be recorded."""
    log = AuditLog(Path("/dev/full"))
    model = Model("a", "1", "segmentation", ("b",), "d", "f", None)
    with pytest.raises(OSError, match="No space left"):
        log.add("joe", "", model, [])
    log.close()
