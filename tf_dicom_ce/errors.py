"""The exceptions that mean: tell the user, not the developer."""


class UserError(Exception):
    """A mistake that the user can mend; the message names the value and the remedy."""


class StoppedError(Exception):
    """A run that was asked to stop, and has saved its state.

    Args:
        message: What to tell.
        signal: Number of the signal that asked.
    """

    def __init__(self, message: str, signal: int):
        super().__init__(message)
        self.signal = signal
