import hashlib
import hmac
import multiprocessing
import stat

import pytest
from platformdirs import user_config_path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.intake.secret import load_secret, pseudonym


def test_the_secret_is_made_once_and_for_this_user_alone():
    secret = load_secret()
    assert len(secret) == 32
    assert load_secret() == secret
    path = user_config_path("tf-dicom-ce") / "secret"
    assert path.read_bytes() == secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_processes_that_start_together_agree(semaphores):
    with multiprocessing.get_context("spawn").Pool(4) as pool:
        secrets = [pool.apply_async(load_secret) for _ in range(8)]
        assert len({secret.get(60) for secret in secrets}) == 1


def test_a_damaged_secret_is_not_used():
    load_secret()
    path = user_config_path("tf-dicom-ce") / "secret"
    path.write_bytes(b"short")
    with pytest.raises(UserError, match=r"secret: 5 bytes instead of 32"):
        load_secret()


def test_a_folder_that_cannot_be_used_is_named(monkeypatch, tmp_path):
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "file"))
    with pytest.raises(UserError, match=r"Not a directory.*XDG_CONFIG_HOME"):
        load_secret()


def test_a_full_disk_leaves_nothing_behind(monkeypatch):
    def fail(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("pathlib.Path.write_bytes", fail)
    with pytest.raises(UserError, match="No space left on device"):
        load_secret()
    assert list(user_config_path("tf-dicom-ce").iterdir()) == []


def test_pseudonyms_are_keyed_and_tell_kinds_apart():
    a, b = b"a" * 32, b"b" * 32
    expected = hmac.new(a, b"PatientID\x00123", hashlib.sha256).hexdigest()[:32]
    assert pseudonym(a, "PatientID", "123") == expected
    assert pseudonym(b, "PatientID", "123") != expected
    assert pseudonym(a, "StudyInstanceUID", "123") != expected
    assert pseudonym(a, "path", "\udcff")  # a file name that is not Unicode
