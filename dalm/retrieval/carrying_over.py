"""Carry an index's passages and vectors over to a new generation, without encoding a passage.

A retriever that embeds only queries in another way, by an adapter, a prompt or a length, has the
vectors of the passages that are stored. The generation before stays as it is.
"""

import logging
from dataclasses import replace

from dalm import progress
from dalm.retrieval.index_folder import Generation

logger = logging.getLogger(__name__)

BLOCK = 2048
"""Passages that are read and stored at once."""


def carry_over(before: Generation, generation: Generation) -> None:
    """Let a generation hold the passages of another one, with their vectors, and no others.

    What an interrupted run has copied isn't copied again.
    """
    source, target = before.store, generation.store
    generation.extend_columns(before.description.column_types)
    wanted, there = source.digests(), target.digests()
    missing = [each for each, digest in wanted.items() if there.get(each) != digest]
    with progress.Bar(len(missing), "copying", "passages") as bar:
        for start in range(0, len(missing), BLOCK):
            ids = missing[start : start + BLOCK]
            passages = source.passages_of(ids)
            target.add([passages[each] for each in ids], source.vectors_of(ids))
            bar.update(len(ids))
    if gone := sorted(there.keys() - wanted.keys()):
        target.delete(gone)
    generation.describe(replace(generation.description, chunking=before.description.chunking))
    generation.carried_over = True
    logger.info(
        "passages   %d with their vectors, of generation %d: only queries are embedded in another "
        "way",
        *(len(wanted), before.number),
    )
