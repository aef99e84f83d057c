"""The page on which a person tries a model."""

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

from tf_dicom_ce.serving.errors import RequestError

_FOLDER = Path(__file__).with_name("static")
_TYPES = {
    "app.js": "text/javascript",
    "drawing.js": "text/javascript",
    "server.js": "text/javascript",
    "style.css": "text/css",
}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes() -> list[Route]:
    """`/` and the files it needs, under `/static/`; none of them is a secret."""
    return [Route("/", _index), Route("/static/{file}", _static)]


async def _index(request: Request) -> FileResponse:
    return FileResponse(_FOLDER / "index.html", headers=_HEADERS, media_type="text/html")


async def _static(request: Request) -> FileResponse:
    file = request.path_params["file"]
    if file not in _TYPES:
        raise RequestError(404, f"No file {file} here.")
    return FileResponse(_FOLDER / file, headers=_HEADERS, media_type=_TYPES[file])
