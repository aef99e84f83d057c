"""How a DICOMweb service is reached: its address, what it asks for, whom it is trusted by."""

import dataclasses
import os
import ssl
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from tf_dicom_ce.errors import UserError

TOKEN, USER, PASSWORD = (f"TF_DICOM_CE_PACS_{name}" for name in ("TOKEN", "USER", "PASSWORD"))
REMEDY = "give the address of a DICOMweb service, e.g. https://host/dicom-web"

_LOOPBACK = ("localhost", "127.0.0.1", "::1")


@dataclasses.dataclass(frozen=True)
class Credentials:
    """What the PACS asks for: a bearer token, or a user and a password, or nothing."""

    token: str = dataclasses.field(default="", repr=False)
    user: str = dataclasses.field(default="", repr=False)
    password: str = dataclasses.field(default="", repr=False)

    @classmethod
    def from_environment(cls) -> "Credentials":
        """Reads TF_DICOM_CE_PACS_TOKEN, or TF_DICOM_CE_PACS_USER and TF_DICOM_CE_PACS_PASSWORD.

        Raises:
            UserError: Only one of user and password is set.
        """
        token, user, password = (
            os.environ.get(name, "").strip() for name in (TOKEN, USER, PASSWORD)
        )
        if not token and bool(user) != bool(password):
            raise UserError(f"set {USER} and {PASSWORD} together, or neither")
        return cls(token, user, password)


def checked_address(url: str) -> str:
    """Returns the address without a slash at its end.

    Raises:
        UserError: It is none of the web, holds a password, or REQUESTS_CA_BUNDLE is not there.
    """
    if "@" in url:
        raise UserError(
            f"the address holds a user or a password; never on the command line: set {USER} and "
            f"{PASSWORD} in the environment"
        )
    try:
        parts = urlsplit(url)
        usable = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        usable = False
    if not usable or "?" in url or "#" in url:
        raise UserError(f"the address is none of the web, or ends in a query; {REMEDY}")
    bundle = os.environ.get("REQUESTS_CA_BUNDLE")
    if bundle and not Path(bundle).exists():
        raise UserError(f"REQUESTS_CA_BUNDLE is {bundle}, which does not exist")
    return url.rstrip("/")


def travels_unencrypted(url: str) -> bool:
    """Tells whether what is sent to this address can be read on its way."""
    parts = urlsplit(url)
    return parts.scheme == "http" and parts.hostname not in _LOOPBACK


def certificate_fails(error: BaseException | None) -> bool:
    """Tells whether an exception comes from a certificate that is not trusted."""
    while error and not isinstance(error, ssl.SSLCertVerificationError):
        error = error.__cause__ or error.__context__
    return error is not None


class Bearer:
    """Authentication by a token, for requests."""

    def __init__(self, token: str):
        self._header = f"Bearer {token}".encode()

    def __call__(self, request: Any) -> Any:
        """Adds the header."""
        request.headers["Authorization"] = self._header
        return request
