"""TensorFlow Serving's REST API: predict, model status, metadata.

Source: tensorflow_serving/g3doc/api_rest.md; the words of errors are those of
tensorflow_serving/model_servers. Labels for versions are known there by a configuration file; here
there is none, so that every label is unrecognised. No model here has the signatures of `classify`
and `regress`.
"""

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_dicom_ce.serving.errors import RequestError
from tf_dicom_ce.serving.limits import Workers
from tf_dicom_ce.serving.metrics import Metrics
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.tensors import format_predict, parse_predict

_LARGEST_VERSION = (1 << 63) - 1


class _Name(StringConvertor):
    regex = "[^/:]+"


class _Version(StringConvertor):
    regex = "[0-9]+"


register_url_convertor("servable_name", _Name())
register_url_convertor("servable_version", _Version())


class Rest:
    """The endpoints.

    Args:
        repository: What is served.
        workers: Threads for what takes time.
        metrics: Where the sizes of requests are noted.
    """

    def __init__(self, repository: Repository, workers: Workers, metrics: Metrics):
        self._repository, self._workers, self._metrics = repository, workers, metrics

    def routes(self) -> list[Route]:
        """Everything below /v1/models/{name}, for the newest version, a named one, or a label."""
        model = "/v1/models/{name:servable_name}"
        version = model + "/versions/{version:servable_version}"
        label = model + "/labels/{label:servable_name}"
        routes = []
        for path in (model, version, label):
            routes += [
                Route(path + ":predict", self._predict, methods=["POST"]),
                Route(path + ":classify", self._refuse, methods=["POST"]),
                Route(path + ":regress", self._refuse, methods=["POST"]),
                Route(path + "/metadata", self._get_metadata),
                Route(path, self._get_status),
            ]
        return routes

    async def _predict(self, request: Request) -> Response:
        name, version = _asked(request)
        body = await request.body()
        content = await self._workers.run(self._answer, name, version, body)
        return Response(content, media_type="application/json")

    def _answer(self, name: str, version: int | None, body: bytes) -> bytes:
        with self._repository.acquire(name, version) as servable:
            signature, inputs, row = parse_predict(body, servable.signatures)
            instances = max((len(array) for array in inputs.values() if array.ndim), default=1)
            self._metrics.instances.labels(name).observe(instances)
            outputs = servable.predict(signature.name, inputs)
            return format_predict(outputs, row, signature)

    async def _get_status(self, request: Request) -> Response:
        return JSONResponse(self._repository.status(*_asked(request)))

    async def _get_metadata(self, request: Request) -> Response:
        with self._repository.acquire(*_asked(request)) as servable:
            return JSONResponse(servable.metadata())

    async def _refuse(self, request: Request) -> Response:
        method = request.url.path.rpartition(":")[2]
        kind = {"classify": "classification", "regress": "regression"}[method]
        with self._repository.acquire(*_asked(request)):
            raise RequestError(
                400,
                f"Expected {kind} signature method_name to be tensorflow/serving/{method}. "
                "Was: tensorflow/serving/predict",
            )


def _asked(request: Request) -> tuple[str, int | None]:
    """Name and version of a model.

    Raises:
        RequestError: A version beyond 64 bits, or a label (400).
    """
    parameters = request.path_params
    if "label" in parameters:
        raise RequestError(400, f"Unrecognized servable version label: {parameters['label']}")
    version = int(parameters["version"]) if "version" in parameters else None
    if version is not None and version > _LARGEST_VERSION:
        raise RequestError(400, f"Failed to convert version: {version} to numeric.")
    return parameters["name"], version
