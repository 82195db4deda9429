"""Show texts on the terminal: control characters of files and servers escaped, secrets masked."""

import io
import json
import logging
import os
import re
import sys
import traceback
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import TracebackType
from typing import TYPE_CHECKING

from dalm.errors import UserError, reason_of
from dalm.redaction import redacted

if TYPE_CHECKING:
    from rich.console import Console
    from rich.text import Text

COLUMNS = (20, 1_000)
"""Narrowest and widest terminal that help and tables are fitted to; others count as 80 columns."""
LONGEST_WORD = 300
# C0 and C1 controls, separators of lines, controls of the writing direction, annotations, tags, and
# surrogates, which stand for bytes of arguments and file names that aren't UTF-8.
_CONTROLS = re.compile(
    "[\x00-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069\ufff9-\ufffb"
    "\U000e0000-\U000e007f\ud800-\udfff]"
)
_SHORT = {"\n": r"\n", "\t": r"\t", "\r": r"\r"}


def visible(text: str, keep: str = "") -> str:
    r"""Return a text with its control characters escaped, as in `\x1b`, but for those in `keep`.

    Raw ones move a terminal's cursor, change its title or turn its writing direction, and tabs and
    line ends break a table's rows.
    """

    def escape(match: re.Match[str]) -> str:
        character = match[0]
        code = ord(character)
        if character in keep:
            return character
        if 0xDC80 <= code <= 0xDCFF:  # the byte that Python's surrogate stands for
            code -= 0xDC00
        form = r"\x{:02x}" if code < 0x100 else r"\u{:04x}" if code < 0x10000 else r"\U{:08x}"
        return _SHORT.get(character) or form.format(code)

    return _CONTROLS.sub(escape, text)


def duration(seconds: float) -> str:
    """Return a time in words."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 5400 else f"{seconds / 3600:.1f} h"


def show(text: str = "") -> None:
    """Print a text of any origin; its lines stay lines."""
    print(visible(text, keep="\n\t"))


def show_piece(text: str) -> None:
    """Print a piece of a text at once, without a line end."""
    sys.stdout.write(visible(text, keep="\n\t"))
    sys.stdout.flush()


def show_json(content: object) -> None:
    """Print JSON in ASCII: control characters in its texts are escaped as JSON does."""
    print(json.dumps(content, indent=2))


def show_error(message: str) -> None:
    """Print an error as one line on stderr."""
    show_beside(f"dalm: {redacted(' '.join(map(_shortened, message.split())))}")


def show_beside(line: str) -> None:
    """Print a line on stderr, beside the results on stdout."""
    with suppress(OSError, ValueError):  # stderr is closed, or its disk is full
        print(visible(line), file=sys.stderr, flush=True)


def _shortened(word: str) -> str:
    """Cut the middle of a word that would fill the screen: a value that was read from a file."""
    return word if len(word) <= LONGEST_WORD else f"{word[:200]}…{word[-50:]}"


def console() -> "Console":
    """Return a console for tables; brackets in a text are no markup."""
    from rich.console import Console

    return Console(markup=False, emoji=False, highlight=False)


def cell(text: str, style: str = "") -> "Text":
    """Return a table's cell from a text of any origin."""
    from rich.text import Text

    return Text(visible(text), style=style)


class LogFormatter(logging.Formatter):
    """Format a message of this package as one line, and others with their lines."""

    def formatMessage(self, record: logging.LogRecord) -> str:  # noqa: N802
        """Return the message; a line end within it is escaped, for it comes from a name."""
        message = super().formatMessage(record)
        own = record.name.partition(".")[0] == "dalm"
        return visible(message, keep="\t") if own else message

    def format(self, record: logging.LogRecord) -> str:
        """Return the message and its traceback, if there is one."""
        return visible(redacted(super().format(record)), keep="\n\t")


def show_traceback(
    kind: type[BaseException], error: BaseException, trace: TracebackType | None
) -> None:
    """Print the traceback of an unforeseen error, a bug: the hook for `sys.excepthook`."""
    text = "".join(traceback.format_exception(kind, error, trace))
    with suppress(OSError, ValueError):
        print(visible(redacted(text), keep="\n\t"), end="", file=sys.stderr, flush=True)


def prepare_terminal() -> None:
    """Make any terminal, or none, fit for printing.

    A width of 0 or 1 makes help loop for ever, and one of a billion fills the memory. A stream that
    is closed would hand its number to the next file that is opened: what a library prints would be
    written into that file. Lines of stdout are written at once, so that in a file that takes both
    they stand in order with those of the log.
    """
    _open_missing_streams()
    if sys.stdout is sys.__stdout__ and isinstance(sys.stdout, io.TextIOWrapper):
        encoding = sys.stdout.encoding
        sys.stdout = _Output(sys.stdout.detach(), encoding, line_buffering=True)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):  # a letter that its encoding lacks is escaped
            stream.reconfigure(errors="backslashreplace")
    for name in ("COLUMNS", "LINES"):
        if name in os.environ and not _is_size(os.environ[name], name):
            del os.environ[name]
    if "COLUMNS" not in os.environ and not COLUMNS[0] <= _reported_width() <= COLUMNS[1]:
        os.environ["COLUMNS"] = "80"


def _is_size(value: str, name: str) -> bool:
    low, high = COLUMNS if name == "COLUMNS" else (1, COLUMNS[1])
    return value.isascii() and value.isdecimal() and len(value) < 6 and low <= int(value) <= high


def _reported_width() -> int:
    """Return the columns that the terminal reports; 80 where there is none."""
    for stream in (sys.__stdin__, sys.__stdout__, sys.__stderr__):
        with suppress(AttributeError, ValueError, OSError):
            return os.get_terminal_size(stream.fileno()).columns  # type: ignore[union-attr]
    return 80


def _open_missing_streams() -> None:
    """Open the null device in the place of each standard stream that is closed."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        try:
            os.fstat(number)
        except OSError:
            handle = os.open(os.devnull, os.O_RDWR)
            if handle != number:
                os.dup2(handle, number)
                os.close(handle)
        if getattr(sys, name) is None:
            mode = "r" if name == "stdin" else "w"
            setattr(sys, name, open(number, mode, encoding="utf-8", closefd=False))  # noqa: SIM115


class OutputError(UserError):
    """Report that stdout can't be written."""


class _Output(io.TextIOWrapper):
    """Write to stdout; a full disk is the user's error, wherever the program prints."""

    def write(self, text: str) -> int:
        with _explained():
            return super().write(text)

    def flush(self) -> None:
        with _explained():
            super().flush()


@contextmanager
def _explained() -> Iterator[None]:
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        drop_output()
        raise OutputError(f"the output can't be written: {reason_of(error)}") from error


def drop_output() -> None:
    """Drop what is printed from now on: Python would try to write it again when it ends."""
    with suppress(OSError, ValueError):
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
