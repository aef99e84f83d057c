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
