"""A mining run from the outside: what is refused, what is searched, its table, its last lines."""

import logging
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from dalm.config import MineNegatives, check
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.io.negative_columns import layout
from dalm.io.tables import Table, kind
from dalm.io.writers import check_output_file, write_table
from dalm.models.loading import check_model_name
from dalm.records import Example, Passage
from dalm.retrieval.embedding_cache import folder_of
from dalm.retrieval.negatives import Mined, Reason, Rules

logger = logging.getLogger(__name__)

_NUMBERED = (".csv", ".tsv")  # formats without lists


def start(settings: MineNegatives) -> Path:
    """Refuse what can't work, before anything is read or loaded; return the file to write.

    Raises:
        UserError: a value out of range, no such model, or a file that can't be written.
    """
    check(settings)
    if settings.first_rank > settings.last_rank:
        raise UserError(
            f"--first-rank {settings.first_rank} lies behind --last-rank {settings.last_rank}; "
            "swap them"
        )
    check_model_name(settings.retriever_name_or_path, "retriever")
    folder_of(settings.cache, settings.cache_dir)
    output = Path(settings.output).expanduser()
    check_output_file(output, settings.overwrite_output)
    return output


def knowledge_base(examples: Iterable[Example], settings: MineNegatives) -> list[Passage]:
    """Return the distinct passages to search: the questions' own and those of `--passages`.

    Raises:
        UserError: all of them are one passage.
    """
    found: dict[str, Passage] = {}
    for example in examples:
        assert example.passage is not None
        found.setdefault(example.passage.id, example.passage)
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    if len(found) < 2:
        raise UserError(
            "there is one distinct passage: none is left for a negative; add tables of passages "
            "by --passages"
        )
    logger.info("searching  %d passages", len(found))
    return list(found.values())


def rules(settings: MineNegatives) -> Rules:
    """Return what may become a negative."""
    return Rules(
        num_negatives=settings.num_negatives,
        first_rank=settings.first_rank,
        last_rank=settings.last_rank,
        max_share=None if settings.max_share == "off" else settings.max_share,
        margin=settings.margin,
        skip_same_document=settings.skip_same_document,
    )


def write(output: Path, table: Table, mined: Mapping[int, Mined]) -> None:
    """Write the table with its negatives; rows that couldn't be mined have none."""
    found = [mined[row].negatives if row in mined else () for row in range(table.rows)]
    columns = layout(
        table,
        [[hit.passage.text for hit in hits] for hits in found],
        [[hit.score for hit in hits] for hits in found],
        [mined[row].gold_score if row in mined else None for row in range(table.rows)],
        numbered=kind(output) in _NUMBERED,
    )
    write_table(output, columns)


def report(mined: Sequence[Mined], settings: MineNegatives) -> None:
    """Say how many negatives there are, what was left out, what was written and what is next."""
    counts = [len(each.negatives) for each in mined]
    logger.info(
        "mined      %d negatives for %d questions: %d of them have all %d, %d have none",
        *(sum(counts), len(mined), counts.count(settings.num_negatives), settings.num_negatives),
        counts.count(0),
    )
    dropped: Counter[Reason] = sum((each.dropped for each in mined), Counter())
    logger.info(
        "left out   of %d candidates: %d of the gold passage's document, %d that score too near it",
        sum(each.candidates for each in mined),
        *(dropped[reason] for reason in ("same document", "score")),
    )
    suspects = sum(each.outranks_gold for each in mined)
    logger.info(
        "suspects   for %d questions another document's passage scores above the gold one: "
        "it may be an answer, too",
        suspects,
    )
    if 0 in counts and not any(counts):
        logger.warning(
            "no negative is left; try --max-share off, --no-skip-same-document, --passages"
        )
    logger.info("table      %s", settings.output)
    prepended = " --prepend-title" if settings.prepend_title else ""
    logger.info(
        "next       dalm train-retriever-only %s %s --output-dir OUT%s",
        *(settings.retriever_name_or_path, settings.output, prepended),
    )
