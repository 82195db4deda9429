"""Read and write hard negatives in a table: a list in one column, or a text in each of several."""

import json
import math
import re
from collections.abc import Collection, Sequence

from dalm.io.cell_values import CellError, cell_text
from dalm.io.table import Table

LISTED = "Negatives"
NUMBERED = "Negative {}"
SCORES = "Negative scores"
GOLD_SCORE = "Gold score"


def negative_columns(table: Table, name: str, claimed: Collection[str] = ()) -> list[str]:
    """Return the columns with the hard negatives that `name` stands for; empty if there are none.

    That is the column itself, or the numbered ones of its name: `Negative 1`, `Negative 2` for
    `Negatives`, and `negative`, `negative_1`, as sentence-transformers writes them. An empty name
    means none.
    """
    if not name or table.has(name):
        return [name] if name else []
    pattern = re.compile(rf"{re.escape(name.removesuffix('s'))}s?[ _-]?(\d*)", re.IGNORECASE)
    matches = {
        column: match
        for column in table.columns
        if column not in claimed and (match := pattern.fullmatch(column))
    }
    return sorted(matches, key=lambda column: int(matches[column][1] or 0))


def read_negatives(table: Table, columns: Sequence[str]) -> list[list[str]]:
    """Return each row's texts from one column of lists or several of texts, without blank ones.

    A list may be written as JSON, as in a csv file: `["one passage", "another"]`. Raises UserError
    for a cell that is neither a list of texts nor a text.
    """
    rows: list[list[str]] = [[] for _ in range(table.rows)]
    for column in columns:
        for row, cell in enumerate(table.column(column)):
            try:
                rows[row] += filter(None, map(cell_text, _items(cell)))
            except CellError as error:
                raise table.bad_cell(row, column, error) from None
    return [list(dict.fromkeys(texts)) for texts in rows]


def _items(cell: object) -> Sequence[object]:
    if isinstance(cell, list):
        return cell
    if isinstance(cell, bool | int | float) and not math.isnan(cell):  # which is a missing cell
        raise CellError("a number, not a passage; rename it, or name another --negatives-column")
    if isinstance(cell, str) and cell.lstrip().startswith("["):
        try:
            found = json.loads(cell)
        except ValueError:
            return [cell]  # a passage that begins with a bracket
        return found if isinstance(found, list) and _all_texts(found) else [cell]
    return [cell]


def _all_texts(items: Sequence[object]) -> bool:
    return all(isinstance(item, str) for item in items)


def layout(
    table: Table,
    negatives: Sequence[Sequence[str]],
    scores: Sequence[Sequence[float]],
    gold_scores: Sequence[float | None],
    *,
    numbered: bool,
) -> dict[str, Sequence[object]]:
    """Return a table's columns followed by each row's negatives and their scores.

    Negatives are lists in one column or, for a format without lists, in `numbered` columns, which
    are empty where a row has fewer; scores are a JSON list there. Columns of an earlier mining are
    dropped.
    """
    earlier = {*negative_columns(table, LISTED), *_numbered(table), SCORES, GOLD_SCORE}
    columns: dict[str, Sequence[object]] = {
        name: table.column(name) for name in table.columns if name not in earlier
    }
    if numbered:
        for place in range(max(map(len, negatives), default=0)):
            columns[NUMBERED.format(place + 1)] = [
                texts[place] if place < len(texts) else None for texts in negatives
            ]
    else:
        columns[LISTED] = [list(texts) for texts in negatives]
    columns[SCORES] = [[round(score, 6) for score in row] for row in scores]
    columns[GOLD_SCORE] = [None if score is None else round(score, 6) for score in gold_scores]
    return columns


def _numbered(table: Table) -> list[str]:
    pattern = re.compile(NUMBERED.format(r"\d+"))
    return [column for column in table.columns if pattern.fullmatch(column)]
