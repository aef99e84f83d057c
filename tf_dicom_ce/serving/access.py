"""Who may ask: names of this server, pages of other sites, tokens."""

import hmac
from collections.abc import Mapping
from urllib.parse import urlsplit

from starlette.types import Scope

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.settings import Settings, is_loopback

#: Answered without a token: they tell nothing of models or images, and the page, which links to
#: /docs, asks for the token itself.
OPEN_PATHS = ("/healthz", "/readyz", "/", "/docs", "/openapi.json")
_OPEN_FOLDER = "/static/"


class Access:
    """Decides on a request by its headers alone."""

    def __init__(self, settings: Settings):
        self._tokens = {name: token.encode() for name, token in settings.tokens.items()}
        self._names = set(settings.names)
        self._any_host = not is_loopback(settings.host)

    def require(self, scope: Scope) -> str:
        """The name of the token that the request has; "" if it needs none.

        Raises:
            RequestError: Its length is told twice (400), its token is wrong or missing (401), a
                page of another site sends it (403), or it is meant for another server (421).
        """
        headers = dict(scope["headers"])
        if b"content-length" in headers and b"transfer-encoding" in headers:
            raise RequestError(400, "Send Content-Length or Transfer-Encoding, not both.")
        host = headers.get(b"host", b"").decode("latin-1")
        self._require_own_name(host)
        if scope["method"] not in ("GET", "HEAD"):
            self._require_own_page(headers.get(b"origin"), host)
        return self._name_of_token(scope["path"], headers)

    def _require_own_name(self, host: str) -> None:
        """A site's name may be made to lead here, so that its page in a browser could ask."""
        name = _name(host)
        if host and not self._any_host and not is_loopback(name) and name not in self._names:
            raise RequestError(
                421,
                "This server does not go by that name. Ask for localhost, or start it with --name.",
            )

    def _require_own_page(self, origin: bytes | None, host: str) -> None:
        if origin is None:  # no browser
            return
        place = origin.decode("latin-1").partition("://")[2]
        if not place or (place.lower() != host.lower() and _name(place) not in self._names):
            raise RequestError(403, "Pages of other sites cannot ask this server.")

    def _name_of_token(self, path: str, headers: Mapping[bytes, bytes]) -> str:
        if not self._tokens or path in OPEN_PATHS or path.startswith(_OPEN_FOLDER):
            return ""
        scheme, _, credentials = headers.get(b"authorization", b"").partition(b" ")
        # All are compared, so that time does not tell which it was.
        given = credentials.strip()
        same = [name for name, one in self._tokens.items() if hmac.compare_digest(given, one)]
        if scheme.lower() != b"bearer" or not same:
            raise RequestError(401, "This server asks for 'Authorization: Bearer <token>'.")
        return same[0]


def _name(host: str) -> str:
    """A host's name without its port; "?" if it is none."""
    try:
        return urlsplit(f"//{host}").hostname or "?"
    except ValueError:
        return "?"
