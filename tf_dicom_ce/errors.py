"""The one exception that means: tell the user, not the developer."""


class UserError(Exception):
    """A mistake that the user can mend; the message names the value and the remedy."""
