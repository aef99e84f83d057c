"""The exception that means: tell the client, with this HTTP status."""


class RequestError(Exception):
    """A request that cannot be answered; the client gets `{"error": message}`.

    Args:
        status: HTTP status, 4xx or a deliberate 503.
        message: What is wrong, as TensorFlow Serving words it where it has words for it.
    """

    def __init__(self, status: int, message: str):
        super().__init__(message)
        self.status, self.message = status, message
