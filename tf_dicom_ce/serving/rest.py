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

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.limits import Threads
from tf_dicom_ce.serving.metrics import Metrics
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.tensors import format_predict, parse_predict

_LARGEST_VERSION = (1 << 63) - 1


class _Name(StringConvertor):
    regex = "[^/:]+"


register_url_convertor("servable_name", _Name())


def routes(repository: Repository, threads: Threads, metrics: Metrics) -> list[Route]:
    """Everything below /v1/models/{name}, for the newest version, a named one, or a label."""

    def answer(name: str, version: int | None, body: bytes) -> bytes:
        with repository.acquire(name, version) as servable:
            signature, inputs, row = parse_predict(body, servable.signatures)
            instances = max((len(array) for array in inputs.values() if array.ndim), default=1)
            metrics.instances.labels(name).observe(instances)
            outputs = servable.predict(signature.name, inputs)
            return format_predict(outputs, row, signature)

    async def predict(request: Request) -> Response:
        asked = _asked(request)
        content = await threads.run(answer, *asked, await request.body())
        return Response(content, media_type="application/json")

    async def status(request: Request) -> Response:
        return JSONResponse(repository.status(*_asked(request)))

    async def metadata(request: Request) -> Response:
        with repository.acquire(*_asked(request)) as servable:
            return JSONResponse(servable.metadata())

    async def refuse(request: Request) -> Response:
        method = request.url.path.rpartition(":")[2]
        kind = {"classify": "classification", "regress": "regression"}[method]
        with repository.acquire(*_asked(request)):
            raise RequestError(
                400,
                f"Expected {kind} signature method_name to be tensorflow/serving/{method}. "
                "Was: tensorflow/serving/predict",
            )

    model = "/v1/models/{name:servable_name}"
    version = "/versions/{version:int}"
    return [
        route
        for path in (model, model + version, model + "/labels/{label:servable_name}")
        for route in (
            Route(path + ":predict", predict, methods=["POST"]),
            Route(path + ":classify", refuse, methods=["POST"]),
            Route(path + ":regress", refuse, methods=["POST"]),
            Route(path + "/metadata", metadata),
            Route(path, status),
        )
    ]


def _asked(request: Request) -> tuple[str, int | None]:
    """Name and version of a model; a version beyond 64 bits, or a label, is refused."""
    parameters = request.path_params
    if "label" in parameters:
        raise RequestError(400, f"Unrecognized servable version label: {parameters['label']}")
    version = parameters.get("version")
    if version is not None and version > _LARGEST_VERSION:
        raise RequestError(400, f"Failed to convert version: {version} to numeric.")
    return parameters["name"], version
