"""The one error that a user can cause: what is wrong and what to do about it, in a line."""


class UserError(ValueError):
    """Report a mistake that the user can mend.

    The command line prints the message as one line and exits with code 2, without a traceback.
    The message names the offending value and the remedy.
    """


def one_line(error: BaseException) -> str:
    """Return an exception's message as one line, or its type's name when it has none."""
    return " ".join(str(error).split())[:300] or type(error).__name__
