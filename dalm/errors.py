"""Define the error for mistakes that the user can fix."""

from collections.abc import Callable


class UserError(ValueError):
    """Report a mistake that the user can fix.

    The command line prints the message as one line and exits with code 2, without a traceback.
    The message names the offending value and the remedy.
    """


def check_all(*checks: Callable[[], object]) -> None:
    """Run every check, and refuse what they find in one go.

    Raises:
        UserError: with the messages of all that raised one.
    """
    found = []
    for check in checks:
        try:
            check()
        except UserError as error:
            found.append(str(error))
    if found:
        raise UserError("; ".join(found))


def reason_of(error: BaseException) -> str:
    """Return what an error says, as a part of a line.

    Of a library's paragraphs that is the first line, and the rest where that ends with a colon.
    """
    if isinstance(error, RecursionError):
        return "nested too deeply"
    said = getattr(error, "strerror", None) or getattr(error, "problem", None) or error
    lines = [" ".join(line.split()) for line in str(said).splitlines() if line.strip()]
    lines = lines or [type(error).__name__]
    return " ".join(lines if lines[0].endswith(":") else lines[:1])[:300].rstrip(" .,;!")
