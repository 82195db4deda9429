"""Write a table with the hard negatives that were mined for it, and report on them."""

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path

from dalm.config import MineNegatives
from dalm.io.table_files import kind
from dalm.io.tables import Table
from dalm.io.writers import columns_with_negatives, write_table
from dalm.retrieval.negatives import Mined, Reason

logger = logging.getLogger(__name__)

_WITHOUT_LISTS = (".csv", ".tsv")  # formats that hold no lists


def write_mined_table(output: Path, table: Table, mined: Mapping[int, Mined]) -> None:
    """Write a table with its rows' negatives and scores; rows that weren't mined have none."""
    hits = [mined[row].negatives if row in mined else () for row in range(table.rows)]
    columns = columns_with_negatives(
        table,
        [[hit.passage.text for hit in row] for row in hits],
        [[hit.score for hit in row] for row in hits],
        [mined[row].gold_score if row in mined else None for row in range(table.rows)],
        numbered=kind(output) in _WITHOUT_LISTS,
    )
    write_table(output, columns)


def log_summary(mined: Sequence[Mined], options: MineNegatives) -> None:
    """Log how many negatives there are, what was left out, and the next command."""
    counts = [len(each.negatives) for each in mined]
    logger.info(
        "mined      %d negatives for %d questions: %d of them have all %d, %d have none",
        *(sum(counts), len(mined), counts.count(options.num_negatives), options.num_negatives),
        counts.count(0),
    )
    dropped: Counter[Reason] = sum((each.dropped for each in mined), Counter())
    logger.info(
        "left out   of %d candidates: %d from the gold passage's document, %d scored too near it",
        sum(each.candidates for each in mined),
        *(dropped[reason] for reason in ("same document", "score")),
    )
    logger.info(
        "suspects   for %d questions a passage of another document scores above the gold passage: "
        "it may be an answer, too",
        sum(each.outranks_gold for each in mined),
    )
    if not any(counts):
        logger.warning(
            "no negatives are left; try --max-share off, --no-skip-same-document, --passages"
        )
    logger.info("table      %s", options.output)
    prepended = " --prepend-title" if options.prepend_title else ""
    logger.info(
        "next       dalm train-retriever-only %s %s --output-dir OUT%s",
        *(options.retriever_name_or_path, options.output, prepended),
    )
