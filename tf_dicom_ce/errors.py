"""The exceptions that mean: tell the user, not the developer."""


class UserError(Exception):
    """A mistake that the user can mend; the message names the value and the remedy."""


class StoppedError(Exception):
    """A run that a signal, of this number, asked to stop, and that has saved its state."""

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal
