"""What people read: the page on which to try a model, and the description of the API."""

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import FileResponse, HTMLResponse, JSONResponse
from starlette.routing import Route

from tf_dicom_ce import __version__
from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.settings import Settings
from tf_dicom_ce.templates import fill

_FOLDER = Path(__file__).parent
_FILES = {path.name: path for path in (_FOLDER / "static").iterdir()}
_TYPES = {".html": "text/html", ".js": "text/javascript", ".css": "text/css"}
_NOTHING = "default-src 'none'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
_FROM_HERE = "script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:"
_HEADERS = {
    "Content-Security-Policy": f"{_NOTHING}; {_FROM_HERE}",
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def routes(settings: Settings) -> list[Route]:
    """`/` and the files it needs, `/docs`, and the same for programs; none of them is a secret."""
    described = document(settings)
    text = fill("serving/docs.html.jinja", {"api": described})
    style = {"Content-Security-Policy": f"{_NOTHING}; style-src 'unsafe-inline'"}

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(described)

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(text, headers=style)

    return [
        Route("/", _file),
        Route("/static/{file}", _file),
        Route("/openapi.json", openapi),
        Route("/docs", docs),
    ]


async def _file(request: Request) -> FileResponse:
    path = _FILES.get(request.path_params.get("file", "index.html"))
    if path is None:
        raise RequestError(404, "There is no such file.")
    return FileResponse(path, headers=_HEADERS, media_type=_TYPES[path.suffix])


def document(settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1, with the limits, and whether a token is asked for."""
    described = json.loads((_FOLDER / "openapi.json").read_text(encoding="utf-8"))
    described["info"]["version"] = __version__
    described["info"]["description"] += (
        f"\n\nA body has at most {settings.max_body} bytes, unpacked, and a request at most "
        f"{settings.seconds:g} seconds."
    )
    if not settings.tokens:
        del described["security"], described["components"]["securitySchemes"]
    return described
