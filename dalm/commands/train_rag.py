"""Train retriever and generator jointly: questions, passages and answers in, a tuned pair out."""

from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config import RagE2E


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
    from dalm.io.examples import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.training_index import TrainingIndex
    from dalm.training import dry_run, joint_training, preview, run
    from dalm.training.trainer import train

    joint_training.check(settings)
    this_run = run.start(
        settings,
        dataset_path=dataset_path,
        retriever_name_or_path=retriever_name_or_path,
        generator_name_or_path=generator_name_or_path,
    )
    searched = settings.candidates == "index"
    needs: set[Literal["passage", "answer"]] = {"answer"} if searched else {"passage", "answer"}
    examples = read_examples(dataset_path, settings, needs=needs)
    more = joint_training.knowledge_base(examples, settings)

    tuned, packed = run.parts(settings.use_peft), run.parts(settings.use_bnb)
    retriever = load_retriever(
        retriever_name_or_path,
        this_run.place(
            lora=joint_training.adapts_retriever(settings), four_bit="retriever" in packed
        ),
        lengths={"query": settings.query_max_len, "passage": settings.passage_max_len},
        prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        is_autoregressive=settings.retriever_is_autoregressive,
    )
    generator = load_generator(
        generator_name_or_path,
        this_run.place(lora="generator" in tuned, four_bit="generator" in packed),
        max_length=settings.generator_max_len,
    )
    joint_training.choose_trained(retriever, generator, this_run)
    rows = joint_training.rows_of(examples, more, retriever, generator, settings)
    index = None
    if searched:
        index = TrainingIndex(len(rows.base), rows.base.identity(), retriever.device)
    objective = joint_training.objective_of(rows, retriever, generator, settings, index)
    this_run.ready(objective, rows)
    if settings.dry_run:
        lines = preview.pair_of(rows, whole=settings.objective == "dalm")
        few = not searched or len(rows.base) <= dry_run.FEW
        dry_run.report(objective, rows, settings, this_run.placement, lines, measure=few)
        return
    this_run.open()
    rates = {"generator": settings.generator_learning_rate or settings.learning_rate}
    train(objective, rows, settings, this_run.placement, rates=rates, trackers=this_run.trackers)
    this_run.finish(
        objective,
        advice=f"dalm eval-rag DATASET --retriever-name-or-path {this_run.folder}/retriever "
        f"--generator-name-or-path {this_run.folder}/generator --evaluate-generator",
    )
