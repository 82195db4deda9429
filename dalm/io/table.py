"""Hold a table in memory: its cells by columns, and where each row stands in its file."""

import re
from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dalm.errors import UserError, one_line
from dalm.io.cell_values import CellError, cell_text, value_at
from dalm.io.table_files import Unit


@dataclass(frozen=True)
class Table:
    """A table's cells by columns: `column(name)` gives those of a column, row 1 first.

    A name may be a path into nested JSON, `body.text`. Columns are read when they are asked for:
    images or vectors beside the texts cost nothing. `unread` counts rows that were passed over.
    `numbers` are the places of the others in the file, counted in `unit`s. `plain` are columns of
    texts, numbers and booleans, as far as is known without reading them.
    """

    name: str
    columns: tuple[str, ...]
    rows: int
    column: Callable[[str], Sequence[object]]
    unread: int = 0
    unit: Unit = "row"
    numbers: Sequence[int] | None = None
    plain: tuple[str, ...] = ()

    def place(self, row: int) -> str:
        """Return where a row stands in the file, as in `line 5`; `row` counts from 0."""
        return f"{self.unit} {(self.numbers[row] if self.numbers else row + 1) or 1}"

    def has(self, name: str) -> bool:
        """Tell whether there is such a column, or a value at such a path into nested JSON."""
        if name in self.columns or name.partition(".")[0] not in self.columns:
            return name in self.columns
        return any(value is not None for value in self.column(name))

    def records(self, names: Collection[str]) -> Iterator[dict[str, object]]:
        """Yield the cells of some columns row by row; for a path, those that it begins at."""
        roots = [
            root
            for name in names
            for root in ([name] if name in self.columns else [name.partition(".")[0]])
        ]
        chosen = [name for name in dict.fromkeys(roots) if name in self.columns]
        for cells in zip(*map(self.column, chosen), strict=True):
            yield dict(zip(chosen, cells, strict=True))

    def bad_cell(self, row: int, column: str, problem: object) -> UserError:
        """Return the error for a cell: where it is, what is wrong and what to do."""
        return UserError(f"{self.name}, {self.place(row)}, column {column!r}: {problem}")

    def texts(self, column: str) -> list[str]:
        """Return a column's cells as texts; what is missing or blank becomes the empty text.

        Raises:
            UserError: a cell that is no text; it names the place.
        """
        texts: list[str] = []
        for row, cell in enumerate(self.column(column)):
            try:
                texts.append(cell_text(cell))
            except CellError as error:
                raise self.bad_cell(row, column, error) from None
        return texts


def plain_columns(schema: Any) -> tuple[str, ...]:
    """Return the columns of an Arrow schema whose cells are texts, numbers or booleans."""
    plain = re.compile(r"(large_)?string|bool|u?int\d+|(half_)?float|double|date.*|timestamp.*")
    return tuple(field.name for field in schema if plain.fullmatch(str(field.type)))


def nested(
    columns: Collection[str], column: Callable[[str], Sequence[object]]
) -> Callable[[str], Sequence[object]]:
    """Return a reader of columns that follows paths into columns of objects."""

    def read(name: str) -> Sequence[object]:
        root = name.partition(".")[0]
        if name in columns or root not in columns:
            return column(name)
        return [value_at({root: cell}, name) for cell in column(root)]

    return read


@contextmanager
def reading(source: str | Path) -> Iterator[None]:
    """Put the source's name before an error, whatever library raises it over a broken file."""
    try:
        yield
    except UserError as error:
        message = str(error)
        if message.startswith(str(source)):
            raise
        raise UserError(f"{source}: {message}") from error
    except Exception as error:
        raise UserError(
            f"{source} could not be read: {one_line(error)}; is it broken or empty? save it again"
        ) from error
