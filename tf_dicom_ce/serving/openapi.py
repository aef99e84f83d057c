"""The server's description of itself: OpenAPI 3.1, and the same as a page for people."""

from importlib import resources
from typing import Any

import jinja2
from starlette.requests import Request
from starlette.responses import HTMLResponse, JSONResponse
from starlette.routing import Route

from tf_dicom_ce import __version__
from tf_dicom_ce.serving.limits import OPEN_PATHS
from tf_dicom_ce.serving.openapi_schemas import EXAMPLES, SCHEMAS, ref
from tf_dicom_ce.serving.settings import Settings

_ABOUT = """\
Heads on a context encoder, in the REST dialect of TensorFlow Serving, and for DICOM files.
Every error is a JSON object with the one key error. Research use only. Not a medical device."""
_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_IMAGES = ("application/dicom", "image/png", "image/jpeg")
_MODEL = {
    "": "the newest version",
    "/versions/{version}": "one version",
    "/labels/{label}": "a labelled version; there are no labels here, so that this answers 400",
}
_PARAMETERS = {
    "name": ("Name of the model.", {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"}),
    "version": ("Number of the version.", {"type": "integer", "minimum": 0}),
    "label": ("Label of the version.", {"type": "string"}),
    "file": ("A file of the page.", {"type": "string"}),
}
_ERRORS = {
    400: "The request is malformed, or does not fit the model; the message says what and where.",
    401: "The token is missing or wrong.",
    404: "There is no such model, version or path.",
    406: "The file and the model do not lead to what Accept wants.",
    408: "The body took longer than the time limit.",
    413: "The body is too long.",
    415: "The file is of a kind that cannot be read, or Content-Type is.",
    422: "The file cannot be read; the message has a code and the remedy.",
    503: "Too much is waiting; Retry-After says how long. Of /readyz: not ready.",
    504: "The answer took longer than the time limit.",
}
_WORK = (400, 404, 408, 413, 503, 504)


def document(settings: Settings) -> dict[str, Any]:
    """Describes every route.

    Args:
        settings: Whether a token is asked for, and the limits.

    Returns:
        An OpenAPI 3.1 document.
    """
    paths = {**_images(), **_tensors(), **_operation()}
    described = {
        "openapi": "3.1.0",
        "info": {
            "title": "tf-dicom-ce",
            "version": __version__,
            "description": f"{_ABOUT}\n\nA body has at most {settings.max_body} bytes, a request "
            f"at most {settings.seconds:g} seconds.",
            "license": {"name": "Apache-2.0", "identifier": "Apache-2.0"},
        },
        "servers": [{"url": "/"}],
        "paths": paths,
        "components": {"schemas": SCHEMAS},
    }
    if settings.token is not None:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        for path in (*OPEN_PATHS, "/static/{file}"):
            paths[path]["get"]["security"] = []
    return described


def routes(settings: Settings) -> list[Route]:
    """`/openapi.json` and `/docs`."""
    described = document(settings)
    template = resources.files("tf_dicom_ce.serving").joinpath("docs.html.jinja").read_text()
    environment = jinja2.Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True)
    page = environment.from_string(template).render(api=described)

    async def openapi(request: Request) -> JSONResponse:
        return JSONResponse(described)

    async def docs(request: Request) -> HTMLResponse:
        return HTMLResponse(page, headers={"Content-Security-Policy": _CSP})

    return [Route("/openapi.json", openapi), Route("/docs", docs)]


def _tensors() -> dict[str, Any]:
    paths = {}
    for middle, which in _MODEL.items():
        model = "/v1/models/{name}" + middle
        paths[model + ":predict"] = {
            "post": _described(
                model,
                f"Predict with {which}",
                {"application/json": {"schema": ref("PredictResponse")}},
                _WORK,
                body={"application/json": {"schema": ref("PredictRequest"), "examples": EXAMPLES}},
            )
        }
        for method in ("classify", "regress"):
            summary = f"TensorFlow Serving's {method}: no model here has its signature"
            paths[f"{model}:{method}"] = {"post": _described(model, summary, None, (400, 404))}
        paths[model] = {
            "get": _described(
                model,
                f"Status of {'all versions' if not middle else which}",
                {"application/json": {"schema": ref("GetModelStatusResponse")}},
                (400, 404),
            )
        }
        paths[model + "/metadata"] = {
            "get": _described(
                model,
                f"Signatures of {which}",
                {"application/json": {"schema": ref("GetModelMetadataResponse")}},
                (400, 404),
            )
        }
    return paths


def _images() -> dict[str, Any]:
    answers = {
        "application/json": {"schema": ref("ImageAnswer")},
        "application/dicom": {},
        "image/png": {},
    }
    form = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
    body = {kind: {} for kind in _IMAGES} | {"multipart/form-data": {"schema": form}}
    query = [
        _parameter("frame", "Frame, from 0. Default: the middle one.", {"type": "integer"}),
        _parameter("picture", "Add to JSON what the model saw.", {"type": "boolean"}),
    ]
    paths = {
        "/v1/models": {
            "get": _described(
                "/v1/models",
                "The models, with their tasks and classes",
                {"application/json": {"schema": ref("Models")}},
            )
        }
    }
    for middle in ("", "/versions/{version}"):
        model = "/v1/models/{name}" + middle
        described = _described(
            model,
            f"Read an image file with {_MODEL[middle]}",
            answers,
            (*_WORK, 406, 415, 422),
            body=body,
        )
        described["description"] = (
            "Accept chooses the answer: application/json; application/dicom, a DICOM SEG or SR for "
            "the PACS, of a DICOM file; image/png, the image with outlines, of a segmentation."
        )
        described["parameters"] += query
        paths[model + "/dicom"] = {"post": described}
    return paths


def _operation() -> dict[str, Any]:
    state, html = {"application/json": {"schema": ref("State")}}, {"text/html": {}}
    simple = {
        "/healthz": ("Does the process answer?", state, ()),
        "/readyz": ("Is there a model that can be asked?", state, (503,)),
        "/metrics": ("Prometheus metrics", {"text/plain": {}}, ()),
        "/openapi.json": ("This description", {"application/json": {}}, ()),
        "/docs": ("This description as a page", html, ()),
        "/": ("A page to try a model on an image", html, ()),
        "/static/{file}": ("Files of that page", {"text/css": {}, "text/javascript": {}}, (404,)),
    }
    return {
        path: {"get": _described(path, summary, answer, errors)}
        for path, (summary, answer, errors) in simple.items()
    }


def _described(
    path: str, summary: str, answer: dict | None, errors: tuple[int, ...] = (), body=None
) -> dict[str, Any]:
    """One operation; `answer` and `body` by media type."""
    error = {"application/json": {"schema": ref("Error")}}
    responses = {"200": {"description": "The answer.", "content": answer}} if answer else {}
    responses |= {
        str(status): {"description": _ERRORS[status], "content": error}
        for status in sorted({*errors, 401})
    }
    described = {
        "summary": summary,
        "parameters": [
            _parameter(name, *about, place="path")
            for name, about in _PARAMETERS.items()
            if f"{{{name}}}" in path
        ],
        "responses": responses,
    }
    return described | ({"requestBody": {"required": True, "content": body}} if body else {})


def _parameter(name: str, text: str, schema: dict, place: str = "query") -> dict[str, Any]:
    required = place == "path"
    return {
        "name": name,
        "in": place,
        "required": required,
        "description": text,
        "schema": schema,
    }
