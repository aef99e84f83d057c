"""What operators see of requests: Prometheus metrics, and a line each in the log.

Neither holds what clients make up. Models and versions are those that are served, methods those of
HTTP; any other is "unknown".
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
        self._repository, self._registry = repository, CollectorRegistry()
        ProcessCollector(registry=self._registry)
        common = {"namespace": "tf_dicom_ce", "registry": self._registry}
        answered = "Requests that were answered."
        self._requests = Counter(
            "requests", answered, ("route", "model", "version", "code"), **common
        )
        took = "Time from a request to the end of its answer."
        self._seconds = Histogram(
            "request_seconds", took, ("route", "model"), buckets=_SECONDS, **common
        )
        held = "Instances in a predict request."
        self.instances = Histogram(
            "request_instances", held, ("model",), buckets=_INSTANCES, **common
        )
        for name, text, value in (
            ("running", "Threads that work on tensor requests.", lambda: threads.running),
            ("waiting", "Tensor requests that wait for a thread.", lambda: threads.waiting),
            ("connections", "Connections that are open.", lambda: len(connections)),
            ("crowded_out", "Connections closed for want of room.", lambda: connections.closed),
        ):
            Gauge(name, text, **common).set_function(value)

    def page(self, request: Request) -> Response:
        """Everything in Prometheus' text format."""
        text = generate_latest(self._registry)
        return Response(text, headers={"Content-Type": CONTENT_TYPE_LATEST})

    def observing(self, app: ASGIApp) -> ASGIApp:
        """Middleware that counts and logs every request with the status of its answer."""

        async def observed(scope: Scope, receive: Receive, send: Send) -> None:
            status, begin = 499, time.perf_counter()  # 499 stays where the client went away

            async def watched(message: Message) -> None:
                nonlocal status
                if message["type"] == "http.response.start":
                    status = message["status"]
                await send(message)

            await app(scope, receive, watched)
            seconds = time.perf_counter() - begin
            route = scope["route"].path_format if "route" in scope else _UNKNOWN
            model, version = self._servable(scope.get("path_params", {}))
            self._requests.labels(route, model, version, status).inc()
            self._seconds.labels(route, model).observe(seconds)
            method = scope["method"] if scope["method"] in _METHODS else _UNKNOWN
            words = (method, route, model, version, status, 1000 * seconds)
            _log.info("%s %s model=%s version=%s %d %.1f ms", *words)

        return observed

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
