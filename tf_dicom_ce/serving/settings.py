"""What whoever runs the server decides."""

import dataclasses
import ipaddress
import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

from tf_dicom_ce.errors import UserError
from tf_dicom_ce.results.codes import Coded

#: Name of the environment variable with the token that clients have to send.
TOKEN_VARIABLE = "TF_DICOM_CE_SERVE_TOKEN"
_TOKEN = re.compile(r"[!-~]+")


@dataclasses.dataclass(frozen=True)
class Settings:
    """Settings of a server.

    Raises:
        UserError: A value cannot be used, or another host than loopback has no token.
    """

    host: str = "127.0.0.1"  # address to listen at
    port: int = 8501  # 0 for any that is free
    # What clients send as `Authorization: Bearer …`, by the name of who has it; none asks for none.
    tokens: Mapping[str, str] = dataclasses.field(default_factory=dict, repr=False)
    names: Sequence[str] = ()  # by which browsers know it besides, e.g. that of a proxy
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
        if not self.tokens and not is_loopback(self.host):
            raise UserError(
                f"--host {self.host}: whoever reaches this machine could use the server. Choose a "
                f"token and set it: export {TOKEN_VARIABLE}=$(openssl rand -hex 32). Clients send "
                f"it as 'Authorization: Bearer …'. Or listen at 127.0.0.1, the default."
            )


def read_tokens(path: Path | None = None) -> dict[str, str]:
    """Tokens by name: that of TF_DICOM_CE_SERVE_TOKEN, named "environment", and those of a file.

    A line of the file is a name, spaces and a token; one that is empty or begins with # is not
    read.

    Raises:
        UserError: The file cannot be read, others can read it, or a line is none of these; a
            header cannot hold the token.
    """
    found = {}
    if alone := os.environ.get(TOKEN_VARIABLE, "").strip():
        found["environment"] = alone
        if not _TOKEN.fullmatch(alone):
            raise UserError(
                f"{TOKEN_VARIABLE}: only letters, digits and signs of ASCII can be sent."
            )
    if path is None:
        return found
    try:
        with path.open(encoding="utf-8") as file:
            mode, lines = os.fstat(file.fileno()).st_mode, file.read().splitlines()
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
    """Whether an address, or `localhost`, is of this machine alone."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
