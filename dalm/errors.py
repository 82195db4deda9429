"""Define the error for mistakes that the user can fix."""


class UserError(ValueError):
    """Report a mistake that the user can fix.

    The command line prints the message as one line and exits with code 2, without a traceback.
    The message names the offending value and the remedy.
    """


def one_line(error: BaseException) -> str:
    """Return an exception's message as one line, or its type's name when it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
