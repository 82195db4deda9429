"""Mine hard negatives: questions with their passages in, the same table with negatives out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import MineNegatives


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
    from dalm.io.examples import read_rows
    from dalm.io.tables import read_table
    from dalm.models.loading import place
    from dalm.models.retriever import load_retriever
    from dalm.retrieval import mining_run
    from dalm.retrieval.bm25 import BM25
    from dalm.retrieval.embedding_cache import encode_passages_cached, folder_of
    from dalm.retrieval.exact import Index
    from dalm.retrieval.negatives import mine_examples

    output = mining_run.start(settings)
    table = read_table(dataset_path, encoding=settings.encoding)
    rows = read_rows(table, settings, needs={"passage"}, optional=set())
    passages = mining_run.knowledge_base(rows.values(), settings)
    retriever = load_retriever(
        settings.retriever_name_or_path,
        place(settings.device, settings.precision),
        adapter=settings.retriever_peft_model_path,
        lengths={"query": settings.query_max_len, "passage": settings.passage_max_len},
        prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        is_autoregressive=settings.retriever_is_autoregressive,
    )
    texts = [passage.text for passage in passages]
    cache = folder_of(settings.cache, settings.cache_dir)
    vectors = encode_passages_cached(retriever, texts, cache)
    mined = mine_examples(
        list(rows.values()),
        retriever,
        Index(passages, vectors),
        mining_run.rules(settings),
        lexical=BM25(passages) if settings.bm25 else None,
        seed=settings.seed if settings.sampling == "random" else None,
    )
    mining_run.write(output, table, dict(zip(rows, mined, strict=True)))
    mining_run.report(mined, settings)
