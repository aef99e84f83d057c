"""What whoever runs the server decides."""

import dataclasses
import ipaddress
import os
from collections.abc import Mapping
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.codes import Coded

#: Name of the environment variable with the token that clients have to send.
TOKEN_VARIABLE = "TF_DICOM_CE_SERVE_TOKEN"


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Raises:
        UserError: A value cannot be used, or another host than loopback has no token.
    """

    host: str = "127.0.0.1"  # address to listen at
    port: int = 8501  # 0 for any that is free
    # What clients send as `Authorization: Bearer …`; None asks for none.
    token: str | None = dataclasses.field(default=None, repr=False)
    max_body: int = 64 << 20  # bytes of a request's body
    seconds: float = 30.0  # for a request, from its first byte to the last one of its answer
    threads: int = 16  # requests that are worked on at a time
    queue: int = 48  # requests beyond these that wait; the next one is answered 503
    audit_log: Path | None = None  # records answers about images; None for nowhere
    # What class names mean, as `results.codes.read_codes` gives it; None: the built-in table.
    codes: Mapping[str, Coded] | None = dataclasses.field(default=None, repr=False)
    drain_seconds: float = 2.0  # from SIGTERM, when /readyz turns to 503, to the end of listening

    def __post_init__(self):
        if not 0 <= self.port <= 65535:
            raise UserError(f"--port {self.port}: choose 1 to 65535, or 0 for any that is free.")
        for option, value in (("max-body", self.max_body), ("timeout", self.seconds)):
            if not 0 < value < float("inf"):
                raise UserError(f"--{option} {value}: choose a number above 0.")
        for option, value, least in (("threads", self.threads, 1), ("queue", self.queue, 0)):
            if value < least:
                raise UserError(f"--{option} {value}: choose {least} or more.")
        if self.token is None and not _is_loopback(self.host):
            raise UserError(
                f"--host {self.host}: whoever reaches this machine could use the server. Choose a "
                f"token and set it: export {TOKEN_VARIABLE}=$(openssl rand -hex 32). Clients send "
                f"it as 'Authorization: Bearer …'. Or listen at 127.0.0.1, the default."
            )


def token_from_environment() -> str | None:
    """The token in TF_DICOM_CE_SERVE_TOKEN, None if not set; UserError if no header can hold it."""
    token = os.environ.get(TOKEN_VARIABLE, "").strip()
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise UserError(f"{TOKEN_VARIABLE}: only letters, digits and signs of ASCII can be sent.")
    return token or None


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
