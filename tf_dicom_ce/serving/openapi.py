"""The server's description of itself, openapi.json, and the same as a page for people."""

import json
from pathlib import Path
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tf_dicom_ce import __version__
from tf_dicom_ce.serving.access import OPEN_PATHS
from tf_dicom_ce.serving.settings import Settings
from tf_dicom_ce.templates import fill

_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"


def document(settings: Settings) -> dict[str, Any]:
    """OpenAPI 3.1, with the limits, and whether a token is asked for."""
    described = json.loads(Path(__file__).with_name("openapi.json").read_text(encoding="utf-8"))
    described["info"]["version"] = __version__
    described["info"]["description"] += (
        f"\n\nA body has at most {settings.max_body} bytes, unpacked, and a request at most "
        f"{settings.seconds:g} seconds."
    )
    if settings.tokens:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        for path in (*OPEN_PATHS, "/static/{file}"):
            described["paths"][path]["get"]["security"] = []
    return described


def routes(settings: Settings) -> list[Route]:
    """`/openapi.json` and `/docs`."""
    described = document(settings)
    content = json.dumps(described).encode()
    page = fill("serving/docs.html.jinja", {"api": described})

    async def openapi(request: Request) -> Response:
        return Response(content, media_type="application/json")

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _CSP})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]
