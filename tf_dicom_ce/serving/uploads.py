"""The file that a request brings."""

from starlette.datastructures import UploadFile
from starlette.formparsers import MultiPartException, MultiPartParser
from starlette.requests import Request

from tf_dicom_ce.serving.errors import RequestError

_BODIES = ("application/dicom", "image/png", "image/jpeg")


async def uploaded(request: Request) -> bytes:
    """Returns the file: the body itself, or that of multipart/form-data.

    Raises:
        RequestError: 400, a form without a file or with several; 415, another Content-Type.
    """
    media_type = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media_type in _BODIES:
        return await request.body()
    if media_type != "multipart/form-data":
        raise RequestError(
            415, f"Content-Type has to be {', '.join(_BODIES)} or multipart/form-data."
        )
    try:
        form = await _InMemory(request.headers, request.stream(), max_files=1).parse()
    except MultiPartException as error:
        raise RequestError(400, f"The form cannot be read. {error.message}") from None
    try:
        files = [part for part in form.values() if isinstance(part, UploadFile)]
        if not files:
            raise RequestError(400, "The form has no file.")
        return await files[0].read()
    finally:
        await form.close()


class _InMemory(MultiPartParser):
    spool_max_size = 0  # no end to it: the size of a body is limited already
