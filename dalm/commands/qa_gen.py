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
    """Generate question-answer pairs from a table of passages, and split them by document.

    A pair is kept if its question is self-contained, a quote from the passage supports its answer,
    no other question repeats it, and it retrieves its passage.

    Parameters
    ----------
    dataset_path
        Table with passages: csv, tsv, jsonl, parquet, a saved dataset, a hub name.
    """
    from dalm.artifacts import claim_folder
    from dalm.io.examples import read_passages
    from dalm.synth import generation, selection
    from dalm.synth.pairs import Rejection, write_run

    folder = _checked(settings)
    model = generation.load_model(settings)
    passages = read_passages(dataset_path, settings.as_pair_columns())
    if settings.dry_run:
        generation.print_estimate(folder, model, passages, settings)
        return
    searches = list(selection.searches_of(passages, settings))
    rejections: list[Rejection] = []
    with claim_folder(folder, "--output-dir"):
        _check_folder(folder, settings)  # another process may have written there meanwhile
        drafts = generation.generate_pairs(folder, model, passages, settings, rejections)
        pairs = selection.select(drafts, searches, settings.round_trip_k, rejections)
        if settings.limit:
            selection.print_preview(pairs, rejections)
            return
        selection.log_rejections(len(pairs), rejections)
        sides = selection.split(pairs, passages, settings.test_share, settings.seed)
        write_run(folder, settings, dataset_path, sides, rejections)


def _checked(settings: QaGen) -> Path:
    """Refuse what can't work, before anything is read or generated; return the output folder."""
    check(settings)
    folder = user_path(settings.output_dir)
    if settings.backend == "transformers" and not settings.generator_name_or_path:
        raise UserError("--backend transformers needs --model, a folder or a name on the hub")
    if settings.dry_run and settings.limit:
        raise UserError(
            "--dry-run generates nothing, --limit some questions; leave out one of them"
        )
    _check_folder(folder, settings)
    return folder


def _check_folder(folder: Path, settings: QaGen) -> None:
    from dalm.artifacts import check_folder
    from dalm.synth.pairs import check_results

    check_folder("--output-dir", folder)
    if not settings.dry_run and not settings.limit:
        check_results(folder, settings.overwrite_output_dir)
