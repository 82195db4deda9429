"""Write new passages after those of the existing file."""

import json
import logging
from collections.abc import Sequence
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from dalm import artifacts, file_reading, progress
from dalm.config import Passages
from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.ingest.ingestion import BatchResult, ingest
from dalm.ingest.loaders.loader import File, Skipped
from dalm.ingest.near_duplicates import NearDuplicateFilter, signatures
from dalm.records import Passage

logger = logging.getLogger(__name__)

SAME_OPTIONS = ("max_words", "max_tokens", "tokenizer", "overlap", "min_words")
"""Options that must be the same for all passages of a file."""
BLOCK = 1024  # lines whose signatures are computed together


@dataclass(frozen=True, slots=True)
class OutputFiles:
    """The file of passages, and those beside it: its settings, and what could not be read."""

    passages: Path

    @property
    def settings(self) -> Path:
        """The options; a valid `--config`."""
        return self.passages.with_suffix(".settings.yaml")

    @property
    def unread(self) -> Path:
        """The files and rows that could not be read."""
        return self.passages.with_suffix(".unread.tsv")

    @classmethod
    def of(cls, settings: Passages) -> "OutputFiles":
        """Return the files for `--output`.

        Raises:
            UserError: it is not a .jsonl file, or can't be written.
        """
        path = user_path(settings.output)
        if path.suffix.lower() != ".jsonl":
            raise UserError(f"--output {path}: name a file that ends in .jsonl")
        artifacts.check_file("--output", path, True, "--overwrite-output")
        return cls(path)

    def appends(self, settings: Passages) -> bool:
        """Tell whether new passages are appended to existing ones.

        Raises:
            UserError: the existing passages were split with other options.
        """
        if settings.overwrite_output or not self.passages.exists():
            return False
        remedy = "name another --output, or add --overwrite-output to replace it"
        try:
            earlier = file_reading.read_yaml(self.settings)
            changed = [name for name in SAME_OPTIONS if earlier[name] != getattr(settings, name)]
        except (UserError, KeyError) as error:
            raise UserError(
                f"--output {self.passages} exists, without the {self.settings.name} of the run "
                f"that made it; {remedy}"
            ) from error
        if changed:
            options = ", ".join(f"--{name.replace('_', '-')} {earlier[name]}" for name in changed)
            raise UserError(f"--output {self.passages} was made with {options}; {remedy}")
        return True


@dataclass(slots=True)
class Counts:
    """How many passages and documents there were."""

    existing: int = 0
    """Passages of the existing file."""
    missing: int = 0
    """Of these, passages that the documents no longer contain."""
    new: int = 0
    duplicates: int = 0
    """Passages equal to an existing or an earlier one."""
    near_duplicates: int = 0
    documents: int = 0
    """Documents that were read, wholly or in part."""
    in_part: int = 0
    unread: int = 0
    """Files and rows that could not be read."""
    short: int = 0
    empty: int = 0

    def require_documents(self, skipped: Sequence[Skipped]) -> None:
        """Raise UserError if there was no document at all."""
        if self.documents:
            return
        if skipped:
            first = skipped[0]
            more = f" (and {len(skipped) - 1} more)" if len(skipped) > 1 else ""
            raise UserError(f"nothing could be read: {first.source}: {first.reason}{more}")
        raise UserError(
            f"none of {self.empty} rows has a text; name its column: --text-column NAME"
        )

    def log(self) -> None:
        """Log what was read, written and left out."""
        notes = []
        if self.short:
            notes.append(f"{self.short} shorter than --min-words, without a passage")
        if self.empty:
            notes.append(f"besides {self.empty} rows without a text")
        logger.info("documents  %s%s", self._read(), f" ({'; '.join(notes)})" if notes else "")
        logger.info(
            "passages   %d: %d new, %d existing; left out %d duplicates, %d near duplicates",
            *(self.existing + self.new, self.new, self.existing),
            *(self.duplicates, self.near_duplicates),
        )
        if self.missing:
            logger.warning(
                "           %d of the existing passages are in none of these documents; "
                "--overwrite-output makes the file anew",
                self.missing,
            )

    def _read(self) -> str:
        """Return how many documents were read, and how far if not all of them wholly."""
        if not self.unread and not self.in_part:
            return str(self.documents)
        whole = self.documents - self.in_part
        total = self.documents + self.unread
        return f"{total}: {whole} whole, {self.in_part} in part, {self.unread} unread"


class PassageWriter:
    """Write passages that are new, by id and unlike earlier ones, to an open file."""

    def __init__(self, out: IO[bytes], near_duplicates: float) -> None:
        """Leave out passages of at least the similarity `near_duplicates`; 1 turns this off."""
        self.out = out
        self.filter = NearDuplicateFilter(near_duplicates) if near_duplicates < 1 else None
        self.counts = Counts()
        self._seen: set[bytes] = set()
        self._existing: set[bytes] = set()

    def copy(self, path: Path) -> None:
        """Copy the lines of an existing file, byte for byte.

        Raises:
            UserError: a line that is not a passage.
        """
        size = path.stat().st_size
        with (
            path.open("rb") as lines,
            progress.Bar(size, "existing passages", "B") as bar,
        ):
            block: list[bytes] = []
            for line in lines:
                block.append(line if line.endswith(b"\n") else line + b"\n")
                if len(block) == BLOCK:
                    bar.update(self._copy(path, block))
                    block = []
            bar.update(self._copy(path, block))

    def _copy(self, path: Path, lines: list[bytes]) -> int:
        """Copy the next lines and return their bytes."""
        texts = []
        for number, line in enumerate(lines, self.counts.existing + 1):
            try:
                row = json.loads(line)
                text = row["Passage"]
                Passage.from_dict(row | {"text": text})
                key = bytes.fromhex(row["id"])
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{path}, line {number}: not a passage that this command wrote; name another "
                    "--output, or add --overwrite-output to replace the file"
                ) from error
            self._existing.add(key)
            texts.append(text)
        if self.filter:
            self.filter.add(signatures(texts))
        self.out.writelines(lines)
        self.counts.existing += len(lines)
        self.counts.missing = len(self._existing)
        return sum(map(len, lines))

    def add(self, batch: BatchResult) -> None:
        """Write a batch's new passages, and count the others."""
        counts = self.counts
        counts.documents += batch.documents
        counts.in_part += batch.in_part
        counts.short += batch.short
        counts.empty += batch.empty
        new = [i for i, passage in enumerate(batch.ids) if self._is_new(passage)]
        counts.duplicates += len(batch.ids) - len(new)
        if self.filter is not None and batch.signatures is not None and new:
            kept = self.filter.add(batch.signatures[new])
            counts.near_duplicates += len(new) - int(kept.sum())
            new = [i for i, keep in zip(new, kept, strict=True) if keep]
        counts.new += len(new)
        self.out.writelines([batch.lines[i] for i in new])

    def _is_new(self, passage: str) -> bool:
        """Tell whether a passage's id is met for the first time."""
        key = bytes.fromhex(passage)
        if key in self._seen:
            return False
        self._seen.add(key)
        if key in self._existing:
            self.counts.missing -= 1
            return False
        return True


def write_passages(
    writer: PassageWriter, files: Sequence[File], unread: Sequence[Skipped], settings: Passages
) -> list[Skipped]:
    """Split files into passages and write them; return what could not be read, after `unread`.

    Raises:
        UserError: as `ingest`.
    """
    found = list(unread)
    total = sum(file.size for file in files)
    with (
        progress.Bar(total, "passages", "B") as bar,
        closing(ingest(files, settings)) as batches,  # it ends its worker processes
    ):
        for batch in batches:
            writer.add(batch)
            found += batch.unread
            bar.update(batch.size)
    writer.counts.unread = sum(not each.part for each in found)
    writer.counts.require_documents(found)
    return found
