"""Train retriever and generator jointly: questions, passages and answers in, a tuned pair out."""

from typing import Annotated

from cyclopts import Parameter

from dalm.settings import RagE2E


def train_rag_e2e(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    generator_name_or_path: str,
    settings: Annotated[RagE2E, Parameter(name="*")],
) -> None:
    """Train a retriever and a generator jointly on questions, passages and answers.

    The answer's likelihood is summed over the best passages of the batch, so that the generator's
    loss reaches both encoders; a contrastive loss stands beside it.

    Parameters
    ----------
    dataset_path
        Table with questions, passages and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub
        name.
    retriever_name_or_path
        Embedding model: a folder, or a name on the Hugging Face hub.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.datasets.tables import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.retriever import load_retriever
    from dalm.training import run
    from dalm.training.batches import Rows
    from dalm.training.objectives import RagEndToEnd
    from dalm.training.trainer import train

    this_run = run.start(
        settings,
        dataset_path=dataset_path,
        retriever_name_or_path=retriever_name_or_path,
        generator_name_or_path=generator_name_or_path,
    )
    examples = read_examples(dataset_path, settings, needs={"passage", "answer"})
    run.check_negatives(examples, settings)

    tuned, packed = run.parts(settings.use_peft), run.parts(settings.use_bnb)
    retriever = load_retriever(
        retriever_name_or_path,
        this_run.place(lora="retriever" in tuned, four_bit="retriever" in packed),
        lengths={"query": settings.query_max_len, "passage": settings.passage_max_len},
        prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        is_autoregressive=settings.retriever_is_autoregressive,
    )
    generator = load_generator(
        generator_name_or_path,
        this_run.place(lora="generator" in tuned, four_bit="generator" in packed),
        max_length=settings.generator_max_len,
    )
    if "retriever" in tuned:
        this_run.add_lora(retriever, "FEATURE_EXTRACTION")
    if "generator" in tuned:
        this_run.add_lora(generator, "CAUSAL_LM")
    objective = RagEndToEnd(
        retriever,
        generator,
        marginal=settings.objective,
        scale=settings.logit_scale,
        num_candidates=settings.num_candidates,
        temperature=settings.marginal_temperature,
        contrastive_weight=settings.contrastive_weight,
    )
    rows = Rows(examples, retriever, generator)
    this_run.ready(objective, rows)
    this_run.open()
    rates = {"generator": settings.generator_learning_rate or settings.learning_rate}
    train(objective, rows, settings, this_run.placement, rates=rates, trackers=this_run.trackers)
    this_run.finish(
        objective,
        advice=f"dalm eval-rag DATASET --retriever-name-or-path {this_run.folder}/retriever "
        f"--generator-name-or-path {this_run.folder}/generator --evaluate-generator",
    )


if __name__ == "__main__":
    from dalm.cli import run_door

    run_door(train_rag_e2e)
