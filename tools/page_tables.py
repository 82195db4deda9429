"""Write Markdown tables between the markers of a page: `<!-- table NAME -->`, `<!-- end -->`."""

import os
import re
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

MARKED = re.compile(r"(<!-- table (\w+) -->\n)(.*?)(<!-- end -->)", re.DOTALL)


def markdown(lines: Sequence[Sequence[str]]) -> str:
    """Return a table, the first of its lines the heading; nothing where there is no other."""
    if len(lines) == 1:
        return ""
    lines = [lines[0], ["---"] * len(lines[0]), *lines[1:]]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines)


def tables_of(page: Path) -> dict[str, str]:
    """Return the text between each pair of markers, by name.

    Raises:
        ValueError: two tables of the page have the same name, or a marker is left open.
    """
    text = page.read_text(encoding="utf-8")
    found = [(name, inside.strip()) for _, name, inside, _ in MARKED.findall(text)]
    tables = dict(found)
    if len(tables) < len(found) or any("<!-- table" in inside for inside in tables.values()):
        raise ValueError(f"{page}: a table's name stands twice, or its `<!-- end -->` is missing")
    return tables


def fill(page: Path, names: Iterable[str], text_of: Callable[[str], str]) -> None:
    """Put the text of each name between its markers; the page is replaced as a whole."""
    tables_of(page)
    wanted = set(names)

    def filled(marked: re.Match[str]) -> str:
        if marked[2] not in wanted:
            return marked[0]
        text = text_of(marked[2])
        return f"{marked[1]}\n{text}\n{marked[4]}" if text else marked[1] + marked[4]

    text = MARKED.sub(filled, page.read_text(encoding="utf-8"))
    unfinished = page.with_name(f".{page.name}.{os.getpid()}")
    unfinished.write_text(text, encoding="utf-8")
    unfinished.replace(page)
