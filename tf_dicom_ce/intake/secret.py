"""The user's secret, by which patients get pseudonyms.

A plain hash of a seven-digit number is undone in seconds by trying them all; one keyed with a
secret is not. The secret stays in the user's configuration folder, outside of every output.
"""

import hashlib
import hmac
import os
import secrets
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.user_folders import config_folder, make_folder
from tf_dicom_ce.whole_files import keep_first

_LENGTH = 32


def load_secret() -> bytes:
    """32 random bytes, made at the first call, the same ones for this user on this machine."""
    path = config_folder() / "secret"
    try:
        if not path.exists():
            _make(path)
        secret = path.read_bytes()
    except OSError as error:
        raise UserError(
            f"{path}: {error.strerror}. The secret that patients are keyed with is kept there; "
            "set XDG_CONFIG_HOME to a folder you can write."
        ) from None
    if len(secret) != _LENGTH:
        raise UserError(f"{path}: {len(secret)} bytes instead of {_LENGTH}. Restore or delete it.")
    return secret


def pseudonym(secret: bytes, kind: str, value: str) -> str:
    """HMAC-SHA256 of a value, 32 hex digits; equal values of two kinds ("PatientID") differ."""
    message = f"{kind}\0{value}".encode(errors="surrogateescape")
    return hmac.new(secret, message, hashlib.sha256).hexdigest()[:32]


def _make(path: Path) -> None:
    """Of two processes the first one wins, and both read its secret."""
    make_folder(path.parent)
    beside = path.with_name(f".secret.{os.getpid()}.{secrets.token_hex(4)}")
    beside.touch(0o600, exist_ok=False)
    try:
        beside.write_bytes(secrets.token_bytes(_LENGTH))
        keep_first(beside, path)
    finally:
        beside.unlink(missing_ok=True)
