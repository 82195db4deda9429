"""Mine hard negatives for a table of questions and passages."""

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import MineNegatives, check
from dalm.errors import UserError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from dalm.records import Example, Passage


def mine_negatives(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[MineNegatives, Parameter(name="*")],
) -> None:
    """Mine hard negatives for a table of questions and passages.

    A question's negatives are passages that the retriever ranks high and that don't answer it:
    not its gold passage, none of the same document, none that scores nearly as high as the gold
    one. Training on the table takes them beside the batch's other passages.

    Parameters
    ----------
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim
    from dalm.io.examples import read_rows
    from dalm.io.tables import read_table
    from dalm.models.loading import place
    from dalm.models.retriever import retriever_from_config
    from dalm.retrieval import mined_table, negatives
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.embedding_cache import encode_passages_cached, folder_of
    from dalm.retrieval.exact import ExactIndex

    output = _check(settings)
    cache = folder_of(settings.cache, settings.cache_dir)
    table = read_table(dataset_path, encoding=settings.encoding)
    rows = read_rows(table, settings, needs={"passage"}, optional=set())
    passages = _passages(list(rows.values()), settings)
    with claim(output, "--output"):
        retriever = retriever_from_config(
            settings,
            settings.retriever_name_or_path,
            place(settings.device, settings.precision),
            settings.retriever_peft_model_path,
        )
        texts = [passage.text for passage in passages]
        mined = negatives.mine_hard_negatives(
            list(rows.values()),
            retriever,
            ExactIndex(passages, encode_passages_cached(retriever, texts, cache)),
            negatives.MiningRules.of(settings),
            lexical=BM25(passages) if settings.bm25 else None,
            seed=settings.seed if settings.sampling == "random" else None,
        )
        mined_table.write_mined_table(output, table, dict(zip(rows, mined, strict=True)))
    mined_table.log_summary(mined, settings)


def _check(settings: MineNegatives) -> Path:
    """Refuse what can't work before anything is read or loaded; return the file to write.

    Raises:
        UserError: a value out of range, no such model, or a file that can't be written.
    """
    from dalm.io.writers import check_output_file
    from dalm.models.loading import check_model_name

    check(settings)
    if settings.first_rank > settings.last_rank:
        raise UserError(
            f"--first-rank {settings.first_rank} is greater than --last-rank {settings.last_rank}; "
            "swap them"
        )
    check_model_name(settings.retriever_name_or_path, "retriever")
    output = Path(settings.output).expanduser()
    check_output_file(output, settings.overwrite_output)
    return output


def _passages(examples: "Sequence[Example]", settings: MineNegatives) -> "list[Passage]":
    """Return the distinct passages to search: those of the questions and of `--passages`.

    Raises:
        UserError: there is only one.
    """
    from dalm.io.examples import read_passages

    found: dict[str, Passage] = {}
    for example in examples:
        assert example.passage is not None
        found.setdefault(example.passage.id, example.passage)
    for source in settings.passages or ():
        for passage in read_passages(source, settings):
            found.setdefault(passage.id, passage)
    if len(found) < 2:
        raise UserError(
            "there is only one distinct passage, and so no negative; add tables of passages with "
            "--passages"
        )
    logging.getLogger(__name__).info("searching  %d passages", len(found))
    return list(found.values())
