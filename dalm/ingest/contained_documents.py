"""Keep the content of documents that stand in one another once, and the rest of each.

Of two such documents the one with more structure is preferred: more headings, then pages, then
more text, then the earlier one. Of the other only the passages are left out that stand in it.
"""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import IO

from dalm.ingest.near_duplicates import Hashes
from dalm.ingest.shared_content import MIN_SAMPLE, contained_pairs, content, sample, share_in
from dalm.records import Passage


@dataclass(slots=True)
class Sketch:
    """What is remembered of a document: where it is from, its structure, a sample of its words."""

    source: str
    headings: set[tuple[str, ...]]
    pages: bool
    length: int
    sample: Hashes

    def merge(self, other: "Sketch") -> None:
        """Add what another sketch has of the same document."""
        self.headings |= other.headings
        self.length = max(self.length, other.length)
        self.sample = sample([self.sample, other.sample])

    @property
    def rank(self) -> tuple[int, bool, int]:
        """The higher, the more is the document preferred."""
        return len(self.headings), self.pages, self.length


def sketches_of(passages: Sequence[Passage], triples: Sequence[Hashes]) -> dict[str, Sketch]:
    """Return a sketch of each document, by its id, from its passages and their word triples."""
    rows: dict[str, list[int]] = {}
    for row, passage in enumerate(passages):
        rows.setdefault(passage.document, []).append(row)
    return {
        document: Sketch(
            passages[places[0]].source,
            headings={passages[row].headings for row in places},
            pages=passages[places[0]].page is not None,
            length=sum(len(passages[row].text) for row in places),
            sample=sample([triples[row] for row in places]),
        )
        for document, places in rows.items()
    }


def add_sketches(known: dict[str, Sketch], more: Mapping[str, Sketch], growing: str = "") -> None:
    """Add documents to those known, except short ones, of which `growing` may have more."""
    for document, sketch in more.items():
        if earlier := known.get(document):
            earlier.merge(sketch)
        elif len(sketch.sample) >= MIN_SAMPLE or document == growing:
            known[document] = sketch


class ContainedPassages:
    """Find the new passages of a file that stand in a preferred document of it.

    A document's existing passages are preferred to any new ones: they stay where they are.
    """

    def __init__(self, sketches: Mapping[str, Sketch], similarity: float) -> None:
        self.sketches, self.similarity = sketches, similarity
        names = list(sketches)
        order = {name: (each.rank, -n) for n, (name, each) in enumerate(sketches.items())}
        self.partners = defaultdict[str, set[str]](set)
        for a, b in contained_pairs([each.sample for each in sketches.values()]):
            self.partners[names[a]].add(names[b])
            self.partners[names[b]].add(names[a])
        self.preferred = {
            name: sorted(other for other in others if order[other] > order[name])
            for name, others in self.partners.items()
        }
        self.contents: dict[tuple[str, bool], Hashes] = {}

    def read(self, passages: Iterable[tuple[Passage, bool]]) -> None:
        """Read what the documents concerned contain; with each passage, whether it exists."""
        texts = defaultdict[tuple[str, bool], list[str]](list)
        for passage, existing in passages:
            if passage.document in self.partners:
                texts[passage.document, existing].append(passage.text)
        self.contents = {key: content(found) for key, found in texts.items()}

    def holder(self, passage: Passage) -> tuple[str, float] | None:
        """Return the source of a document in which a new passage stands, and how much of it."""
        name = passage.document
        if name not in self.partners:
            return None
        keys = [(other, True) for other in sorted(self.partners[name])]
        keys += [(other, False) for other in self.preferred[name]]
        text = _without_headings(passage)
        for key in keys:
            if key in self.contents:
                share = share_in(text, self.contents[key], self.similarity)
                if share:
                    return self.sketches[key[0]].source, share
        return None


def _without_headings(passage: Passage) -> str:
    """Return a passage's text below its headings, which the other document may lack."""
    text = passage.text
    for heading in passage.headings:
        text = text.removeprefix(heading).lstrip() or text
    return text


def drop_lines(file: IO[bytes], keep: Callable[[bytes], bool]) -> None:
    """Leave out lines of a file that is open for reading and writing, in place."""
    file.seek(0)
    end = 0
    while line := file.readline():
        after = file.tell()
        if keep(line):
            file.seek(end)
            file.write(line)
            end += len(line)
            file.seek(after)
    file.seek(end)
    file.truncate()
