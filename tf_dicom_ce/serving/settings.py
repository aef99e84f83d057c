"""What the operator of a server decides."""

import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.codes import Coded

#: Environment variable with the token that clients have to send.
TOKEN_VARIABLE = "TF_DICOM_CE_SERVE_TOKEN"
_TOKEN = re.compile(r"[!-~]+")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Raises:
        UserError: A value cannot be used, or a host other than loopback has no token.
    """

    host: str = "127.0.0.1"  # address to listen at
    port: int = 8501  # 0 for any that is free
    # One of them has to be sent as `Authorization: Bearer …`; by the client's name.
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    names: Sequence[str] = ()  # other hosts by which browsers reach it, such as that of a proxy
    max_body: int = 64 << 20  # bytes of a request's body
    seconds: float = 30.0  # for a request, from its first byte to the last of its answer
    threads: int = 16  # requests that are worked on at a time
    queue: int = 48  # requests that may wait besides; the next is answered 503
    audit_log: Path | None = None  # records who asked about which study; None: nothing does
    # Codes of class names, as `results.codes.read_codes` gives them; None: the built-in table.
    codes: Mapping[str, Coded] | None = dataclasses.field(default=None, repr=False)

    def __post_init__(self):
        for option, value, fits, remedy in (
            ("port", self.port, 0 <= self.port <= 65535, "1 to 65535, or 0 for any that is free"),
            ("max-body", self.max_body, self.max_body > 0, "a number above 0"),
            ("timeout", self.seconds, 0 < self.seconds < float("inf"), "a number above 0"),
            ("threads", self.threads, self.threads > 0, "1 or more"),
            ("queue", self.queue, self.queue >= 0, "0 or more"),
        ):
            if not fits:
                raise UserError(f"--{option} {value}: choose {remedy}.")
        if not self.tokens and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host}: whoever reaches this machine could use the server. Choose a "
                f"token and set it: export {TOKEN_VARIABLE}=$(openssl rand -hex 32). Clients send "
                "it as 'Authorization: Bearer …'. Or listen at 127.0.0.1, the default."
            )


def read_tokens(path: Path | None = None) -> dict[str, str]:
    """Reads tokens by name: TF_DICOM_CE_SERVE_TOKEN's, named "environment", and a file's.

    A line of the file is a name, spaces and a token. Empty lines and those that begin with # are
    passed over.

    Raises:
        UserError: The file cannot be read, other users can read it, it has no token or a line that
            is not as above, or a token is not printable ASCII.
    """
    found = {}
    if alone := os.environ.get(TOKEN_VARIABLE, "").strip():
        found["environment"] = alone
        if not _TOKEN.fullmatch(alone):
            raise UserError(f"{TOKEN_VARIABLE}: use ASCII letters, digits and signs alone.")
    if path is None:
        return found
    try:
        mode, lines = path.stat().st_mode, path.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        reason = getattr(error, "strerror", None) or "not UTF-8"
        raise UserError(f"--tokens {path}: {reason}. Give a file of names and tokens.") from None
    if mode & 0o077:
        raise UserError(f"--tokens {path}: others can read it. Run: chmod 600 {path}")
    for number, line in enumerate(lines, 1):
        name, *rest = line.split() or ["#"]
        if name.startswith("#"):
            continue
        if len(rest) != 1 or not _TOKEN.fullmatch(rest[0]) or name in found:
            raise UserError(
                f"--tokens {path}, line {number}: write a name that no other line has, a space, "
                "and a token of ASCII letters, digits and signs."
            )
        found[name] = rest[0]
    if not found:
        raise UserError(f"--tokens {path}: there is no token in it. Write lines of name and token.")
    return found


def is_loopback(host: str) -> bool:
    """Whether an address, or `localhost`, reaches this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
