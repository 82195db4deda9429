"""Read a folder in BEIR's layout: corpus.jsonl, queries.jsonl and qrels/SPLIT.tsv.

Thakur et al., 2021, arXiv:2104.08663.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from dalm.errors import UserError
from dalm.io.provenance import extra_columns, extra_of, provenance_columns, provenance_of
from dalm.io.table import Table
from dalm.io.tables import read_table
from dalm.io.trec import read_qrels
from dalm.records import JudgedQuery, Passage

_COLUMNS = ("_id", "text")


def find_beir(source: str) -> tuple[Path, str] | None:
    """Return the folder in BEIR's layout that `source` names, and its split; None if it is none.

    `source` is `folder`, which means the split test, or `folder:dev`.
    """
    name, _, split = source.rpartition(":")
    for folder, part in ((source, "test"), (name, split)):
        if folder and (Path(folder) / "corpus.jsonl").is_file():
            return Path(folder), part
    return None


def read_beir(
    folder: Path, split: str, *, prepend_title: bool = False, encoding: str | None = None
) -> tuple[list[JudgedQuery], dict[str, Passage]]:
    """Read the judged queries of a split, and all passages by their ids.

    BEIR's published figures put the title before the text: `prepend_title`.

    Raises:
        UserError: a file is missing or can't be read, or an id that is judged isn't there.
    """
    file = folder / "qrels" / f"{split}.tsv"
    if not file.is_file():
        splits = sorted(path.stem for path in (folder / "qrels").glob("*.tsv"))
        raise UserError(
            f"{folder} has no judgements {file}; its splits are: {', '.join(splits) or 'none'}"
        )
    qrels = read_qrels(file)
    corpus = _read(folder / "corpus.jsonl", encoding)
    passages = {passage.id: passage for passage in _passages(corpus, prepend_title)}
    asked = _read(folder / "queries.jsonl", encoding)
    queries = dict(zip(asked.texts("_id"), asked.texts("text"), strict=True))
    _check_ids(file, "query", qrels, queries)
    _check_ids(file, "passage", (p for grades in qrels.values() for p in grades), passages)
    judged = [
        JudgedQuery(id=each, query=queries[each], relevant=grades, group=each)
        for each, grades in qrels.items()
    ]
    return judged, passages


def _read(file: Path, encoding: str | None) -> Table:
    table = read_table(file, encoding=encoding)
    for column in _COLUMNS:
        if column not in table.columns:
            raise UserError(f"{file} has no field {column!r}; BEIR's layout has it in every line")
    return table


def _passages(table: Table, prepend_title: bool) -> Iterator[Passage]:
    ids, texts = table.texts("_id"), table.texts("text")
    titles = table.texts("title") if "title" in table.columns else [""] * table.rows
    claimed = (*_COLUMNS, "title")
    provenance = _cells(table, provenance_columns(table, claimed))
    extra = _cells(table, extra_columns(table, claimed))
    for name, text, title, known, more in zip(ids, texts, titles, provenance, extra, strict=True):
        whole = f"{title}\n{text}" if prepend_title and title else text
        yield Passage(name, whole, title, **provenance_of(known), extra=extra_of(more))


def _cells(table: Table, columns: Sequence[str]) -> Iterator[dict[str, object]]:
    return table.records(columns) if columns else ({} for _ in range(table.rows))


def _check_ids(file: Path, what: str, judged: Iterable[str], known: Mapping[str, object]) -> None:
    missing = [name for name in dict.fromkeys(judged) if name not in known]
    if missing:
        raise UserError(
            f"{file} judges {len(missing)} {what} ids that the folder doesn't have, such as "
            f"{missing[0]!r}; take another version of the folder, or remove the lines"
        )
