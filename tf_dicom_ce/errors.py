"""The exceptions whose messages are for the user or the client, not for the developer."""


class UserError(Exception):
    """A mistake that the user can correct; the message names the value and the remedy."""


class StoppedError(Exception):
    """A run was stopped by a signal and has saved its state; holds the number of the signal."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal


class RequestError(Exception):
    """A request that cannot be answered: an HTTP status, 4xx or a deliberate 503, and a message.

    The client gets `{"error": message}`, with TensorFlow Serving's message if it has one.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message


#: Library -> the extra of setup.cfg that installs it.
EXTRAS = {
    **dict.fromkeys(("requests", "urllib3", "pynetdicom"), "pacs"),
    **dict.fromkeys(("starlette", "uvicorn", "prometheus_client", "orjson", "highdicom"), "serve"),
    **{"python_multipart": "serve", "matplotlib": "study", "distributed": "dask"},
}


def missing(library: str, extra: str) -> UserError:
    """The error for an extra that is not installed."""
    return UserError(
        f"this needs {library}, which is not installed. In a checkout: pip install '.[{extra}]'; "
        f"elsewhere: pip install 'tf-dicom-ce[{extra}]'."
    )
