"""Who may ask: tokens, names of this server, pages of other sites."""

import hmac
from urllib.parse import urlsplit

from starlette.types import Scope

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.settings import Settings, is_loopback

#: Answered without a token: they tell nothing of models or images, and the page, which links to
#: /docs, asks for the token itself.
OPEN_PATHS = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")


def require_access(scope: Scope, settings: Settings) -> str:
    """Decides on a request by its headers alone.

    Returns:
        The name of its token; "" where it needs none.

    Raises:
        RequestError: It has two lengths (400); its token is missing or wrong (401); a page of
            another site sends it (403); its Host is not this server (421).
    """
    headers = dict(scope["headers"])
    if b"content-length" in headers and b"transfer-encoding" in headers:
        raise RequestError(400, "Send Content-Length or Transfer-Encoding, not both.")
    host = headers.get(b"host", b"").decode("latin-1")
    # A site can point its own name to this machine, so that its page reaches this server.
    own = is_loopback(_name(host)) or _name(host) in settings.names
    if host and is_loopback(settings.host) and not own:
        raise RequestError(
            421,
            "This server does not go by that name. Ask for localhost, or start it with --name.",
        )
    if b"origin" in headers and scope["method"] not in ("GET", "HEAD"):  # from a browser
        place = headers[b"origin"].decode("latin-1").partition("://")[2]
        if not place or (place.lower() != host.lower() and _name(place) not in settings.names):
            raise RequestError(403, "Pages of other sites cannot ask this server.")
    if is_open(scope["path"]) or not settings.tokens:
        return ""
    scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
    # Compared with all of them, so that the time does not tell which one it is.
    same = [
        name
        for name, token in settings.tokens.items()
        if hmac.compare_digest(given.strip(), token.encode())
    ]
    if scheme.lower() != b"bearer" or not same:
        raise RequestError(401, "This server asks for 'Authorization: Bearer <token>'.")
    return same[0]


def is_open(path: str) -> bool:
    """Whether it is answered without a token."""
    return path in OPEN_PATHS or path.startswith("/static/")


def _name(host: str) -> str:
    """A host's name without its port; "?" where it is malformed."""
    try:
        return urlsplit(f"//{host}").hostname or "?"
    except ValueError:
        return "?"
