"""Train a retriever by contrast: questions and passages in, a tuned retriever out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.config import RetrieverOnly


def train_retriever_only(
    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    settings: Annotated[RetrieverOnly, Parameter(name="*")],
) -> None:
    """Train a retriever by contrast on questions and their passages.

    Every other passage of a batch is a negative for a question (InfoNCE, both ways).

    Parameters
    ----------
    retriever_name_or_path
        Embedding model: a folder, or a name on the Hugging Face hub.
    dataset_path
        Table with questions and passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.io.examples import read_examples
    from dalm.models.retriever import load_retriever
    from dalm.training import dry_run, preview, run
    from dalm.training.data.batches import Rows
    from dalm.training.objectives.objective import Contrastive
    from dalm.training.trainer import train

    this_run = run.start(
        settings, retriever_name_or_path=retriever_name_or_path, dataset_path=dataset_path
    )
    examples = read_examples(dataset_path, settings, needs={"passage"}, optional=set())
    run.check_negatives(examples, settings)

    retriever = load_retriever(
        retriever_name_or_path,
        this_run.place(lora=settings.use_peft, four_bit=settings.use_bnb),
        lengths={"query": settings.query_max_len, "passage": settings.passage_max_len},
        prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        is_autoregressive=settings.retriever_is_autoregressive,
    )
    if settings.use_peft:
        this_run.add_lora(retriever, "FEATURE_EXTRACTION")
    objective = Contrastive(retriever, settings.logit_scale)
    rows = Rows(examples, retriever)
    this_run.ready(objective, rows)
    if settings.dry_run:
        lines = preview.texts_of(rows)
        dry_run.report(objective, rows, settings, this_run.placement, lines)
        return
    this_run.open()
    train(objective, rows, settings, this_run.placement, trackers=this_run.trackers)
    this_run.finish(
        objective,
        advice=f"dalm eval-retriever DATASET --retriever-name-or-path {this_run.folder}/retriever "
        f"--baseline {retriever_name_or_path}",
    )
