"""A run of `dalm passages` from the outside: what is refused, its progress, its last lines."""

import logging
import os
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml

from dalm import progress
from dalm.config import Passages, check, public
from dalm.errors import UserError
from dalm.ingest.document import MEGABYTE, Reading, Unread
from dalm.ingest.ingestion import Cutting
from dalm.ingest.loaders import File, find_files
from dalm.ingest.passage_file import Counts, PassageFile

if TYPE_CHECKING:
    from dalm.ingest.near_duplicates import NearDuplicates

logger = logging.getLogger(__name__)

CUT_ALIKE = ("max_words", "max_tokens", "tokenizer", "overlap", "min_words")
"""Options that must not change when a file of passages grows."""
NAMED = 20  # unread files that are named on the terminal; all of them are in the file beside


@dataclass(frozen=True, slots=True)
class Output:
    """The file of passages, and those beside it: its settings, and what was left unread."""

    passages: Path
    grows: bool
    """It is there, and stays."""

    @property
    def settings(self) -> Path:
        """Where the options are kept; a valid `--config`."""
        return self.passages.with_suffix(".settings.yaml")

    @property
    def unread(self) -> Path:
        """Where everything that could not be read is named."""
        return self.passages.with_suffix(".unread.tsv")

    def write_beside(self, settings: Passages, docs: list[str], unread: Sequence[Unread]) -> None:
        """Write options, and what was left unread."""
        text = yaml.safe_dump(public(settings, docs=docs), sort_keys=False, allow_unicode=True)
        _replace(self.settings, text)
        if unread:
            rows = (f"{_cell(each.source)}\t{_cell(each.reason)}\n" for each in unread)
            _replace(self.unread, "source\treason\n" + "".join(rows))
        else:
            self.unread.unlink(missing_ok=True)


def _cell(text: str) -> str:
    return " ".join(text.split())


def _replace(path: Path, text: str) -> None:
    partial = path.with_name(f".{path.name}.partial")
    partial.write_text(text, encoding="utf-8")
    partial.replace(path)


def start(settings: Passages) -> Output:
    """Refuse what can't work, and return where the passages go.

    Raises:
        UserError: a value out of range, a file in the way, or passages that were cut otherwise.
    """
    check(settings)
    if settings.tokenizer is not None and settings.max_tokens is None:
        raise UserError("--tokenizer has no effect without --max-tokens; add it")
    limit = settings.max_tokens or settings.max_words
    if 2 * settings.overlap >= limit:
        raise UserError(f"--overlap {settings.overlap}: must be under half a passage, {limit}")
    if settings.max_tokens is None and settings.min_words > settings.max_words:
        raise UserError(
            f"--min-words {settings.min_words}: must be at most --max-words {settings.max_words}"
        )
    try:
        "".encode(settings.encoding)
    except LookupError:
        raise UserError(f"--encoding {settings.encoding}: unknown; say utf-8 or cp1252") from None
    path = Path(settings.output).expanduser()
    _check_output(path)
    output = Output(path, grows=path.exists() and not settings.overwrite_output)
    if output.grows:
        _check_cut_alike(output, settings)
    return output


def _check_output(path: Path) -> None:
    if path.suffix.lower() != ".jsonl":
        raise UserError(f"--output {path}: name a file that ends in .jsonl")
    if path.is_dir():
        raise UserError(f"--output {path}: a folder; name a file in it, as {path}/passages.jsonl")
    there = next(parent for parent in path.absolute().parents if parent.exists())
    if not there.is_dir() or not os.access(there, os.W_OK | os.X_OK):
        raise UserError(f"--output {path}: no right to write to {there}; name another folder")


def _check_cut_alike(output: Output, settings: Passages) -> None:
    remedy = "name another --output, or add --overwrite-output to make it anew"
    try:
        before = yaml.safe_load(output.settings.read_text(encoding="utf-8"))
        changed = [name for name in CUT_ALIKE if before[name] != getattr(settings, name)]
    except (OSError, UnicodeDecodeError, yaml.YAMLError, KeyError, TypeError) as error:
        raise UserError(
            f"--output {output.passages} is there, without the {output.settings.name} of a run "
            f"that made it; {remedy}"
        ) from error
    if changed:
        options = ", ".join(f"--{name.replace('_', '-')} {before[name]}" for name in changed)
        raise UserError(f"--output {output.passages} was made with {options}; {remedy}")


def find(docs: Sequence[str], output: Output) -> tuple[list[File], list[Unread]]:
    """Return the files to read, without this command's own, and what can't be read at all."""
    own = (output.passages, output.settings, output.unread)
    files, unread = find_files(docs, without=own)
    if not files and not unread:
        raise UserError(f"no files in {', '.join(docs)}; name a folder with documents")
    return files, unread


def near_duplicates(settings: Passages) -> "NearDuplicates | None":
    """Return what tells near duplicates, unless it is switched off."""
    if settings.near_duplicates >= 1:
        return None
    from dalm.ingest.near_duplicates import NearDuplicates

    return NearDuplicates(settings.near_duplicates)


def cutting(settings: Passages) -> Cutting:
    """Return the options of reading and cutting alone: what every process is told."""
    return Cutting(
        reading=Reading(
            text_column=settings.text_column,
            title_column=settings.title_column,
            encoding=settings.encoding,
            max_bytes=settings.max_megabytes * MEGABYTE,
        ),
        max_words=settings.max_words,
        max_tokens=settings.max_tokens,
        tokenizer=settings.tokenizer,
        overlap=settings.overlap,
        min_words=settings.min_words,
        near_duplicates=settings.near_duplicates < 1,
    )


@contextmanager
def bar(total: int, what: str) -> Iterator[Callable[[int], None]]:
    """Show megabytes done of `total` bytes; what comes out is called with every further bytes."""
    done = 0
    with progress.bar(_megabytes(total), what, "MB", delay=2.0) as shown:

        def advance(size: int) -> None:
            nonlocal done
            before, done = done, done + size
            shown.update(_megabytes(done) - _megabytes(before))

        yield advance


def _megabytes(size: int) -> int:
    return -(-size // MEGABYTE)


def keep(file: PassageFile, output: Output) -> None:
    """Take over the passages that are there."""
    if output.grows:
        with bar(output.passages.stat().st_size, "passages there") as advance:
            for size in file.keep_what_is_there():
                advance(size)


def refuse_nothing(counts: Counts, unread: Sequence[Unread]) -> None:
    """Raise UserError when no document was found at all."""
    if counts.documents:
        return
    if unread:
        first = unread[0]
        more = f" (and {len(unread) - 1} more)" if len(unread) > 1 else ""
        raise UserError(f"nothing could be read: {first.source}: {first.reason}{more}")
    raise UserError(f"none of {counts.empty} rows has a text; name its column: --text-column NAME")


def finish(output: Output, counts: Counts, unread: Sequence[Unread]) -> None:
    """Say what was read, left out and written, and what to do next."""
    for each in unread[:NAMED]:
        logger.warning("unread     %s: %s", each.source, each.reason)
    if unread:
        kinds = Counter(_kind(each.reason) for each in unread)
        listed = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common(5))
        more = f", … ({len(kinds) - 5} other reasons)" if len(kinds) > 5 else ""
        logger.warning(
            "unread     %d in all: %s%s; see %s", len(unread), listed, more, output.unread
        )
    logger.info("documents  %d%s", counts.documents, _aside(counts))
    logger.info(
        "passages   %d: %d new, %d there before; left out %d duplicates, %d near duplicates",
        *(counts.there + counts.new, counts.new, counts.there, counts.again, counts.near),
    )
    if counts.lost:
        logger.warning(
            "           %d of those there before are in none of these documents; "
            "--overwrite-output makes the file anew",
            counts.lost,
        )
    logger.info("written    %s", output.passages)
    logger.info("settings   %s", output.settings)
    logger.info("next       dalm qa-gen %s --output-dir DIR", output.passages)


def _aside(counts: Counts) -> str:
    asides = []
    if counts.short:
        asides.append(f"{counts.short} shorter than --min-words, without a passage")
    if counts.empty:
        asides.append(f"besides {counts.empty} rows without a text")
    return f" ({'; '.join(asides)})" if asides else ""


def _kind(reason: str) -> str:
    """Return the gist of a reason, by which it is counted: without place and remedy."""
    place, _, rest = reason.partition(": ")
    gist = rest if place.startswith("line ") and rest else reason
    return gist.partition(";")[0].partition(" (")[0]
