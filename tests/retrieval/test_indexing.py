"""An index follows its source: nothing is encoded twice, nothing deleted is found, no mixture."""

import shutil
from collections.abc import Generator, Iterable, Sequence
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from dalm.analyser import ANALYSER
from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.index_folder import FORMAT, Description, IndexFolder
from dalm.retrieval.indexing import BLOCK, Changes, update
from dalm.retrieval.stores.lance import LanceStore

DIM = 4
MADE = Description(
    format=FORMAT,
    retriever="r",
    adapter=None,
    fingerprint="one",
    dim=DIM,
    query_prompt="",
    passage_prompt="",
    query_max_len=50,
    passage_max_len=128,
    retriever_is_autoregressive=None,
    columns={},
    analyser=ANALYSER,
)


class Encoder:
    """Count the texts that are encoded; fail after some of them, as a kill would."""

    def __init__(self, most: int = 10**9) -> None:
        self.texts: list[str] = []
        self.most = most

    def __call__(self, blocks: Iterable[Sequence[str]]) -> Generator[torch.Tensor]:
        for texts in blocks:
            if len(self.texts) + len(texts) > self.most:
                raise KeyboardInterrupt
            self.texts += texts
            yield torch.tensor([[1.0, len(text), hash(text) % 97, 2.0] for text in texts])


@pytest.fixture
def store(tmp_path: Path) -> LanceStore:
    return LanceStore(tmp_path / "store", DIM, {})


def passages(count: int, text: str = "text") -> list[Passage]:
    return [Passage(str(place), f"{text} {place}", source="a.pdf") for place in range(count)]


def test_a_second_run_encodes_only_what_is_new_or_changed(store):
    assert update(store, passages(10), Encoder(), prune=False) == Changes(new=10)
    encoder = Encoder()
    assert update(store, passages(10), encoder, prune=False) == Changes(unchanged=10)
    assert encoder.texts == []
    grown = [*passages(9), Passage("9", "changed"), Passage("10", "new"), Passage("10", "twice")]
    assert update(store, grown, encoder, prune=False) == Changes(new=1, changed=1, unchanged=9)
    assert encoder.texts == ["changed", "new"]
    [hits] = store.text_search(["changed new twice 9"], 20)
    assert {hit.passage.text for hit in hits} == {"changed", "new"}


def test_another_source_of_the_same_text_is_stored_without_encoding(store):
    update(store, passages(5), Encoder(), prune=False)
    encoder = Encoder()
    moved = [replace(passage, source="b.pdf") for passage in passages(5)]
    assert update(store, moved, encoder, prune=False) == Changes(changed=5)
    assert encoder.texts == []
    [hits] = store.search(torch.ones(1, DIM), 5)
    assert {hit.passage.source for hit in hits} == {"b.pdf"}


def test_what_the_source_has_no_more_is_kept_or_pruned(store):
    update(store, passages(10), Encoder(), prune=False)
    assert update(store, passages(7), Encoder(), prune=False) == Changes(unchanged=7, gone=3)
    assert store.count() == 10
    assert update(store, passages(7), Encoder(), prune=True).deleted == 3
    assert store.count() == 7
    store.optimise(in_use=True)
    [hits] = store.text_search(["text"], 20)
    assert {int(hit.passage.id) for hit in hits} == set(range(7))


def test_a_run_that_was_stopped_goes_on_where_it_was(store):
    many = passages(2 * BLOCK + 10)
    with pytest.raises(KeyboardInterrupt):
        update(store, many, Encoder(most=2 * BLOCK), prune=False)
    assert store.count() == 2 * BLOCK
    encoder = Encoder()
    changes = update(store, many, encoder, prune=False)
    assert (changes.new, changes.unchanged, len(encoder.texts)) == (10, 2 * BLOCK, 10)


@pytest.mark.parametrize("in_use", [False, True])
def test_what_a_killed_process_left_in_the_store_is_deleted(store, in_use):
    update(store, passages(10), Encoder(), prune=False)
    [data] = (store.folder / "passages.lance" / "data").iterdir()
    left = shutil.copy(data, data.with_name(f"left{data.name}"))
    store.optimise(in_use=in_use)
    assert not left.exists()
    [hits] = store.text_search(["text"], 20)
    assert len(hits) == 10


# Generations


@pytest.fixture
def folder(tmp_path: Path) -> IndexFolder:
    return IndexFolder(tmp_path / "index")


def complete(folder: IndexFolder, made: Description) -> int:
    generation = folder.begin(made)
    folder.switch(generation.number)
    return generation.number


def test_a_generation_is_searched_once_it_is_complete(folder):
    with pytest.raises(UserError, match="is not an index; build it: dalm index"):
        folder.current()
    first = folder.begin(MADE)
    with pytest.raises(UserError, match="whole yet: wait for the dalm index"):
        folder.current()
    assert folder.begin(MADE).number == first.number  # an unfinished one is gone on with
    assert complete(folder, MADE) == first.number
    assert folder.current().number == first.number


def test_another_retriever_begins_again_beside_what_is_searched(folder):
    assert complete(folder, MADE) == 1
    assert folder.begin(replace(MADE, fingerprint="two")).number == 2
    assert folder.begin(replace(MADE, fingerprint="three")).number == 2  # instead of the other
    assert folder.numbers() == [1, 2]
    assert folder.current().number == 1


def test_rolling_back_and_forth(folder):
    for fingerprint in ("one", "two", "three"):
        complete(folder, replace(MADE, fingerprint=fingerprint))
    assert folder.roll_back() == (2, 3)
    assert folder.current().description.fingerprint == "two"
    assert folder.roll_back() == (3, 2)
    assert folder.begin(replace(MADE, fingerprint="four")).number == 4
    assert folder.numbers() == [1, 2, 3, 4]


def test_old_generations_are_dropped(folder):
    for fingerprint in ("one", "two", "three"):
        complete(folder, replace(MADE, fingerprint=fingerprint))
    assert folder.drop(7) == []
    assert folder.drop(1) == [1]
    assert folder.numbers() == [2, 3]
    assert folder.drop(0) == [2]
    with pytest.raises(UserError, match="no earlier generation"):
        folder.roll_back()


def test_the_generation_to_roll_back_to_is_kept_first(folder):
    complete(folder, MADE)
    complete(folder, replace(MADE, fingerprint="two"))
    folder.roll_back()
    complete(folder, replace(MADE, fingerprint="three"))
    assert folder.drop(1) == [2]
    assert folder.roll_back() == (1, 3)


def test_an_unfinished_generation_is_neither_kept_nor_dropped(folder):
    for fingerprint in ("one", "two"):
        complete(folder, replace(MADE, fingerprint=fingerprint))
    unfinished = folder.begin(replace(MADE, fingerprint="three"))
    assert folder.drop(1) == []
    assert folder.roll_back() == (1, 2)
    assert folder.begin(replace(MADE, fingerprint="three")).number == unfinished.number


def test_a_whole_generation_is_not_built_again_if_the_pointer_was_not_replaced(folder):
    complete(folder, MADE)
    built = folder.begin(replace(MADE, fingerprint="two"))
    update(built.store, passages(3), Encoder(), prune=True)
    again = folder.begin(replace(MADE, fingerprint="two", retriever="moved"))
    assert (again.number, again.store.count(), again.unfinished) == (2, 3, True)
    assert again.description.retriever == "moved"


def test_what_is_searched_stays_until_it_is_let_go(folder, caplog):
    complete(folder, MADE)
    searched = folder.current()
    complete(folder, replace(MADE, fingerprint="two"))
    assert folder.drop(0) == []
    assert searched.store.count() == 0
    del searched
    assert folder.drop(0) == [1]
    assert not list((folder.path / "generations").glob(".*"))


def test_a_deletion_that_was_killed_is_finished(folder):
    for fingerprint in ("one", "two"):
        complete(folder, replace(MADE, fingerprint=fingerprint))
    (folder.path / "generations" / "1").rename(folder.path / "generations" / ".deleted-1")
    assert folder.numbers() == [2]
    folder.switch(2)
    assert [path.name for path in (folder.path / "generations").iterdir()] == ["2"]


def test_files_that_a_killed_process_left_unfinished_are_deleted(folder):
    complete(folder, MADE)
    inner = folder.path / "generations" / "1"
    left = [folder.path / ".index.json.12.part", inner / ".index.json.34.part"]
    for file in left:
        file.touch()
    (inner / ".a-users.part").touch()
    folder.switch(1)
    assert [file.name for file in inner.glob(".*")] == [".a-users.part"]
    assert not any(file.exists() for file in left)


BROKEN = ["", "{", "[]", '{"format": 1}', '{"format": 1, "generation": 0}']


@pytest.mark.parametrize("content", BROKEN)
@pytest.mark.parametrize("name", ["index.json", "generations/1/index.json"])
def test_a_damaged_file_is_named(folder, name, content):
    complete(folder, MADE)
    (folder.path / name).write_text(content)
    with pytest.raises(UserError, match=r"index\.json"):
        folder.current()


def test_a_folder_that_is_no_index_is_refused(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(UserError, match="is no index; name another folder"):
        IndexFolder(tmp_path).check_is_index()


def test_an_index_with_other_words_is_named(tmp_path):
    folder = IndexFolder(tmp_path / "index")
    generation = folder.begin(MADE)
    generation.describe(replace(MADE, analyser="words-0"))
    folder.switch(generation.number)
    with pytest.raises(UserError, match=r"analyser words-0, and this .* terms-1; .*--rebuild"):
        folder.current()
