"""Write new passages after those of the existing file."""

import logging
from array import array
from collections.abc import Mapping, Sequence
from contextlib import closing
from itertools import count
from pathlib import Path
from typing import IO

from dalm import progress
from dalm.config import Passages
from dalm.errors import UserError
from dalm.ingest.contained_documents import (
    ContainedPassages,
    Sketch,
    add_sketches,
    drop_lines,
    sketches_of,
)
from dalm.ingest.ingestion import BatchResult, from_json, ingest
from dalm.ingest.left_out import KeptPassages, LeftOut, Place
from dalm.ingest.loaders import loader_of
from dalm.ingest.loaders.html import HTML
from dalm.ingest.loaders.html_main_text import how_it_is_found
from dalm.ingest.loaders.loader import File, Skipped
from dalm.ingest.near_duplicates import (
    Hashes,
    NearDuplicateFilter,
    Signatures,
    shingles_and_signatures,
)
from dalm.ingest.passage_counts import Counts

logger = logging.getLogger(__name__)

BLOCK = 1024  # lines whose signatures are computed together


class PassageWriter:
    """Write passages that are new, by id and unlike earlier ones, to an open file."""

    def __init__(
        self,
        out: IO[bytes],
        near_duplicates: float,
        keep_contained: bool = False,
        listing: IO[str] | None = None,
    ) -> None:
        """Leave out passages of at least the similarity `near_duplicates`; 1 turns this off.

        `out` is open for reading and writing. What is left out is listed in `listing`, a tsv.
        """
        self.out = out
        self.similarity = near_duplicates
        self.filter = NearDuplicateFilter(near_duplicates) if near_duplicates < 1 else None
        self.has_sketches = near_duplicates < 1 and not keep_contained
        self.left_out = LeftOut(listing)
        self.counts = Counts()
        self.kept = KeptPassages()
        self._line_of_id: dict[bytes, int] = {}
        """The line of a passage that is written, or of the one that it resembles."""
        self._line_of_row = array("l")  # of the filter
        self._unmet: set[bytes] = set()
        self._sketches: dict[str, Sketch] = {}

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
        passages = []
        for number, line in enumerate(lines, self.counts.existing + 1):
            try:
                passages.append(from_json(line))
                self._unmet.add(bytes.fromhex(passages[-1].id))
            except (ValueError, KeyError, TypeError, RecursionError) as error:
                raise UserError(
                    f"{path}, line {number}: not a passage that this command wrote; name another "
                    "--output, or add --overwrite-output to replace the file"
                ) from error
        triples, found = list[Hashes](), None
        if self.filter:
            triples, found = shingles_and_signatures([passage.text for passage in passages])
        rows, similar = self._compare(found, len(passages))
        for passage, row, similarity in zip(passages, rows, similar, strict=True):
            key = bytes.fromhex(passage.id)
            if not similarity:
                self._line_of_row[row] = len(self.kept)
            self._line_of_id.setdefault(key, len(self.kept))
            self.kept.append(key, Place.of(passage))
        if self.has_sketches and passages:
            add_sketches(self._sketches, sketches_of(passages, triples), passages[-1].document)
        self.out.writelines(lines)
        self.counts.existing += len(lines)
        self.counts.missing = len(self._unmet)
        return sum(map(len, lines))

    def add(self, batch: BatchResult) -> None:
        """Write a batch's new passages; list and count the others."""
        counts = self.counts
        counts.documents += batch.documents
        counts.in_part += batch.in_part
        counts.short += batch.short
        counts.empty += batch.empty
        keys = [bytes.fromhex(passage) for passage in batch.ids]
        first = dict[bytes, int]()
        for i, key in enumerate(keys):
            if key not in self._line_of_id:
                first.setdefault(key, i)
        counts.near_duplicates += self._add_new(batch, first)
        counts.duplicates += sum(
            self._leave_out(batch, i, self._line_of_id[key], 1.0)
            for i, key in enumerate(keys)
            if first.get(key) != i
        )
        self._unmet.difference_update(keys)
        counts.missing = len(self._unmet)
        if self.has_sketches:
            add_sketches(self._sketches, batch.sketches)

    def _add_new(self, batch: BatchResult, new: Mapping[bytes, int]) -> int:
        """Write the passages that resemble no other one; return how many do."""
        places = list(new.values())
        found = None if batch.signatures is None else batch.signatures[places]
        rows, similar = self._compare(found, len(places))
        resembling = 0
        for wanted in (True, False):  # first all that are new: one of them may be resembled
            for (key, i), row, similarity in zip(new.items(), rows, similar, strict=True):
                if (similarity == 0) != wanted:
                    continue
                if wanted:
                    self._line_of_row[row] = len(self.kept)
                    self.kept.append(key, batch.places[i])
                    self.out.write(batch.lines[i])
                    self.counts.new += 1
                else:
                    resembling += self._leave_out(batch, i, self._line_of_row[row], similarity)
                self._line_of_id[key] = self._line_of_row[row]
        return resembling

    def _compare(self, found: Signatures | None, count: int) -> tuple[list[int], list[float]]:
        """Return each passage's row in the filter, and its similarity to that row's, 0 if new."""
        first = len(self._line_of_row)
        if self.filter is None or found is None:
            rows, similar = list(range(first, first + count)), [0.0] * count
        else:
            compared = self.filter.compare(found)
            rows, similar = compared[0].tolist(), compared[1].tolist()
        self._line_of_row.extend([0] * similar.count(0.0))
        return rows, similar

    def _leave_out(self, batch: BatchResult, i: int, line: int, similarity: float) -> bool:
        """List a passage that resembles a line, and is not the line itself; return whether."""
        place = batch.places[i]
        if similarity == 1 and self.kept.is_at(line, place):
            return False
        kept = self.kept.id(line), self.kept.source(line)
        self.left_out.add(from_json(batch.lines[i]), similarity, *kept)
        return True

    def leave_out_contained(self) -> None:
        """Leave out new passages that stand in another document with mostly the same content."""
        if len(self._sketches) < 2:
            return
        contained = ContainedPassages(self._sketches, self.similarity)
        if not contained.partners:
            return
        self.out.seek(0)
        existing = self.counts.existing
        contained.read((from_json(line), n < existing) for n, line in enumerate(self.out))
        numbers = count()

        def keep(line: bytes) -> bool:
            if next(numbers) < existing:
                return True
            passage = from_json(line)
            holder = contained.holder(passage)
            if holder:
                self.counts.new -= 1
                self.counts.contained += 1
                self.left_out.add(passage, holder[1], "", holder[0])
            return holder is None

        drop_lines(self.out, keep)


def write_passages(
    writer: PassageWriter, files: Sequence[File], unread: Sequence[Skipped], settings: Passages
) -> list[Skipped]:
    """Split files into passages and write them; return what could not be read, after `unread`.

    Raises:
        UserError: as `ingest`.
    """
    if settings.html == "main" and any(loader_of(file.path) is HTML for file in files):
        logger.info("html       the main text %s", how_it_is_found())
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
    writer.leave_out_contained()
    writer.counts.unread = sum(not each.part for each in found)
    writer.counts.require_documents(found)
    return found
