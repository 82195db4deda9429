"""Mine hard negatives for a table of questions and passages."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dalm.config import MineNegatives, check
from dalm.errors import UserError
from dalm.file_reading import user_path


def mine_negatives(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[MineNegatives, Parameter(name="*")],
) -> None:
    """Add hard negatives to a table of questions and passages.

    They are passages that the retriever ranks high, except gold passages, passages of the same
    document, and passages that score nearly as high as the gold one.

    Parameters
    ----------
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim
    from dalm.io.examples import read_rows
    from dalm.io.tables import read_table
    from dalm.io.writers import check_output_file
    from dalm.models.loading import placement_of
    from dalm.models.retriever import retriever_from_config
    from dalm.retrieval import negatives
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.embedding_cache import encode_passages_cached, folder_of
    from dalm.retrieval.encoder_backend import use_backend
    from dalm.retrieval.exact import ExactIndex

    output = _check(settings)
    cache = folder_of(settings.cache, settings.cache_dir)
    table = read_table(dataset_path, encoding=settings.encoding)
    rows = read_rows(table, settings, needs={"passage"}, optional=set())
    examples = list(rows.values())
    passages = negatives.passages_to_search(examples, settings)
    with claim(output, "--output"):
        check_output_file(output, settings.overwrite_output)  # since, another may have written it
        retriever = retriever_from_config(
            settings,
            settings.retriever_name_or_path,
            placement_of(settings),
            settings.retriever_peft_model_path,
        )
        use_backend(retriever, settings.encoder_backend)
        texts = [passage.text for passage in passages]
        index = ExactIndex(passages, encode_passages_cached(retriever, texts, cache))
        lexical = BM25(passages) if settings.bm25 else None
        mined = negatives.mine_hard_negatives(examples, retriever, index, settings, lexical)
        negatives.write_mined_table(output, table, dict(zip(rows, mined, strict=True)))
    negatives.log_summary(mined, settings)


def _check(settings: MineNegatives) -> Path:
    """Refuse what can't work before anything is read or loaded; return the file to write.

    Raises:
        UserError: a value out of range, no such model, or a file that can't be written.
    """
    from dalm.io.writers import check_output_file
    from dalm.models.loading import check_model_name
    from dalm.retrieval.encoder_backend import check_backend

    check(settings)
    check_backend(settings.encoder_backend)
    if settings.first_rank > settings.last_rank:
        raise UserError(
            f"--first-rank {settings.first_rank} is greater than --last-rank {settings.last_rank}; "
            "swap them"
        )
    check_model_name(settings.retriever_name_or_path, "retriever")
    output = user_path(settings.output)
    check_output_file(output, settings.overwrite_output)
    return output
