"""Lines, columns and cells of tables of texts: what their formats share."""

import math
from collections.abc import Iterator, Sequence
from itertools import count
from pathlib import Path

from dalm.ingest.document import Document
from dalm.ingest.loaders.loader import LoaderOptions, UnreadableError, check_text, too_large
from dalm.ingest.loaders.text import BYTE_ORDER_MARKS

TEXT_COLUMNS = (
    *("passage", "text", "body", "content", "contents", "abstract", "context", "document"),
)
"""What a column of texts is often called, in the order in which they are looked for."""


def lines_of(path: Path, limit: int) -> Iterator[bytes]:
    """Yield a file's lines with their ends; a byte order mark is dropped.

    Raises:
        UnreadableError: a line of more than `limit` bytes, or an encoding that has no such lines.
    """
    with path.open("rb") as file:
        start = file.read(4)
        name = next(
            (name for mark, name in BYTE_ORDER_MARKS if start.startswith(mark)), "utf-8-sig"
        )
        if name != "utf-8-sig":
            raise UnreadableError(f"{name.upper()}; save the table as UTF-8")
        file.seek(3 if start.startswith(BYTE_ORDER_MARKS[0][0]) else 0)
        for number in count(1):
            line = file.readline(limit + 1)
            if not line:
                return
            if len(line) > limit:
                raise too_large(limit, f"line {number}")
            yield line


def decode_line(line: bytes, number: int, encoding: str) -> str:
    """Return a line's text.

    Raises:
        UnreadableError: names the line and the byte that is of another encoding.
    """
    try:
        text = line.decode(encoding)
    except UnicodeDecodeError as error:
        raise UnreadableError(
            f"line {number}, byte {error.start + 1} ({line[error.start]:#04x}): "
            f"not {encoding.upper()}; save it as UTF-8, or name its --encoding"
        ) from None
    if "\0" in text:
        raise UnreadableError(
            f"line {number}: a NUL byte, so this is UTF-16 or no text at all; save it as UTF-8"
        )
    return text


def find_columns(names: Sequence[str], reading: LoaderOptions) -> tuple[str, str | None]:
    """Return the columns with the text and the title, as named or as they are often called.

    Raises:
        UnreadableError: there is none for the text, or none of the name that was given.
    """
    lower = {name.lower(): name for name in reversed(names) if name}
    for wanted, option in (
        (reading.text_column, "--text-column"),
        (reading.title_column, "--title-column"),
    ):
        if wanted is not None and wanted not in names:
            raise UnreadableError(
                f"no column {wanted!r}, only {_listed(names)}; set {option} to one of them"
            )
    text = reading.text_column or next((lower[n] for n in TEXT_COLUMNS if n in lower), None)
    if text is None:
        raise UnreadableError(
            f"no column of texts among {_listed(names)}; name it: --text-column NAME"
        )
    title = reading.title_column or lower.get("title")
    return text, title if title != text else None


def _listed(names: Sequence[str]) -> str:
    shown = ", ".join(repr(name[:40]) for name in names[:8])
    return shown + (", …" if len(names) > 8 else "")


def row_document(text: object, title: object, place: str) -> Document:
    """Make a document of a row's cells.

    Raises:
        UnreadableError: a cell that is no text.
    """
    return Document(check_text(as_text(text)), check_text(as_text(title)).strip(), place)


def as_text(cell: object) -> str:
    """Return a cell as text; what is missing becomes the empty text."""
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, str | int | float):
        return str(cell)
    raise UnreadableError(
        f"{kind_of(cell)}, not a text; name the field inside: --text-column body.text"
    )


def kind_of(value: object) -> str:
    """Return what a value is called in a message."""
    if isinstance(value, dict):
        return "an object"
    return "a list" if isinstance(value, list) else f"a {type(value).__name__}"
