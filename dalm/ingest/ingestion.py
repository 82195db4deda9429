"""Many files in, their passages out: in order, on several processes, in bounded memory."""

import json
from collections import deque
from collections.abc import Iterable, Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from multiprocessing import get_context
from typing import TYPE_CHECKING

from dalm.errors import UserError
from dalm.ingest.chunking import PlacedPassage, Splitter
from dalm.ingest.document import Document, Reading, Unread
from dalm.ingest.length_limit import Budget, TokenBudget, WordBudget
from dalm.ingest.loaders import File, read_documents

if TYPE_CHECKING:
    from dalm.ingest.near_duplicates import Signatures

BATCH, ROWS = 1_000_000, 10_000  # characters and rows that are cut together, at most
WAITING = 3  # tasks per process that may be under way


@dataclass(frozen=True, slots=True)
class Cutting:
    """How documents are read and cut; what a process needs to know."""

    reading: Reading
    max_words: int
    max_tokens: int | None
    tokenizer: str | None
    overlap: int
    min_words: int
    near_duplicates: bool


@dataclass(frozen=True, slots=True)
class Task:
    """A file to read, or documents that were read from one; `size` bytes of its way."""

    file: File
    documents: tuple[Document | Unread, ...] | None
    size: int


@dataclass(slots=True)
class Cut:
    """What became of a task: lines of JSON, with the ids and signatures of their passages."""

    size: int
    ids: list[str] = field(default_factory=list)
    lines: list[bytes] = field(default_factory=list)
    signatures: "Signatures | None" = None
    documents: int = 0
    short: int = 0
    empty: int = 0
    unread: list[Unread] = field(default_factory=list)


def tasks(files: Iterable[File], reading: Reading) -> Iterator[Task]:
    """Yield a task for every file, and for every million characters of a table."""
    for file in files:
        if not file.is_table:
            yield Task(file, None, file.size)
            continue
        left, batch, length = file.size, list[Document | Unread](), 0
        for found in read_documents(file, reading):
            batch.append(found)
            length += len(found.text) if isinstance(found, Document) else 0
            if length >= BATCH or len(batch) >= ROWS:
                size = min(left, length)
                yield Task(file, tuple(batch), size)
                left, batch, length = left - size, [], 0
        yield Task(file, tuple(batch), left)


class Cutter:
    """Carry out tasks."""

    def __init__(self, cutting: Cutting) -> None:
        budget: Budget = WordBudget(cutting.max_words)
        if cutting.tokenizer is not None and cutting.max_tokens is not None:
            budget = TokenBudget.of(cutting.tokenizer, cutting.max_tokens)
        self.cutting = cutting
        self.splitter = Splitter(budget, overlap=cutting.overlap, min_words=cutting.min_words)

    def __call__(self, task: Task) -> Cut:
        """Read a task's documents and cut them."""
        cut = Cut(task.size)
        documents = task.documents
        texts: list[str] = []
        for found in (
            documents if documents is not None else read_documents(task.file, self.cutting.reading)
        ):
            if isinstance(found, Unread):
                cut.unread.append(found)
            elif not found.text.strip():
                cut.empty += 1
            else:
                texts += self._cut(found, cut)
        if self.cutting.near_duplicates:
            from dalm.ingest.near_duplicates import signatures

            cut.signatures = signatures(texts)
        return cut

    def _cut(self, document: Document, cut: Cut) -> list[str]:
        placed = self.splitter.split(document)
        cut.documents += 1
        cut.short += not placed
        cut.ids += [each.passage.id for each in placed]
        document_id = document.id  # a hash of the whole text: once
        cut.lines += [line_of(each, document_id, document.source) for each in placed]
        return [each.passage.text for each in placed]


def line_of(placed: PlacedPassage, document: str, source: str) -> bytes:
    """Return a passage as a line of JSON, columns by the names that other commands expect."""
    cells: dict[str, object] = {
        "id": placed.passage.id,
        "Title": placed.passage.title,
        "Passage": placed.passage.text,
        "document": document,
        "source": source,
        "headings": placed.headings,
        "page": placed.page,
        "start": placed.start,
        "end": placed.end,
    }
    return json.dumps(cells, ensure_ascii=False).encode() + b"\n"


_cutter: Cutter | None = None  # of this process


def _start(cutting: Cutting) -> None:
    global _cutter  # noqa: PLW0603 - the one place of a process that outlives a task
    _cutter = Cutter(cutting)


def _carry_out(task: Task) -> Cut:
    assert _cutter is not None
    return _cutter(task)


def cut_all(files: Iterable[File], cutting: Cutting, processes: int) -> Iterator[Cut]:
    """Cut files on `processes` processes; what comes out doesn't depend on their number.

    Raises:
        UserError: the tokenizer can't be loaded, or a process died.
    """
    todo = tasks(files, cutting.reading)
    if processes == 1:
        yield from map(Cutter(cutting), todo)
        return
    if cutting.tokenizer is not None:
        Cutter(cutting)  # refused here in one line, not by every process in its own
    waiting: deque[tuple[Task, Future[Cut]]] = deque()
    # Fresh processes: a copy of this one would copy the locks of its threads, held or not.
    pool = ProcessPoolExecutor(
        processes, mp_context=get_context("spawn"), initializer=_start, initargs=(cutting,)
    )
    try:
        for task in todo:
            waiting.append((task, pool.submit(_carry_out, task)))
            if len(waiting) >= WAITING * processes:
                yield waiting.popleft()[1].result()
        while waiting:
            yield waiting.popleft()[1].result()
    except BrokenProcessPool as error:
        names = ", ".join(dict.fromkeys(task.file.source for task, _ in waiting))
        raise UserError(
            f"a process died while reading {names or 'a file'}: too little memory, or a file that "
            "breaks its reader; try --processes 1, or leave the file out"
        ) from error
    finally:
        pool.shutdown(wait=True, cancel_futures=True)
