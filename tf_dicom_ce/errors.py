"""The exceptions that mean: tell the user or the client, not the developer."""


class UserError(Exception):
    """A mistake that the user can mend; the message names the value and the remedy."""


class StoppedError(Exception):
    """A run that a signal, of this number, asked to stop, and that has saved its state."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class RequestError(Exception):
    """A request that cannot be answered: an HTTP status, 4xx or a deliberate 503, and words.

    The client gets `{"error": message}`, in TensorFlow Serving's words where it has any.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


#: Library -> the extra of setup.cfg that brings it.
EXTRAS = {
    **dict.fromkeys(("requests", "urllib3", "pynetdicom"), "pacs"),
    **dict.fromkeys(("starlette", "uvicorn", "prometheus_client", "orjson", "highdicom"), "serve"),
    **{"python_multipart": "serve", "matplotlib": "study", "distributed": "dask"},
}


def missing(library: str, extra: str) -> UserError:
    """What to say where an extra was not installed."""
    return UserError(
        f"this needs {library}, which is not installed. In a checkout: pip install '.[{extra}]'; "
        f"elsewhere: pip install 'tf-dicom-ce[{extra}]'."
    )
