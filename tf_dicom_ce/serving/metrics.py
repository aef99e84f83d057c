"""What operators see of requests: Prometheus metrics, and a line each in the log.

Neither holds what clients make up. Models and versions are those that are served, methods those of
HTTP; any other is "unknown".
"""

import logging
import time

from prometheus_client import Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.repository import Repository

_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_UNKNOWN = "unknown"
_log = logging.getLogger(__name__)

_requests = Counter(
    "tf_dicom_ce_requests", "Requests that were answered.", ("route", "model", "version", "code")
)
_seconds = Histogram(
    "tf_dicom_ce_request_seconds",
    "Time from a request to the end of its answer.",
    ("route", "model"),
    buckets=(0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30),
)
_in_progress = Gauge("tf_dicom_ce_in_progress", "Requests that have come and are not answered.")
running = Gauge("tf_dicom_ce_running", "Threads that work on predict requests.")
instances = Histogram(
    "tf_dicom_ce_request_instances",
    "Instances in a predict request.",
    ("model",),
    buckets=(1, 2, 4, 8, 16, 32),
)
connections = Gauge("tf_dicom_ce_connections", "Connections that are open.")
crowded_out = Gauge("tf_dicom_ce_crowded_out", "Connections closed for want of room.")


def page(request: Request) -> Response:
    """Everything in Prometheus' text format."""
    return Response(generate_latest(), headers={"Content-Type": CONTENT_TYPE_LATEST})


def observing(app: ASGIApp, repository: Repository) -> ASGIApp:
    """Middleware that counts and logs every request with the status of its answer."""

    async def observed(scope: Scope, receive: Receive, send: Send) -> None:
        status, begin = 499, time.perf_counter()  # 499 stays where the client went away

        async def watched(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
            await send(message)

        with _in_progress.track_inprogress():
            await app(scope, receive, watched)
        seconds = time.perf_counter() - begin
        route = scope["route"].path_format if "route" in scope else _UNKNOWN
        model, version = _servable(repository, scope.get("path_params", {}))
        _requests.labels(route, model, version, status).inc()
        _seconds.labels(route, model).observe(seconds)
        method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
        words = (method, route, model, version, status, 1000 * seconds)
        _log.info("%s %s model=%s version=%s %d %.1f ms", *words)

    return observed


def _servable(repository: Repository, parameters: dict) -> tuple[str, str]:
    """Model and version of a route's parameters; the newest version where none was named."""
    if "name" not in parameters:
        return "", ""
    try:
        servable = repository.get(**parameters)
    except RequestError:
        return _UNKNOWN, _UNKNOWN
    return servable.name, str(servable.version)
