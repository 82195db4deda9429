"""Ray: two actors that both work, one of them killed, and the results of a single process."""

import json
import os
import signal
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.config import Passages
from dalm.errors import UserError
from dalm.scaling import ray_cluster, ray_pool
from dalm.scaling.pool import WorkerDiedError, check_pool
from dalm.scaling.ray_pool import RayPool

pytest.importorskip("ray", reason="needs the extra ray")
pytestmark = pytest.mark.filterwarnings("ignore")  # of Ray's own code


WORDS = ["Ada", "Bela", "Cyrus", "Dora", "Egon", "Fanny"]


@pytest.fixture(scope="module", autouse=True)
def ray() -> Iterator[ModuleType]:
    """Start a Ray of two actors and head room, which the commands of this module find."""
    # On a busy machine a worker imports for minutes, and Ray would start one after the other.
    os.environ.setdefault("RAY_worker_register_timeout_seconds", "600")
    # Nor does it kill them for the memory that other programs take.
    os.environ.setdefault("RAY_memory_monitor_refresh_ms", "0")
    with ray_cluster.connected("local", 2):
        import ray

        ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
        yield ray


@pytest.fixture
def both_are_waited_for(ray: ModuleType, monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin when both actors are there: one alone may have done small work by then."""
    context = ray.data.DataContext.get_current()
    monkeypatch.setattr(context, "wait_for_min_actors_s", 240)


def dying(number: int) -> int:
    """Die over 3."""
    if number == 3:
        os.kill(os.getpid(), signal.SIGKILL)
    return number


def test_what_kills_its_actors_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "TRIES", 1)
    with pytest.raises(WorkerDiedError) as raised:
        list(RayPool("local", actors=1).map(partial(partial, dying), range(6)))
    assert raised.value.items == [3]


def dying_when_made() -> Callable[[int], int]:
    """Die as a model does that doesn't fit into memory."""
    os.kill(os.getpid(), signal.SIGKILL)
    return dying


def broken_when_made() -> Callable[[int], int]:
    """Fail as a library does."""
    raise RuntimeError("no memory")


def test_an_actor_that_cannot_be_made_ends_the_work(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_pool, "TRIES", 1)
    with pytest.raises(UserError, match="a worker died over its work again and again"):
        list(RayPool("local", actors=1).map(dying_when_made, range(3)))
    with pytest.raises(UserError, match=r"^--ray: RuntimeError: no memory; see that every machine"):
        list(RayPool("local", actors=1).map(broken_when_made, range(3)))


def test_a_pool_that_has_no_room_is_refused() -> None:
    room = max(os.cpu_count() or 1, 2)
    with pytest.raises(UserError) as raised:
        list(RayPool("local", actors=room + 1).map(partial(partial, dying), [1]))
    assert f"has {room + 2} CPUs, and {room + 1} actors need {room + 3}" in str(raised.value)
    settings = Passages(output="a.jsonl", ray=["auto"], ray_actors=room + 1)
    with pytest.raises(UserError, match=f"has {room + 2} CPUs, and {room + 1} actors need"):
        check_pool(settings)
    with pytest.raises(UserError, match=r"--ray-gpus 1: the Ray cluster .* has 0 GPUs"):
        list(RayPool("local", actors=1, gpus=1).map(partial(partial, dying), [1]))


@pytest.fixture
def documents(tmp_path: Path) -> Path:
    """Texts, a table of many batches, a file that can't be read, and a near duplicate."""
    folder = tmp_path / "docs"
    folder.mkdir()
    for number in range(12):
        words = " ".join(f"Word {place} of text {number} stands here." for place in range(60))
        (folder / f"{number:02}.txt").write_text(f"Heading {number}\n\n{words}\n")
    (folder / "copy.txt").write_text((folder / "03.txt").read_text().replace("Heading", "Title"))
    (folder / "latin.txt").write_bytes("Über die Brücke gehen wir täglich alle.".encode("latin-1"))
    (folder / "broken.pdf").write_bytes(b"%PDF-1.7 nothing")
    rows = "".join(f"row {row},The row {row} has a text of its own here.\n" for row in range(400))
    (folder / "table.csv").write_text(f"title,text\n{rows}")
    return folder


@pytest.mark.usefixtures("both_are_waited_for")
def test_passages_are_the_same_byte_for_byte(
    documents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dalm.ingest import ingestion
    from dalm.ingest.passage_writer import PassageWriter

    monkeypatch.setattr(ingestion, "BATCH_ROWS", 4)
    monkeypatch.chdir(tmp_path)  # the same line, but for --ray
    line = ["passages", "docs", "--encoding", "auto", "--output", "passages.jsonl"]
    assert run(app, line) == 0
    alone = files_moved(tmp_path, tmp_path / "alone")
    pool, added = kept_pool(monkeypatch), PassageWriter.add

    def killing(writer: PassageWriter, batch: object) -> None:
        added(writer, batch)
        if sum(pool().done.values()) == 4:
            os.kill(next(iter(pool().done))[1], signal.SIGKILL)

    monkeypatch.setattr(PassageWriter, "add", killing)
    assert run(app, [*line, "--ray", "--ray-actors", "2"]) == 0
    assert files_moved(tmp_path, tmp_path / "by-ray") == alone
    killed, other, successor = pool().done.values()
    assert killed >= 1
    assert other >= 10
    assert successor >= 1, "what the killed actor had begun is repeated"
    assert killed + other + successor == 116


def files_moved(folder: Path, to: Path) -> dict[str, bytes]:
    """Return the files of a folder by their names, and move them away."""
    found = {file.name: file for file in folder.iterdir() if file.is_file()}
    to.mkdir()
    return {name: file.rename(to / name).read_bytes() for name, file in sorted(found.items())}


def kept_pool(monkeypatch: pytest.MonkeyPatch) -> Callable[[], RayPool]:
    """Return what gives the last pool that a command has made."""
    pools: list[RayPool] = []
    made = RayPool.of

    def keeping(settings: object) -> RayPool:
        pools.append(made(settings))
        return pools[-1]

    monkeypatch.setattr(RayPool, "of", keeping)
    return lambda: pools[-1]


@pytest.mark.usefixtures("both_are_waited_for")
def test_an_index_gets_the_same_vectors_byte_for_byte(
    tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dalm.retrieval import indexing
    from dalm.retrieval.index_folder import IndexFolder

    monkeypatch.setattr(indexing, "BLOCK", 8)
    table = tmp_path / "passages.jsonl"
    texts = [f"{word} lives in Ulm with {number} cats." for number, word in enumerate(WORDS * 20)]
    table.write_text("".join(json.dumps({"Passage": text}) + "\n" for text in texts))
    line = ["index", str(table), "--retriever-name-or-path", str(tiny_models.encoder)]
    pool, found = kept_pool(monkeypatch), {}
    for name, more in (("alone", []), ("by-ray", ["--ray", "--ray-actors", "2"])):
        assert run(app, [*line, "--index-dir", str(tmp_path / name), *more]) == 0
        store = IndexFolder(tmp_path / name).current().store
        ids = sorted(store.digests())
        found[name] = ids, store.vectors_of(ids).numpy().tobytes()
    assert found["by-ray"] == found["alone"]
    assert len(found["alone"][0]) == 120
    assert len(pool().done) == 2
    assert sum(pool().done.values()) == 15


def test_candidates_get_the_same_scores_byte_for_byte(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dalm.teachers.cross_encoder import CrossEncoder

    monkeypatch.setattr(CrossEncoder, "block", 16)
    line = ["score-candidates", str(tiny_table), "--passages", str(tiny_table), "--teacher"]
    line += ["cross-encoder", "--reranker", str(tiny_models.reranker), "--num-candidates", "5"]
    pool, found = kept_pool(monkeypatch), {}
    for name, more in (("alone", []), ("by-ray", ["--ray", "--ray-actors", "1"])):
        output, cache = tmp_path / f"{name}.jsonl", tmp_path / name
        files = ["--output", str(output), "--cache-dir", str(cache)]
        assert run(app, [*line, *files, *more]) == 0
        found[name] = output.read_bytes()
        found[f"{name} cache"] = next((cache / "scores").iterdir()).read_bytes()
    assert found["by-ray"] == found["alone"]
    assert found["by-ray cache"] == found["alone cache"]
    blocks = sum(pool().done.values())
    assert blocks > 2
    assert run(app, [*line, *files, "--overwrite-output", *more]) == 0
    assert not pool().done, "a rerun finds every score in the cache"
