"""The web application: routes behind limits, among them those of TensorFlow Serving's REST API."""

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor

from starlette.applications import Starlette
from starlette.convertors import StringConvertor, register_url_convertor
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_dicom_ce.audit_log import AuditLog
from tf_dicom_ce.serving import dicom_http, metrics, pages
from tf_dicom_ce.serving.connections import Connections
from tf_dicom_ce.serving.limits import Limits
from tf_dicom_ce.serving.protocol import format_predict, parse_predict
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.settings import Settings


class _Name(StringConvertor):
    regex = "[^/:]+"


register_url_convertor("model_name", _Name())


def create_app(repository: Repository, settings: Settings) -> Starlette:
    """Makes the application, ASGI; the caller starts and closes the repository.

    While `app.state.draining` is true, /readyz answers 503. Its connections have to be counted in
    `app.state.connections`.

    Raises:
        UserError: The audit log cannot be written.
    """
    connections = Connections(settings.seconds)
    metrics.connections.set_function(lambda: len(connections))
    metrics.crowded_out.set_function(lambda: connections.closed)
    log = AuditLog(settings.audit_log) if settings.audit_log else None

    async def healthz(request: Request) -> JSONResponse:
        return JSONResponse({"status": "ok"})

    async def readyz(request: Request) -> JSONResponse:
        if app.state.draining:
            return JSONResponse({"error": "The server is going to stop."}, 503)
        if not repository.ready:
            return JSONResponse({"error": "No model is loaded yet."}, 503)
        return JSONResponse({"status": "ready"})

    app = Starlette(
        routes=[
            Route("/healthz", healthz),
            Route("/readyz", readyz),
            Route("/metrics", metrics.page),
            *pages.routes(settings),
            *dicom_http.routes(repository, settings.codes, log),
            *_models(repository, settings),
        ],
        middleware=[
            Middleware(metrics.observing, repository),
            Middleware(Limits, settings),
        ],
        exception_handlers={HTTPException: _refused},
    )
    app.router.redirect_slashes = False
    app.state.draining, app.state.connections = False, connections
    return app


def _models(repository: Repository, settings: Settings) -> list[Route]:
    """Predict, status and metadata of the newest version of a model, or a named one."""
    # A request that is given up leaves the queue; one that is worked on keeps its thread.
    threads = ThreadPoolExecutor(settings.threads, "predict")

    @metrics.running.track_inprogress()
    def answer(body: bytes, name: str, version: int | None = None) -> bytes:
        servable = repository.get(name, version)
        signature, inputs, is_row = parse_predict(body, servable.signatures)
        most = max((len(array) for array in inputs.values() if array.ndim), default=1)
        metrics.instances.labels(name).observe(most)
        return format_predict(servable.predict(signature.name, inputs), is_row, signature)

    async def predict(request: Request) -> Response:
        work = functools.partial(answer, await request.body(), **request.path_params)
        content = await asyncio.get_running_loop().run_in_executor(threads, work)
        return Response(content, media_type="application/json")

    async def status(request: Request) -> Response:
        return JSONResponse(repository.status(**request.path_params))

    async def metadata(request: Request) -> Response:
        return JSONResponse(repository.get(**request.path_params).metadata())

    model = "/v1/models/{name:model_name}"
    return [
        route
        for path in (model, model + "/versions/{version:int}")
        for route in (
            Route(path + ":predict", predict, methods=["POST"]),
            Route(path + "/metadata", metadata),
            Route(path, status),
        )
    ]


async def _refused(request: Request, error: HTTPException) -> JSONResponse:
    """What Starlette refuses: a form that cannot be read, a path or method that nothing answers.

    For the latter TensorFlow Serving has 400, we 404 and 405.
    """
    message = f"Nothing here answers {request.method} {request.scope['path']}"
    if error.status_code == 400:
        message = f"The form cannot be read. {error.detail}"
    return JSONResponse({"error": message}, error.status_code, headers=error.headers)
