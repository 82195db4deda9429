"""Train a retriever and a generator jointly on questions, passages and answers."""

from typing import TYPE_CHECKING, Annotated

from cyclopts import Parameter

from dalm.config import RagE2E

if TYPE_CHECKING:
    from dalm.io.examples import Field


def train_rag_e2e(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    retriever_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    generator_name_or_path: str,
    settings: Annotated[RagE2E, Parameter(name="*")],
) -> None:
    """Train a retriever and a generator jointly on questions, passages and answers.

    The answer's likelihood is marginalised over candidate passages, so that the generator's loss
    reaches both encoders; a contrastive loss is added.

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
    from dalm.config import check
    from dalm.config.joint_training import check_joint
    from dalm.io.examples import read_examples
    from dalm.io.scored_tables import read_scored
    from dalm.training.data.usable_rows import additional_passages

    check_joint(settings)
    check(settings)
    searched = settings.candidates == "index"
    needs: "set[Field]" = {"answer"} if searched else {"passage", "answer"}
    examples = read_examples(dataset_path, settings, needs=needs)
    scored = read_scored(dataset_path, settings) if settings.teacher_mix else []
    more = additional_passages(examples, settings)

    # Importing torch takes seconds; what is wrong with the data has been said by now.
    from dalm.next_step import after_training
    from dalm.retrieval.training_index import SampledIndex, TrainingIndex
    from dalm.training import dry_run
    from dalm.training.data.retrieved_rows import joint_rows
    from dalm.training.objectives.objective import objective_class
    from dalm.training.run import TrainingRun

    joint = objective_class(settings.objective, settings.command)
    run = TrainingRun(
        settings,
        dataset_path=dataset_path,
        retriever_name_or_path=retriever_name_or_path,
        generator_name_or_path=generator_name_or_path,
    )
    retriever, generator = run.pair()
    rows = joint_rows(examples, more, retriever, generator, settings, scored=scored)
    index = None
    if searched:
        index = TrainingIndex(len(rows.base), rows.base.identity(), retriever.device)
        if settings.dry_run:
            index = SampledIndex(len(rows.base), "", retriever.device, dry_run.MAX_PASSAGES)
    objective = joint.from_config(settings, rows, index)
    run.fit(
        objective,
        rows,
        rates={"generator": settings.generator_learning_rate or settings.learning_rate},
        preview=dry_run.preview_rows(rows, whole=objective.trains_prompt),
        next_step=after_training(
            "eval-rag",
            dataset_path,
            settings,
            run.folder.path / "retriever",
            *("--generator-name-or-path", run.folder.path / "generator", "--evaluate-generator"),
        ),
    )
