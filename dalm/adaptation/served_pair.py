"""Know the pair that an index serves, and keep the tuned ones that its generations are of."""

import hashlib
import os
import shutil
from contextlib import suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from dalm import artifacts
from dalm.adaptation.contents import MISSING, content_of
from dalm.file_reading import DamagedError, read_record
from dalm.retrieval.index_folder import POINTER, Description, IndexFolder

PAIR = "pair.json"


@dataclass(frozen=True, slots=True)
class Pair:
    """A retriever and a generator: folders or hub names."""

    retriever: str
    generator: str


@dataclass(frozen=True, slots=True)
class _Kept:
    """What is known of a pair that is kept: the content it has, and the pair before it."""

    content: str
    before_retriever: str
    before_generator: str


class ServedPairs:
    """The pairs of a system: the untuned one, those that were kept, and the one that is served.

    A tuned pair is kept (`models/1`, `models/2` ...) when the index is switched to it, so that
    training again doesn't change the models that it was built with.
    """

    def __init__(self, folder: Path, untuned: Pair) -> None:
        self.folder, self.untuned = folder / "models", untuned
        self.index = IndexFolder(folder / "index")

    def served(self) -> Pair | None:
        """Return the pair of the generation that is searched; None: there is no index."""
        if self.index.pointer is None or (made := self.index.described()) is None:
            return None
        return self._pair_of(made)

    def previous(self, served: Pair) -> Pair | None:
        """Return the pair of the generation before; None: there is none, or it is the same."""
        made = self.index.described(previous=True)
        pair = None if made is None else self._pair_of(made)
        return None if pair == served else pair

    def _pair_of(self, made: Description) -> Pair:
        if (number := self._number_of(made.retriever)) is not None:
            return Pair(made.retriever, str(self.folder / str(number) / "generator"))
        return Pair(made.retriever, self.untuned.generator)

    def before(self, tuned: Pair) -> Pair:
        """Return the pair that a tuned one is compared with: the one served when it was made.

        While the tuned pair is served itself, that is the one before it.
        """
        served = self.served()
        if served is None:
            return self.untuned
        number = self._number_of(served.retriever)
        if number is not None and (kept := self._kept(number)).content == content_of_pair(tuned):
            served = Pair(kept.before_retriever, kept.before_generator)
        gone = MISSING in (content_of(served.retriever), content_of(served.generator))
        names = all("/" not in each or Path(each).exists() for each in asdict(served).values())
        return self.untuned if gone or not names else served

    def keep(self, tuned: Pair, before: Pair) -> Pair:
        """Copy a tuned pair, by hard links where the disk has them, and return the copy."""
        content = content_of_pair(tuned)
        numbers = self._numbers()
        same = (n for n in numbers if self._kept(n).content == content)
        number = next(same, max(numbers, default=0) + 1)
        target = self.folder / str(number)
        if not target.exists():
            with artifacts.write_folder(target) as staging:
                for name, source in asdict(tuned).items():
                    shutil.copytree(source, staging / name, copy_function=_link)
                kept = _Kept(content, before.retriever, before.generator)
                artifacts.write_json(staging / PAIR, asdict(kept))
        return Pair(str((target / "retriever").absolute()), str(target / "generator"))

    def drop_unused(self) -> None:
        """Delete the kept pairs that no generation of the index is of."""
        used = set()
        for number in self.index.numbers():
            with suppress(DamagedError):
                file = self.index.path / "generations" / str(number) / POINTER
                used.add(self._number_of(read_record(file, Description).retriever))
        for number in self._numbers():
            if number not in used:
                shutil.rmtree(self.folder / str(number), ignore_errors=True)

    def _numbers(self) -> list[int]:
        if not self.folder.is_dir():
            return []
        return sorted(int(each.name) for each in self.folder.iterdir() if each.name.isdecimal())

    def _number_of(self, retriever: str) -> int | None:
        path = Path(retriever)
        for number in self._numbers():
            if path == (self.folder / str(number) / "retriever").absolute():
                return number
        return None

    def _kept(self, number: int) -> _Kept:
        remedy = "take it from a backup, or adapt in another --output-dir"
        return read_record(self.folder / str(number) / PAIR, _Kept, remedy)


def content_of_pair(pair: Pair) -> str:
    """Return a hash of both models' files."""
    parts = f"{content_of(pair.retriever)} {content_of(pair.generator)}"
    return hashlib.sha256(parts.encode()).hexdigest()[:32]


def _link(source: str, target: str) -> None:
    try:
        os.link(source, target)
    except OSError:  # another disk, or one without hard links
        shutil.copy2(source, target)
