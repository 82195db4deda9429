"""Find the columns of a table by their names: texts, hard negatives, provenance."""

import logging
import re
from collections.abc import Collection, Sequence
from difflib import get_close_matches
from pathlib import Path, PurePath
from typing import Any, Literal

from dalm.config import Columns, PairColumns
from dalm.errors import UserError
from dalm.io.cell_values import extra_of, provenance_of
from dalm.io.table_files import READERS, kind
from dalm.io.tables import Table
from dalm.records import PROVENANCE

logger = logging.getLogger(__name__)

Role = Literal["query", "passage", "answer", "title", "negatives"]

OLDER_NAMES: dict[Role, tuple[str, ...]] = {
    "passage": ("Abstract", "Context"),
    "query": ("Question",),
}
LISTED = 12
"""Columns that an error names."""
COMPARED = 1_000
"""Columns that a mistyped name is compared with."""
TEXT_COLUMNS = "passage text body content contents abstract context document".split()
"""What a column of texts is often called, in the order in which they are looked for."""


def column_for(option: str | None, table: str | Path) -> str | None:
    """Return the column that an option such as `--text-column` names for a table.

    It is a column's name for all tables, or `FILE=NAME` for those whose path ends in FILE; several
    are separated by commas: `Body,notes.csv=Text`. An option without a table's name is one name,
    whatever signs are in it.
    """
    parts = [part.strip() for part in (option or "").split(",")]
    pairs = [part.partition("=") for part in parts]
    if not any(sign and kind(Path(file)) in READERS for file, sign, _ in pairs):
        return option
    path = PurePath(table)
    for file, sign, name in pairs:
        if sign and kind(Path(file)) in READERS and path.match(file):
            return name
    others = (part for part, (file, _, _) in zip(parts, pairs, strict=True))
    return next(
        (part for part in others if kind(Path(part.partition("=")[0])) not in READERS), None
    )


def find_text_columns(
    names: Sequence[str],
    text: str | None = None,
    title: str | None = None,
    *,
    only_if_there: bool = False,
) -> tuple[str, str | None]:
    """Return the columns with the text and the title, as named or as they are often called.

    With `only_if_there` a name that the table lacks is the same as none.

    Raises:
        UserError: there is none for the text, or none of the name that was given.
    """
    if only_if_there:
        text, title = (name if has_path(names, name) else None for name in (text, title))
    lower = {name.lower(): name for name in reversed(names) if name}
    for wanted, option in ((text, "--text-column"), (title, "--title-column")):
        if wanted is not None and not has_path(names, wanted):
            raise UserError(
                f"no column {wanted!r}, only {listed(names)}; set {option} to one of them"
            )
    text = text or next((lower[name] for name in TEXT_COLUMNS if name in lower), None)
    if text is None:
        raise UserError(f"no column of texts among {listed(names)}; name it: --text-column NAME")
    title = title or lower.get("title")
    return text, title if title != text else None


def has_path(names: Collection[str], name: str | None) -> bool:
    """Tell whether there is such a column, or one at which such a path into JSON begins."""
    return name is not None and (name in names or name.partition(".")[0] in names)


def listed(names: Sequence[str]) -> str:
    """Return the first names of columns, for errors."""
    first = ", ".join(repr(name[:40]) for name in names[:LISTED])
    return first + (", …" if len(names) > LISTED else "")


def find_columns(
    table: Table, columns: PairColumns, needed: Collection[str], wanted: Collection[str]
) -> dict[Role, str]:
    """Return the columns of the `wanted` fields that the table has, and of a passage's title.

    Raises:
        UserError: a `needed` one is missing, or one that was named by the user.
    """
    named: dict[Role, str] = {
        "query": columns.query_column,
        "passage": columns.passage_column,
        "answer": getattr(columns, "answer_column", Columns.answer_column),
    }
    found: dict[Role, str] = {}
    for role, name in named.items():
        if role in wanted and (column := _find(table, role, name, named.values())):
            found[role] = column
        elif role in needed:
            raise missing_column(table, role, name)
    if "passage" in found:  # a title belongs to a passage
        title = _find(table, "title", columns.title_column, found.values())
        if title:
            found["title"] = title
        elif columns.prepend_title:
            raise missing_column(table, "title", columns.title_column)
    return found


def _find(table: Table, role: Role, name: str, claimed: Collection[str]) -> str | None:
    """Find the column that was named, or another name of the default that nobody claimed."""
    if table.has(name):
        return name
    default: str = getattr(Columns(), f"{role}_column")
    if name != default:
        raise missing_column(table, role, name)
    free = {column.lower(): column for column in table.columns if column not in claimed}
    common = _only_text_column(free) if role == "passage" else []
    for other in (default, *OLDER_NAMES.get(role, ()), *common):
        if column := free.get(other.lower()):
            logger.info("%s: no column %r, reading %r as the %s", table.name, name, column, role)
            return column
    return None


def _only_text_column(free: Collection[str]) -> list[str]:
    """Return the column with a common name for texts; none if there are several of them."""
    found = [name for name in TEXT_COLUMNS if name in free]
    if len(found) > 1 and found[-1] == "document":  # beside a text it says where the text is from
        found.pop()
    return found if len(found) == 1 else []


def missing_column(table: Table, role: Role, name: str) -> UserError:
    """Return the error for a column that isn't there, with the likeliest one as the remedy."""
    by_lower_case = {column.lower(): column for column in table.columns[:COMPARED]}
    meant = (name, *OLDER_NAMES.get(role, ()), *(TEXT_COLUMNS if role == "passage" else ()))
    near = [get_close_matches(each.lower(), by_lower_case, n=1) for each in meant]
    likely = next((by_lower_case[match[0]] for match in near if match), "NAME")
    remedy = f"set --{role}-column {likely}"
    if role == "passage" and likely == "NAME" and table.has(Columns.answer_column):
        remedy += (
            ", or let the answers mark passages of a knowledge base: dalm train-retriever-only "
            f"RETRIEVER {table.name} --passages PASSAGES"
        )
    return UserError(
        f"{table.name} has no column {name!r} for the {role}, "
        f"only {listed(table.columns)}; {remedy}"
    )


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


class ProvenanceColumns:
    """The columns that say where the passage in each row was taken from, named as in `PROVENANCE`.

    A span and a page count from the beginning of something: without a column that names it they
    mean something else. `with_extra` adds the further columns of plain values.
    """

    def __init__(self, table: Table, claimed: Collection[str], *, with_extra: bool = False) -> None:
        free = [name for name in PROVENANCE if name in table.columns and name not in claimed]
        if "document" not in free:
            free = [name for name in free if name not in ("start", "end")]
        if not {"document", "source"}.intersection(free):
            free = [name for name in free if name != "page"]
        known = {*claimed, *PROVENANCE, "id", "_id"}
        extra = [name for name in table.plain if name not in known] if with_extra else []
        self._provenance = {name: table.column(name) for name in free}
        self._extra = {name: table.column(name) for name in extra}

    def of(self, row: int) -> dict[str, Any]:
        """Return a row's provenance as fields of a passage."""
        fields = provenance_of({name: cells[row] for name, cells in self._provenance.items()})
        if self._extra:
            fields["extra"] = extra_of({name: cells[row] for name, cells in self._extra.items()})
        return fields
