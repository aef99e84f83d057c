"""An image in, what a head finds in it out: as JSON, a DICOM SEG or SR, or a picture."""

import asyncio
import base64
import io
import tempfile
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image
from pydicom import dcmread
from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from tf_dicom_ce.audit_log import AuditLog
from tf_dicom_ce.dicom.refusals import Code, Refusal
from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.intake.decoding import refusal_of
from tf_dicom_ce.intake.secret import load_secret, pseudonym
from tf_dicom_ce.masks import colour, likeliest_classes
from tf_dicom_ce.results.codes import Coded
from tf_dicom_ce.results.files import dicom_bytes, kinds, overlay
from tf_dicom_ce.results.finding import Finding
from tf_dicom_ce.results.model import Model
from tf_dicom_ce.results.source import SourceImage, open_image
from tf_dicom_ce.serving.repository import Repository
from tf_dicom_ce.serving.servable import Servable
from tf_dicom_ce.workers import Failure, GuardedCalls, Outage

_JSON, _DICOM, _PNG = "application/json", "application/dicom", "image/png"
_BODIES = (_DICOM, _PNG, "image/jpeg")
_AT_ONCE = 4  # requests that are worked on; the others wait
_SECONDS = 10.0  # to read a file; one that takes longer is tried once more
_STATUS = {
    Code.NOT_DICOM: 415,
    Code.UNSUPPORTED_TRANSFER_SYNTAX: 415,
    Code.VIDEO: 415,
    Code.UNSUPPORTED_PHOTOMETRIC: 415,
    Code.FRAME_OUT_OF_RANGE: 400,
    Code.TIMED_OUT: 503,
}


def routes(
    repository: Repository,
    codes: Mapping[str, Coded] | None = None,
    log: AuditLog | None = None,
) -> list[Route]:
    """The list of models, and `POST /v1/models/{name}[/versions/{version}]/dicom`.

    The body is a DICOM, PNG or JPEG file, or multipart/form-data with one. `Accept` chooses the
    answer: application/json, `ImageAnswer` in openapi.json; application/dicom, a SEG of a
    segmentation, or an SR; image/png, outlines. In the query `frame` counts from 0, `report=true`
    asks for the SR of a segmentation, `picture=true` adds what the model saw to the JSON, and
    `unfamiliar=true` asks about an image that is not like those in training. What is refused is a
    RequestError: 400, 404, 406, 409, 413, 415, 422 or 503, with the remedy.

    Other processes read the files: one that dies or hangs costs its own request. Each answer is
    recorded in `log`; one that cannot be recorded is not given.

    Args:
        repository: The models.
        codes: What class names mean, as `results.codes.read_codes` gives it.
        log: None records nothing.
    """
    guarded, threads = GuardedCalls(_SECONDS), ThreadPoolExecutor(_AT_ONCE, "dicom")

    async def respond(request: Request) -> Response:
        frame, file = _frame(request), await _uploaded(request)
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(threads, answer, request, frame, file)

    def answer(request: Request, frame: int | None, file: bytes) -> Response:
        asked = {name for name, value in request.query_params.items() if value == "true"}
        servable = repository.get(**request.path_params)
        model = _model(servable, codes)
        source = _read(guarded, file, frame, model)
        accepted = _accepted(",".join(request.headers.getlist("accept")), source, model)
        levels = source.pixels[np.newaxis, ..., np.newaxis].astype(np.float32)
        outputs = servable.predict("serving_image", {"image": levels})
        said = {name: values[0] for name, values in outputs.items()}
        if "unfamiliar" not in asked and not model.knows(familiarity := said.get("familiarity")):
            raise RequestError(
                409,
                "This image is not like those that the model was trained on: its familiarity is "
                f"{familiarity:.2f}, and below {model.threshold} an answer is not to be relied on. "
                "Ask a model for such images. By HTTP, unfamiliar=true gives one all the same.",
            )
        if model.task == "segmentation":
            said["mask"] = likeliest_classes(said["probabilities"], source.pixels.shape)
        content = b""
        if accepted == _PNG:
            picture = overlay(source.pixels, said["mask"], model.classes)
            response = _attached(picture, accepted, model, "outlines.png")
        elif accepted == _DICOM:
            kind = "sr" if "report" in asked else kinds(model)[0]
            content = _dicom(guarded, kind, source, Finding.of(source, said, model), model)
            response = _attached(content, accepted, model, f"{kind}.dcm")
        else:
            found = _in_json(source, model, Finding.of(source, said, model))
            found |= {"picture": _png(source.pixels)} if "picture" in asked else {}
            response = JSONResponse(found, headers={"Cache-Control": "no-store"})
        if log:
            _record(log, request, source, model, content)
        return response

    def models(request: Request) -> JSONResponse:
        found = []
        for name, servable in repository.newest().items():
            says = {"task": None, "weights_digest": None, "classes": []} | servable.content
            said = {key: says[key] for key in ("weights_digest", "task", "classes")}
            found.append({"name": name, "version": str(servable.version), **said})
        return JSONResponse({"models": found})

    return [
        Route("/v1/models", models),
        Route("/v1/models/{name}/dicom", respond, methods=["POST"]),
        Route("/v1/models/{name}/versions/{version:int}/dicom", respond, methods=["POST"]),
    ]


def _record(
    log: AuditLog, request: Request, source: SourceImage, model: Model, result: bytes
) -> None:
    uid = (source.header or {}).get("StudyInstanceUID", "")
    study = pseudonym(load_secret(), "StudyInstanceUID", uid) if uid else ""
    made = [dcmread(io.BytesIO(result), stop_before_pixels=True)] if result else []
    address = request.client.host if request.client else ""
    try:
        log.add(request.state.client or address, study, model, [one.SOPInstanceUID for one in made])
    except OSError as error:
        raise RequestError(
            503, f"The answer cannot be recorded ({error.strerror}), so there is none."
        ) from None


def _frame(request: Request) -> int | None:
    """The frame that is asked about; None is the middle one."""
    frame = request.query_params.get("frame")
    if frame is not None and not (frame.isascii() and frame.isdecimal() and len(frame) < 10):
        raise RequestError(400, f"frame={frame[:20]!r} is not a number. Frames count from 0.")
    return None if frame is None else int(frame)


def _model(servable: Servable, codes: Mapping[str, Coded] | None) -> Model:
    try:
        return Model.of(servable.name, str(servable.version), servable.content, codes)
    except KeyError:
        raise RequestError(
            400,
            f"Model {servable.name} answers with features. Ask a head, trained by finetune.py, or "
            "send tensors to :predict.",
        ) from None


def _read(guarded: GuardedCalls, file: bytes, frame: int | None, model: Model) -> SourceImage:
    looks = frozenset(model.sop_classes), model.find_sector, model.blank_outside
    with tempfile.NamedTemporaryFile() as copy:  # a worker that is killed would leave its own
        copy.write(file)
        copy.flush()
        found = guarded.call(open_image, copy.name, *looks, frame)
    if isinstance(found, SourceImage):
        return found
    if isinstance(found, Failure):
        found = Refusal(Code.DAMAGED_HEADER, found.name)
    elif isinstance(found, Outage):
        found = refusal_of(found)
    detail = f" ({found.detail})" if found.detail else ""
    raise RequestError(
        _STATUS.get(found.code, 422),
        f"The file cannot be read: {found.code}{detail}. {found.code.remedy}",
    )


def _accepted(accept: str, source: SourceImage, model: Model) -> str:
    offered = [_JSON]
    if source.header is not None:
        offered.append(_DICOM)
    if model.task == "segmentation":
        offered.append(_PNG)
    chosen = negotiate(accept, offered)
    if chosen is None:
        raise RequestError(
            406,
            f"For this file and model there is {' and '.join(offered)}. A DICOM result needs a "
            "DICOM file, a picture with outlines needs a segmentation.",
        )
    return chosen


def negotiate(accept: str, offered: list[str]) -> str | None:
    """Chooses of media types, the preferred one first, by the Accept header (RFC 9110, 12.5.1).

    An empty header means anything. Returns None if the client wants none of them.
    """
    ranges = {}
    for part in (accept or "*/*").lower().split(","):
        media, *parameters = (piece.strip() for piece in part.split(";"))
        weight = next((p[2:] for p in parameters if p.startswith("q=")), "1")
        ranges[media] = float(weight) if weight.replace(".", "", 1).isdecimal() else 0.0

    def quality(offer: str) -> float:
        exact_first = (offer, offer.partition("/")[0] + "/*", "*/*")
        return next((ranges[media] for media in exact_first if media in ranges), 0.0)

    best = max(offered, key=quality)
    return best if quality(best) > 0 else None


def _dicom(
    guarded: GuardedCalls, kind: str, source: SourceImage, finding: Finding, model: Model
) -> bytes:
    written = guarded.call(dicom_bytes, kind, source, finding, model)
    if isinstance(written, bytes):
        return written
    if written is Outage.TIMED_OUT:
        raise RequestError(503, "The DICOM result took too long. Try again in a second.")
    reason = written.name if isinstance(written, Failure) else written.value
    raise RequestError(
        422,
        f"No DICOM result can be made for this file: its header is incomplete or damaged "
        f"({reason}). Ask for {_JSON}, or export the file again.",
    )


def _in_json(source: SourceImage, model: Model, finding: Finding) -> dict:
    """Who answered, about what, and what was found."""
    is_mask = model.task == "segmentation"
    classes = []
    for k, (name, value) in enumerate(zip(model.classes, finding.values, strict=True)):
        classes.append({"class_id": k, "name": name, "share" if is_mask else "probability": value})
        if is_mask:
            classes[k]["colour"] = "#" + bytes(colour(k)).hex() if k else None
            if k and (measured := finding.measured[k - 1]):
                classes[k] |= measured._asdict()
    names = ("name", "version", "weights_digest", "task", "synthetic", "threshold")
    found = {
        "model": {name: getattr(model, name) for name in names},
        "notice": "Research use only. Not a medical device.",
        "image": {
            "format": "picture" if source.header is None else "dicom",
            "rows": source.shape[0],
            "columns": source.shape[1],
            "frame": source.frame,
            "frames": source.frames,
            "region": source.region._asdict(),
        },
        "classes": classes,
    }
    if finding.familiarity is not None:
        found["familiarity"] = finding.familiarity
    if is_mask:
        return found | {"mask": _png(finding.mask(source))}
    return found | {"class": model.classes[finding.class_id]}


def _png(pixels: np.ndarray) -> dict[str, str]:
    file = io.BytesIO()
    Image.fromarray(pixels).save(file, "PNG", compress_level=1)
    return {"b64": base64.b64encode(file.getvalue()).decode()}


def _attached(content: bytes, media_type: str, model: Model, end: str) -> Response:
    name = f"{model.name}-{model.version}-{end}"
    headers = {
        "Content-Disposition": f'attachment; filename="{name}"',
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
    }
    return Response(content, media_type=media_type, headers=headers)


async def _uploaded(request: Request) -> bytes:
    """The file that a request brings: the body itself, or that of multipart/form-data."""
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _BODIES:
        return await request.body()
    if media_type != "multipart/form-data":
        known = ", ".join(_BODIES)
        raise RequestError(415, f"Content-Type has to be {known} or multipart/form-data.")
    async with request.form(max_files=1) as form:
        for part in form.values():
            if isinstance(part, UploadFile):
                return await part.read()
    raise RequestError(400, "The form has no file.")
