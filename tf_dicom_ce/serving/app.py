"""The web application: routes behind limits, and the page on which a person tries a model."""

from pathlib import Path

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse
from starlette.routing import Route

from tf_dicom_ce.audit_log import AuditLog
from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving import dicom_http, openapi, rest
from tf_dicom_ce.serving.connections import Connections
from tf_dicom_ce.serving.limits import Limits, Threads
from tf_dicom_ce.serving.metrics import Metrics
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.settings import Settings

_PAGE = Path(__file__).with_name("static")
_TYPES = dict.fromkeys(("app.js", "drawing.js", "server.js"), "text/javascript")
_TYPES |= {"style.css": "text/css"}
_HEADERS = {
    "Content-Security-Policy": (
        "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
        "img-src data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
    ),
    "X-Content-Type-Options": "nosniff",
    "Referrer-Policy": "no-referrer",
    "Cache-Control": "no-cache",
}


def create_app(repository: Repository, settings: Settings) -> Starlette:
    """Makes the application, ASGI; the caller starts and closes the repository.

    While `app.state.draining` is true, /readyz answers 503. `app.state.connections` has the
    protocol with which it has to be served. A UserError tells that the audit log cannot be written.
    """
    threads, connections = Threads(settings.threads), Connections(settings.seconds)
    metrics = Metrics(repository, threads, connections)
    log = AuditLog(settings.audit_log) if settings.audit_log else None
    app = Starlette(
        routes=[
            *_health(repository),
            Route("/metrics", metrics.page),
            *openapi.routes(settings),
            *page(),
            *dicom_http.routes(repository, settings.codes, log),
            *rest.routes(repository, threads, metrics),
        ],
        middleware=[Middleware(metrics.observing), Middleware(Limits, settings=settings)],
        exception_handlers={HTTPException: _not_routed},
    )
    app.router.redirect_slashes = False
    app.state.draining, app.state.connections = False, connections
    return app


def _health(repository: Repository) -> list[Route]:
    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> JSONResponse:
        if request.app.state.draining:
            return JSONResponse({"error": "The server is going to stop."}, 503)
        if not repository.ready:
            return JSONResponse({"error": "No model is loaded yet."}, 503)
        return JSONResponse({"status": "ready"})

    return [Route("/healthz", healthz), Route("/readyz", readyz)]


async def _not_routed(request: Request, error: HTTPException) -> JSONResponse:
    """Answers 404 and 405; TensorFlow Serving has 400 for both."""
    message = f"Nothing here answers {request.method} {request.scope['path']}"
    return JSONResponse({"error": message}, error.status_code, headers=error.headers)


def page() -> list[Route]:
    """`/` and the files it needs, under `/static/`; none of them is a secret."""

    async def index(request: Request) -> FileResponse:
        return FileResponse(_PAGE / "index.html", headers=_HEADERS, media_type="text/html")

    async def static(request: Request) -> FileResponse:
        file = request.path_params["file"]
        if file not in _TYPES:
            raise RequestError(404, f"No file {file} here.")
        return FileResponse(_PAGE / file, headers=_HEADERS, media_type=_TYPES[file])

    return [Route("/", index), Route("/static/{file}", static)]
