"""A run of `dalm qa-gen` from the outside: what is refused, its last lines."""

import logging
from collections.abc import Sequence
from pathlib import Path

import yaml

from dalm.config import QaGen, check, check_output_dir, public
from dalm.config.data import SINGLE_KINDS
from dalm.errors import UserError
from dalm.synth import pairs
from dalm.synth.pairs import Pair, Rejection
from dalm.synth.question_prompts import Wording
from dalm.synth.selection import counted

logger = logging.getLogger(__name__)

JOURNAL = "journal.jsonl"
FORMS = ("csv", "jsonl", "dataset")
SHOWN = 100  # characters of an example in the table of rejections


def start(settings: QaGen) -> Path:
    """Refuse what can't work, before anything is read or asked; return the folder to write to.

    Raises:
        UserError: a value out of range, a model that isn't named, or results in the folder.
    """
    check(settings)
    folder = Path(settings.output_dir).expanduser()
    if settings.backend == "transformers" and not settings.generator_name_or_path:
        raise UserError("--backend transformers needs --model, a folder or a name on the hub")
    if settings.dry_run and settings.limit:
        raise UserError("--dry-run asks nothing, --limit tries some; leave out one of them")
    check_output_dir(folder)
    if settings.dry_run or settings.limit:
        return folder
    there = pairs.written(folder)
    if there and not settings.overwrite_output_dir and not pairs.is_unfinished(folder):
        raise UserError(
            f"--output-dir {folder} holds results ({there[0].name}); name another folder, or add "
            "--overwrite-output-dir (what a model answered is kept, and not asked again)"
        )
    return folder


def wording(settings: QaGen) -> Wording:
    """Return what is asked for of each passage."""
    return Wording(settings.questions_per_passage, tuple(settings.kinds or SINGLE_KINDS))


def report_rejections(passed: int, rejections: Sequence[Rejection]) -> None:
    """Print what each gate turned away, with an example."""
    logger.info("questions  %d passed the gates, %d did not", passed, len(rejections))
    for gate, number, example in counted(rejections):
        said = f"{example.query or example.answer!r} ({example.reason})"
        logger.info("  %-27s%6d  %s", gate, number, _short(said))


def write(
    folder: Path,
    settings: QaGen,
    dataset_path: str,
    sides: tuple[Sequence[Pair], Sequence[Pair]],
    rejections: Sequence[Rejection],
) -> None:
    """Write the tables, the rejections and the settings, all or nothing, and say where.

    Raises:
        UserError: no question is left; the rejections are written even so.
    """
    train, test = sides
    hard = [pair for pair in test if pair.rank is not None and pair.rank > 1]
    tables = {"train": train, "test": test, "test_hard": hard}
    forms = [form for form in FORMS if getattr(settings, f"as_{form}")] or ["csv"]
    growing = pairs.start_writing(folder)
    pairs.write_rejections(growing, rejections)
    pairs.write_pairs(growing, {name: rows for name, rows in tables.items() if rows}, forms)
    if train:
        kept = yaml.safe_dump(public(settings, dataset_path=dataset_path), sort_keys=False)
        (growing / pairs.SETTINGS).write_text(kept, encoding="utf-8")
    pairs.put_in_place(folder)
    if not train:
        raise UserError(
            f"no question passed the gates: {folder / pairs.REJECTIONS} says why; "
            "try another model, or --round-trip-k 0"
        )
    _report_files(folder, tables, forms)


def _report_files(folder: Path, tables: dict[str, Sequence[Pair]], forms: Sequence[str]) -> None:
    names = {form: "" if form == "dataset" else f".{form}" for form in forms}
    for name, rows in tables.items():
        what = "found, but not at first" if name == "test_hard" else "questions"
        for end in names.values() if rows else ():
            path = folder / f"{pairs.TABLE}_{name}{end}"
            logger.info("%-9s  %d %s: %s", name, len(rows), what, path)
    logger.info("rejected   %s", folder / pairs.REJECTIONS)
    logger.info("settings   %s (a --config for the same run)", folder / pairs.SETTINGS)
    first = folder / f"{pairs.TABLE}_train{next(iter(names.values()))}"
    logger.info("next       dalm train-rag-e2e %s RETRIEVER GENERATOR --output-dir DIR", first)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= SHOWN else f"{line[: SHOWN - 1]}…"
