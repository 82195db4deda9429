"""Cells of a table as texts, whatever kind of value they hold."""

import math

from dalm.errors import UserError
from dalm.io.tables import Table


def texts_of(table: Table, column: str) -> list[str]:
    """Return a column's cells as texts; what is missing or blank becomes the empty text.

    Raises UserError for bytes, lists and objects, and for half a character.
    """
    return [cell_text(table, row, column, cell) for row, cell in enumerate(table.column(column), 1)]


def cell_text(table: Table, row: int, column: str, cell: object) -> str:
    """Return one cell as a text; `row` and `column` are for the error."""
    try:
        text = cell if type(cell) is str else _as_text(cell)
        if not text.isascii():
            text.encode()
    except UnicodeEncodeError as error:
        half = ascii(error.object[error.start])
        raise bad_cell(table, row, column, f"{half} is half a character; remove it") from None
    except TypeError as error:
        raise bad_cell(table, row, column, f"{error}; write it as text first") from None
    return "" if text.isspace() else text


def bad_cell(table: Table, row: int, column: str, problem: str) -> UserError:
    """Return the error for a cell: where it is, what is wrong with it and what to do."""
    return UserError(f"{table.name}, row {row}, column {column!r}: {problem}")


def _as_text(cell: object) -> str:
    if cell is None or (isinstance(cell, float) and math.isnan(cell)):
        return ""
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, bytes | dict | list):
        raise TypeError(f"a {type(cell).__name__}, not a text")
    return str(cell)
