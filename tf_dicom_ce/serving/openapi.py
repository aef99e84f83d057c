"""The server's description of itself: OpenAPI 3.1, and the same as a page for people.

What does not depend on the routes, such as the schemas, stands in openapi.json.jinja.
"""

import json
from collections.abc import Iterator
from typing import Any

from starlette.requests import Request
from starlette.responses import HTMLResponse, Response
from starlette.routing import Route

from tf_dicom_ce import __version__
from tf_dicom_ce.serving.access import OPEN_PATHS
from tf_dicom_ce.serving.settings import Settings
from tf_dicom_ce.templates import fill

_CSP = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; frame-ancestors 'none'"
_IMAGES = ("application/dicom", "image/png", "image/jpeg")
_MODELS = "/v1/models/{name}"
_WHICH = {
    "": "the newest version",
    "/versions/{version}": "one version",
    "/labels/{label}": "a labelled version; there are no labels here, so that this answers 400",
}
_PARAMETERS = {  # those in the query are of images
    "name": ("path", "Name of the model.", {"type": "string", "pattern": "^[A-Za-z0-9_.-]+$"}),
    "version": ("path", "Number of the version.", {"type": "integer", "minimum": 0}),
    "label": ("path", "Label of the version.", {"type": "string"}),
    "file": ("path", "A file of the page.", {"type": "string"}),
    "frame": ("query", "Frame, from 0. Default: the middle one.", {"type": "integer"}),
    "report": ("query", "In DICOM, the SR of a segmentation, not its SEG.", {"type": "boolean"}),
    "picture": ("query", "Add to JSON what the model saw.", {"type": "boolean"}),
}
_OF_IMAGES = (
    "Accept chooses the answer: application/json; application/dicom, a DICOM SEG or SR for "
    "the PACS, of a DICOM file; image/png, the image with outlines, of a segmentation."
)
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
_PNG_FILE = {"b64": "iVBORw0KGgo..."}
_GRAY_LEVELS = {"image": [[[[0], [85]], [[170], [255]]]]}
_EXAMPLES = {
    "rows": {"summary": "One PNG or JPEG file, in rows", "value": {"instances": [_PNG_FILE]}},
    "named": {
        "summary": "The same, with the input's name",
        "value": {"instances": [{"image_bytes": _PNG_FILE}]},
    },
    "columns": {
        "summary": "An image of 2 × 2 gray levels, in columns",
        "value": {"signature_name": "serving_image", "inputs": _GRAY_LEVELS},
    },
}
_WORK = (400, 404, 408, 413, 503, 504)


def document(settings: Settings) -> dict[str, Any]:
    """Describes every route, the limits, and whether a token is asked for: OpenAPI 3.1."""
    limits = {"max_body": settings.max_body, "seconds": f"{settings.seconds:g}"}
    described = json.loads(fill("serving/openapi.json.jinja", limits | {"version": __version__}))
    paths = {path: {method: _described(path, *rest)} for path, method, *rest in _operations()}
    described["paths"] = paths
    if settings.tokens:
        described["components"]["securitySchemes"] = {"token": {"type": "http", "scheme": "bearer"}}
        described["security"] = [{"token": []}]
        for path in (*OPEN_PATHS, "/static/{file}"):
            paths[path]["get"]["security"] = []
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


def _operations() -> Iterator[tuple]:
    """Path, method, and what `_described` says of it."""
    yield "/v1/models", "get", "The models, with their tasks and classes", _json("Models")
    form = {"type": "object", "properties": {"file": {"type": "string", "format": "binary"}}}
    file = {kind: {} for kind in _IMAGES} | {"multipart/form-data": {"schema": form}}
    answers = _json("ImageAnswer") | {"application/dicom": {}, "image/png": {}}
    for middle in ("", "/versions/{version}"):
        path, summary = f"{_MODELS}{middle}/dicom", f"Read an image file with {_WHICH[middle]}"
        yield path, "post", summary, answers, (*_WORK, 406, 415, 422), file, _OF_IMAGES
    tensors = _json("PredictRequest")
    tensors["application/json"]["examples"] = _EXAMPLES
    for middle, which in _WHICH.items():
        path, summary = _MODELS + middle, f"Predict with {which}"
        yield path + ":predict", "post", summary, _json("PredictResponse"), _WORK, tensors
        for method in ("classify", "regress"):
            summary = f"TensorFlow Serving's {method}: no model here has its signature"
            yield f"{path}:{method}", "post", summary, None, (400, 404)
        summary = f"Status of {which if middle else 'all versions'}"
        yield path, "get", summary, _json("GetModelStatusResponse"), (400, 404)
        answer = _json("GetModelMetadataResponse")
        yield path + "/metadata", "get", f"Signatures of {which}", answer, (400, 404)
    yield "/healthz", "get", "Does the process answer?", _json("State")
    yield "/readyz", "get", "Is there a model that can be asked?", _json("State"), (503,)
    yield "/metrics", "get", "Prometheus metrics", {"text/plain": {}}
    yield "/openapi.json", "get", "This description", {"application/json": {}}
    yield "/docs", "get", "This description as a page", {"text/html": {}}
    yield "/", "get", "A page to try a model on an image", {"text/html": {}}
    files = {"text/css": {}, "text/javascript": {}}
    yield "/static/{file}", "get", "Files of that page", files, (404,)


def _described(
    path: str,
    summary: str,
    answer: dict | None,
    errors: tuple[int, ...] = (),
    body: dict | None = None,
    description: str | None = None,
) -> dict[str, Any]:
    """One operation; `answer` and `body` by media type. Only what takes images has a query."""
    responses = {"200": {"description": "The answer.", "content": answer}} if answer else {}
    responses |= {
        str(status): {"description": _ERRORS[status], "content": _json("Error")}
        for status in sorted({*errors, 401})
    }
    parameters = [
        {"name": k, "in": place, "required": place == "path", "description": text, "schema": schema}
        for k, (place, text, schema) in _PARAMETERS.items()
        if f"{{{k}}}" in path or (place == "query" and description)
    ]
    described = {"summary": summary, "parameters": parameters, "responses": responses}
    if description:
        described["description"] = description
    return described | ({"requestBody": {"required": True, "content": body}} if body else {})


def _json(name: str) -> dict[str, Any]:
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{name}"}}}
