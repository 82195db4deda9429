"""Tune a generator on questions: passages, questions and answers in, a tuned generator out."""

from typing import Annotated, Literal

from cyclopts import Parameter

from dalm.config import GeneratorOnly


def train_generator_only(
    dataset_path: Annotated[str, Parameter(alias="--train-dataset-csv-path")],
    generator_name_or_path: Annotated[str, Parameter(alias="--model-name-or-path")],
    settings: Annotated[GeneratorOnly, Parameter(name="*")],
) -> None:
    """Tune a generator on questions with passages in the prompt.

    With a retriever its best passages stand beside the gold one as distractors, and in a share of
    the rows in place of it. The answer alone is in the loss.

    Parameters
    ----------
    dataset_path
        Table with questions, passages and answers: csv, tsv, jsonl, parquet, a saved dataset, a hub
        name. With a retriever a row may lack its passage.
    generator_name_or_path
        Causal language model: a folder, or a name on the Hugging Face hub.
    """
    from dalm.io.examples import read_examples
    from dalm.models.generator import load_generator
    from dalm.models.retriever import load_retriever
    from dalm.retrieval.base import DenseSearcher, build_index
    from dalm.retrieval.embedding_cache import CachedEncoder, folder_of
    from dalm.training import dry_run, generator_setup, preview, run
    from dalm.training.data.sft_rows import ReadingRows
    from dalm.training.objectives.sft import Reading
    from dalm.training.trainer import train

    this_run = run.start(
        settings,
        dataset_path=dataset_path,
        generator_name_or_path=generator_name_or_path,
    )
    generator_setup.check(settings)
    cache = folder_of(settings.cache, settings.cache_dir)
    searched = settings.retriever_name_or_path
    needs: set[Literal["passage", "answer"]] = {"answer"} if searched else {"passage", "answer"}
    examples = read_examples(dataset_path, settings, needs=needs)
    passages = generator_setup.knowledge_base(examples, settings)

    found = None
    if searched is not None:
        retriever = load_retriever(
            searched,
            this_run.place(lora=True, four_bit=False),
            lengths={"query": settings.query_max_len, "passage": settings.passage_max_len},
            prompts={"query": settings.query_prompt, "passage": settings.passage_prompt},
        )
        encoder = CachedEncoder(retriever, cache)
        index = build_index(encoder, dry_run.few(passages) if settings.dry_run else passages)
        queries = [example.query for example in examples]
        hits = DenseSearcher(retriever, index).search(queries, settings.reads() + 1)
        found = [[hit.passage for hit in row] for row in hits]
        del retriever, encoder, index  # the generator needs the room
    generator = load_generator(
        generator_name_or_path,
        this_run.place(lora=settings.use_peft, four_bit=settings.use_bnb),
        max_length=settings.generator_max_len,
    )
    if settings.use_peft:
        this_run.add_lora(generator, "CAUSAL_LM")
    rows = ReadingRows(
        examples,
        generator,
        reader_passages=settings.reads(),
        gold_probability=settings.gold_share(),
        found=found,
        seed=settings.seed,
    )
    objective = Reading.of(rows)
    this_run.ready(objective, rows)
    if settings.dry_run:
        row = preview.prompt(generator, rows.collate([0])["prompts"][0])
        dry_run.report(objective, rows, settings, this_run.placement, [row])
        return
    this_run.open()
    train(objective, rows, settings, this_run.placement, trackers=this_run.trackers)
    this_run.finish(
        objective,
        advice=f"dalm eval-rag DATASET --retriever-name-or-path {searched or 'RETRIEVER'} "
        f"--generator-name-or-path {this_run.folder}/generator --evaluate-generator",
    )
