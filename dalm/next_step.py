"""Name the command to run next, complete, so that it runs as it is printed."""

import logging
import shlex
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

from dalm import file_reading
from dalm.file_reading import user_path

logger = logging.getLogger(__name__)

RETRIEVER = "BAAI/bge-small-en-v1.5"
GENERATOR = "Qwen/Qwen2.5-0.5B-Instruct"
"""Models to begin with, where the command knows none."""
_said: list[bool] = []
COLUMNS = ("passage_column", "query_column", "answer_column", "title_column", "encoding")


@contextmanager
def unsaid() -> Iterator[None]:
    """Log no next command within the block: the command that others are part of knows its own."""
    _said.append(False)
    try:
        yield
    finally:
        _said.pop()


def log_next(words: Iterable[object]) -> None:
    """Log a command of `dalm` as the shell takes it."""
    if _said and not _said[-1]:
        return
    logger.info("next       %s", line(words))


def line(words: Iterable[object]) -> str:
    """Return a command of `dalm` as the shell takes it."""
    return shlex.join(["dalm", *map(str, words)])


def held_out_table(train: str | Path) -> Path | None:
    """Return the table of test questions beside a table of training questions, if there is one."""
    path = user_path(train)
    name = path.name.replace("train", "test")
    other = path.with_name(name) if path.name else path
    return other if name != path.name and other.exists() else None


def known_table(model: str | Path) -> str | None:
    """Return the table that a model was trained on, by the settings of its run."""
    folder = user_path(model)
    for place in (folder, folder.parent):
        try:
            table = file_reading.read_yaml(place / "settings.yaml").get("dataset_path")
        except (OSError, ValueError):
            continue
        if isinstance(table, str) and user_path(table).exists():
            return table
    return None


def evaluating(command: str, train: str | None, settings: Any, *words: object) -> list[object]:
    """Return an evaluation on the test questions beside a training table, else its help."""
    test = train and held_out_table(train)
    if not test:
        return [command, "--help"]
    return [command, test, *words, *_columns(settings), *_passages(settings)]


def after_training(
    command: str,
    train: str,
    settings: Any,
    retriever: object,
    *words: object,
    has_corpus: bool = True,
) -> list[object]:
    """Return an evaluation on the test questions, or without any an index of the passages.

    `has_corpus`: the training table's passages, or those of --passages, are the corpus.
    """
    models = ["--retriever-name-or-path", retriever]
    if held_out_table(train) or not has_corpus:
        return evaluating(command, train, settings, *models, *words)
    sources = getattr(settings, "passages", None) or [train]
    return indexing(sources, retriever, f"{settings.output_dir}-index", settings)


def after_reranker_training(train: str, settings: Any, reranker: object) -> list[object]:
    """Return an evaluation on the test questions behind a common retriever, or its help."""
    models = ["--retriever-name-or-path", RETRIEVER, "--reranker", reranker]
    return evaluating("eval-retriever", train, settings, *models)


def indexing(
    sources: Iterable[object], retriever: object, folder: object, settings: Any = None
) -> list[object]:
    """Return the command that indexes passages with a retriever."""
    options = ["--retriever-name-or-path", retriever, "--index-dir", folder]
    column = getattr(settings, "passage_column", "Passage")
    if column != "Passage":
        options += ["--text-column", column]
    return ["index", *sources, *options]


def _columns(settings: Any) -> list[object]:
    """Return the names of columns that aren't the default ones."""
    defaults = {each.name: each.default for each in fields(settings)}
    given: list[object] = []
    for name in COLUMNS:
        value = getattr(settings, name, None)
        if name in defaults and value is not None and value != defaults[name]:
            given += [f"--{name.replace('_', '-')}", value]
    return given + ["--prepend-title"] * bool(getattr(settings, "prepend_title", False))


def _passages(settings: Any) -> list[object]:
    more = getattr(settings, "passages", None) or []
    return ["--passages", *more] if more else []
