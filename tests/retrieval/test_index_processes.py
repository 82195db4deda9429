"""Processes that write, search and delete one index at once; what a stopped one leaves behind."""

import multiprocessing
import os
import signal
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from typing import Any

import pytest
import torch

from dalm import stop_signals
from dalm.cli import app, run
from dalm.models.retriever import Retriever
from dalm.records import Passage
from dalm.retrieval import indexing
from dalm.retrieval.index_folder import IndexFolder
from tests.retrieval.test_indexing import DIM, MADE, Encoder, passages

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")

PATIENCE = 120.0
IN_BLOCKS_OF = 4
FRESH: Any = multiprocessing.get_context("forkserver") if hasattr(os, "fork") else None
"""Forks a process that has imported LanceDB and not used it: its threads don't survive a fork."""
if FRESH:
    FRESH.set_forkserver_preload(["sentence_transformers", "dalm.retrieval.stores.lance", __name__])

Start = Callable[..., tuple[BaseProcess, Connection]]


@pytest.fixture
def start() -> Iterator[Start]:
    """Start a function in a process of its own, with one end of a pipe; return the other end."""
    started = []

    def begin(function: Callable[..., None], *given: object) -> tuple[BaseProcess, Connection]:
        here, there = FRESH.Pipe()
        process = FRESH.Process(target=function, args=(there, *given), daemon=True)
        process.start()
        there.close()
        started.append(process)
        return process, here

    yield begin
    for process in started:
        process.kill()
        process.join()


def received(pipe: Connection) -> Any:
    assert pipe.poll(PATIENCE), "the other process said nothing"
    return pipe.recv()


def found(generation: Any) -> tuple[list[str], list[str]]:
    """Return the texts found by words and by vectors: all that are there."""
    [words] = generation.store.text_search(["text"], 100)
    [near] = generation.store.search(torch.ones(1, DIM), 100)
    return tuple(sorted(hit.passage.text for hit in hits) for hits in (words, near))  # type: ignore[return-value]


def search_on(pipe: Connection, path: Path) -> None:
    """Search until told to end, and send what each search found when asked for it."""
    searched = IndexFolder(path).current()
    seen = [found(searched)]
    pipe.send("ready")
    while True:
        while not pipe.poll():
            seen.append(found(searched))
        if pipe.recv() == "end":
            return
        pipe.send((seen, found(searched)))
        seen = []


def built(path: Path, content: list[Passage], fingerprint: str = "one") -> IndexFolder:
    folder = IndexFolder(path)
    generation = folder.begin(replace(MADE, fingerprint=fingerprint))
    indexing.update(generation.store, content, Encoder(), prune=True)
    generation.store.optimise(in_use=False)
    folder.switch(generation.number)
    return folder


def version(number: int) -> list[Passage]:
    """Ten passages that stay, ten that change, and ten that only this version has."""
    changing = [Passage(f"changing {n}", f"text changing {n} v{number}") for n in range(10)]
    own = [Passage(f"own {n} v{number}", f"text own {n} v{number}") for n in range(10)]
    return [*passages(10), *changing, *own]


def test_searches_during_updates_and_compaction_find_everything_once(start, tmp_path):
    folder = built(tmp_path / "index", version(0))
    _, pipe = start(search_on, folder.path)
    assert received(pipe) == "ready"
    store = folder.current(to_search=False).store
    searches = []
    for number in range(1, 6):
        indexing.update(store, version(number), Encoder(), prune=True)
        store.optimise(in_use=True)
        pipe.send("what was found?")
        seen, now = received(pipe)
        assert now == (right := sorted(each.text for each in version(number)), right)
        searches += [texts for pair in seen for texts in pair]
    for texts in searches:
        assert {f"text {n}" for n in range(10)} <= set(texts)
        names = [text.partition(" v")[0] for text in texts if "changing" in text]
        assert names == [f"text changing {n}" for n in range(10)]  # each once, old or new
    assert len(searches) >= 10


def test_what_another_process_searches_is_deleted_when_that_has_ended(start, tmp_path):
    folder = built(tmp_path / "index", version(0))
    reader, pipe = start(search_on, folder.path)
    assert received(pipe) == "ready"
    built(folder.path, version(1), "two")
    assert folder.drop(0) == []
    pipe.send("what was found?")
    assert received(pipe)[1][0] == sorted(each.text for each in version(0))
    assert reader.pid is not None
    os.kill(reader.pid, signal.SIGKILL)
    reader.join()
    assert folder.drop(0) == [1]
    assert folder.numbers() == [2]


def stop_in_third_block(pipe: Connection, line: list[str]) -> None:
    """Run a command in small blocks, and say when the third one is to be encoded."""
    stop_signals.listen()
    indexing.BLOCK = IN_BLOCKS_OF
    encode, blocks = Retriever.encode_tokens, []

    def waiting(self: Retriever, rows: Any, kind: Any) -> Any:
        blocks.append(rows)
        if len(blocks) == 3:
            pipe.send("encoding")
            while True:
                time.sleep(0.05)
        return encode(self, rows, kind)

    Retriever.encode_tokens = waiting  # type: ignore[method-assign]
    sys.exit(run(app, line))


@pytest.mark.parametrize(("number", "code"), [("SIGTERM", 143), ("SIGKILL", -9)])
def test_a_stopped_run_goes_on_with_what_is_not_stored(
    number, code, start, tmp_path, tiny_table, tiny_models, monkeypatch
):
    index = tmp_path / "index"
    line = ["index", str(tiny_table), "--index-dir", str(index), "--device", "cpu"]
    line += ["--retriever-name-or-path", str(tiny_models.encoder), "--precision", "fp32"]
    process, pipe = start(stop_in_third_block, line)
    assert received(pipe) == "encoding"
    assert process.pid is not None
    os.kill(process.pid, getattr(signal, number))
    process.join(PATIENCE)
    assert process.exitcode == code
    assert IndexFolder(index).pointer is None
    encoded: list[str] = []
    encode = Retriever.encode_tokens

    def counted(self: Retriever, rows: Any, kind: Any) -> Any:
        encoded.extend(rows)
        return encode(self, rows, kind)

    monkeypatch.setattr(Retriever, "encode_tokens", counted)
    assert run(app, line) == 0
    assert len(encoded) == 10 - 2 * IN_BLOCKS_OF
    assert IndexFolder(index).current().store.count() == 10
    assert [path.name for path in tmp_path.iterdir() if not path.name.endswith(".lock")] == [
        "index"
    ]
