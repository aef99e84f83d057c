"""TensorFlow Serving's REST API: predict, model status, metadata."""

from starlette.convertors import StringConvertor, register_url_convertor
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_dicom_ce.serving.limits import Threads
from tf_dicom_ce.serving.metrics import Metrics
from tf_dicom_ce.serving.protocol import format_predict, parse_predict
from tf_dicom_ce.serving.repository import Repository


class _Name(StringConvertor):
    regex = "[^/:]+"


register_url_convertor("servable_name", _Name())


def routes(repository: Repository, threads: Threads, metrics: Metrics) -> list[Route]:
    """Everything below /v1/models/{name}, for the newest version or a named one."""

    def answer(name: str, version: int | None, body: bytes) -> bytes:
        with repository.acquire(name, version) as servable:
            signature, inputs, is_row = parse_predict(body, servable.signatures)
            instances = max((len(array) for array in inputs.values() if array.ndim), default=1)
            metrics.instances.labels(name).observe(instances)
            outputs = servable.predict(signature.name, inputs)
            return format_predict(outputs, is_row, signature)

    async def predict(request: Request) -> Response:
        name, version = request.path_params["name"], request.path_params.get("version")
        content = await threads.run(answer, name, version, await request.body())
        return Response(content, media_type="application/json")

    async def status(request: Request) -> Response:
        return JSONResponse(repository.status(**request.path_params))

    async def metadata(request: Request) -> Response:
        with repository.acquire(**request.path_params) as servable:
            return JSONResponse(servable.metadata())

    model = "/v1/models/{name:servable_name}"
    return [
        route
        for path in (model, model + "/versions/{version:int}")
        for route in (
            Route(path + ":predict", predict, methods=["POST"]),
            Route(path + "/metadata", metadata),
            Route(path, status),
        )
    ]
