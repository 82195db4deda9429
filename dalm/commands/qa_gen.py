"""Generate question-answer pairs from passages, as tables to train and to evaluate on."""

from pathlib import Path
from typing import Annotated

from cyclopts import Parameter

from dalm.config import QaGen, check
from dalm.errors import UserError
from dalm.file_reading import user_path

DEFAULTS = QaGen()


def qa_gen(
    dataset_path: str,
    settings: Annotated[QaGen, Parameter(name="*")] = DEFAULTS,
) -> None:
    """Generate queries and answers from a table of passages, and split them by document.

    A language model writes them, on a server (--backend http) or loaded here (--backend
    transformers). Without a model, rules copy some from the text (--backend extractive, the
    default): a start, which retrieval by words solves nearly alone. A pair is kept if its query is
    self-contained, a quote from the passage supports its answer, no other query repeats it, and it
    retrieves its passage.

    Parameters
    ----------
    dataset_path
        Table with passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim_folder
    from dalm.io.examples import read_passages
    from dalm.synth import generation, round_trip, selection
    from dalm.synth.estimate import estimate, show_estimate
    from dalm.synth.pairs import Rejection, write_run
    from dalm.synth.question_judge import judged

    folder = _checked(settings)
    model = generation.load_model(settings)
    judge = generation.load_judge(settings, model, folder)
    passages = read_passages(dataset_path, settings.as_pair_columns())
    if settings.dry_run:
        show_estimate(estimate(folder, model, passages, settings), model, settings)
        return
    searches = list(round_trip.searches_of(passages, settings))
    rejections: list[Rejection] = []
    with claim_folder(folder, "--output-dir"):
        _check_folder(folder, settings)  # another process may have written there meanwhile
        drafts = generation.generate_pairs(folder, model, passages, settings, rejections)
        k, most = settings.round_trip_k, settings.max_overlap if model else 1
        pairs = selection.select(drafts, searches, k, rejections, most)
        if judge is not None:
            near = round_trip.passages_near(pairs, searches[0])
            pairs = judged(judge, pairs, rejections, near, settings.seed)
        if settings.limit:
            selection.print_preview(pairs, rejections)
            return
        selection.log_rejections(len(pairs), rejections)
        selection.log_types(pairs)
        sides = selection.split(pairs, passages, settings.test_share, settings.seed)
        write_run(folder, settings, dataset_path, sides, rejections)
        train, test = sides
        asked = [pair for pair in test if pair.answerable]
        round_trip.log_difficulty(asked or train, k, are_test=bool(asked))


def _checked(settings: QaGen) -> Path:
    """Refuse what can't work, before anything is read or generated; return the output folder."""
    from dalm.scaling.pool import check_pool
    from dalm.synth.query_mix import QueryMix

    check(settings)
    if settings.ray is not None and settings.backend not in ("transformers", "vllm"):
        raise UserError(
            f"--ray has no effect on --backend {settings.backend}: actors run the model of "
            "--backend transformers or vllm; leave it out"
        )
    if settings.backend == "vllm":
        _check_vllm(settings)
    check_pool(settings)
    QueryMix.of(settings)
    folder = user_path(settings.output_dir)
    local = settings.backend in ("transformers", "vllm")
    if local and not settings.generator_name_or_path:
        raise UserError(
            f"--backend {settings.backend} needs --model, a folder or a name on the hub"
        )
    if settings.dry_run and settings.limit:
        raise UserError(
            "--dry-run generates nothing, --limit some questions; leave out one of them"
        )
    _check_folder(folder, settings)
    return folder


def _check_vllm(settings: QaGen) -> None:
    from dalm.llm.vllm_model import check_installed

    if settings.ray is None:
        raise UserError("--backend vllm runs in a Ray cluster: add --ray, with its address")
    if settings.ray_gpus is not None:
        raise UserError("--ray-gpus has no effect on --backend vllm, which takes one GPU an actor")
    if not settings.dry_run:
        check_installed()


def _check_folder(folder: Path, settings: QaGen) -> None:
    from dalm.artifacts import check_folder
    from dalm.synth.pairs import check_results

    check_folder("--output-dir", folder)
    if not settings.dry_run and not settings.limit:
        check_results(folder, settings.overwrite_output_dir)
