"""Join the negatives that people named with mined ones."""

from pathlib import Path

from dalm.io.examples import read_negatives
from dalm.io.tables import read_table
from dalm.io.writers import LISTED, write_table


def join_negatives(questions: Path, mined: Path, joined: Path) -> None:
    """Write a mined table with the negatives that its questions had before, which come first."""
    before, table = read_table(questions), read_table(mined)
    columns = {name: table.column(name) for name in table.columns}
    found = read_negatives(table, [LISTED])
    if LISTED in before.columns:
        own = read_negatives(before, [LISTED])
        found = [list(dict.fromkeys([*a, *b])) for a, b in zip(own, found, strict=True)]
    write_table(joined, {**columns, LISTED: found})
