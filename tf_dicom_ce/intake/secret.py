"""The user's secret, the key of all pseudonyms.

A plain hash of a seven-digit number can be undone in seconds by trying all numbers; a hash with a
secret key cannot. The secret stays in the user's configuration folder, outside of every output.
"""

import hmac
import os
import secrets
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_folders import config_folder, make_folder
from tf_dicom_ce.whole_files import keep_first

_LENGTH = 32


def load_secret() -> bytes:
    """Returns 32 random bytes, made at the first call, the same for this user and machine."""
    path = config_folder() / "secret"
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}. This file keeps the secret key of patients' pseudonyms; "
            "set XDG_CONFIG_HOME to a folder that you can write."
        ) from None
    if len(secret) != _LENGTH:
        raise UserError(f"{path}: {len(secret)} bytes instead of {_LENGTH}. Restore or delete it.")
    return secret


def pseudonym(secret: bytes, kind: str, value: str) -> str:
    """Returns HMAC-SHA256 of kind (e.g. "PatientID") and value, 32 hex digits."""
    message = f"{kind}\0{value}".encode(errors="surrogateescape")
    return hmac.digest(secret, message, "sha256").hex()[:32]


def _make(path: Path) -> None:
    """Makes the secret; if two processes do so, both use that of the first."""
    make_folder(path.parent)
    beside = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
    beside.touch(0o600, exist_ok=False)
    try:
        beside.write_bytes(secrets.token_bytes(_LENGTH))
        keep_first(beside, path)
    finally:
        beside.unlink(missing_ok=True)
