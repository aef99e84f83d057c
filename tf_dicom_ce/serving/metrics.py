"""What operators see of requests: Prometheus metrics, and a line each in the log.

Neither holds anything that a client has made up: models and versions are those that are served,
methods those of the routes; any other is "unknown".
"""

import logging
import time

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from prometheus_client.process_collector import ProcessCollector
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.connections import Connections
from tf_dicom_ce.serving.limits import Threads
from tf_dicom_ce.serving.repository import Repository

_SECONDS = (0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30)
_INSTANCES = (1, 2, 4, 8, 16, 32)
_UNKNOWN = "unknown"
_METHODS = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS"}
_log = logging.getLogger(__name__)


class Metrics:
    """The metrics of one app: its requests, models, threads and connections.

    Attributes:
        instances: Histogram of the images, or other instances, in a predict request, by model.
    """

    def __init__(self, repository: Repository, threads: Threads, connections: Connections):
        self._repository = repository
        self._registry = CollectorRegistry()
        ProcessCollector(registry=self._registry)

        def made(kind: type, name: str, text: str, *labels: str, **more):
            return kind("tf_dicom_ce_" + name, text, labels, registry=self._registry, **more)

        answered = ("Requests that were answered.", "route", "model", "version", "code")
        self._requests = made(Counter, "requests", *answered)
        seconds = ("Time from a request to the end of its answer.", "route", "model")
        self._seconds = made(Histogram, "request_seconds", *seconds, buckets=_SECONDS)
        instances = ("Instances in a predict request.", "model")
        self.instances = made(Histogram, "request_instances", *instances, buckets=_INSTANCES)
        for name, text, value in (
            ("running", "Threads that work on tensor requests.", lambda: threads.running),
            ("waiting", "Tensor requests that wait for a thread.", lambda: threads.waiting),
            ("connections", "Connections that are open.", lambda: len(connections)),
            ("crowded_out", "Connections closed for want of room.", lambda: connections.closed),
        ):
            made(Gauge, name, text).set_function(value)

    def page(self, request: Request) -> Response:
        """Everything in Prometheus' text format."""
        text = generate_latest(self._registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def observing(self, app: ASGIApp) -> ASGIApp:
        """Middleware that counts and logs every request with the status of its answer."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            status, begin = 499, time.perf_counter()  # if nothing is sent, the client went away

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            await app(scope, receive, watched)
            if scope["type"] == "http":
                self._note(scope, status, time.perf_counter() - begin)

        return observed

    def _note(self, scope: Scope, status: int, seconds: float) -> None:
        route = scope["route"].path_format if "route" in scope else _UNKNOWN
        model, version = self._servable(scope.get("path_params", {}))
        self._requests.labels(route, model, version, status).inc()
        self._seconds.labels(route, model).observe(seconds)
        method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
        words = (method, route, model, version, status, 1000 * seconds)
        _log.info("%s %s model=%s version=%s %d %.1f ms", *words)

    def _servable(self, parameters: dict) -> tuple[str, str]:
        """Model and version of a route's parameters; the newest version where none was named."""
        if "name" not in parameters:
            return "", ""
        name = parameters["name"]
        try:
            versions = self._repository.status(name)["model_version_status"]
        except RequestError:
            return _UNKNOWN, _UNKNOWN
        available = [one["version"] for one in versions if one["state"] == "AVAILABLE"]
        if "version" in parameters:
            available = [one for one in available if int(one) == parameters["version"]]
        return name, next(iter(available), _UNKNOWN)
