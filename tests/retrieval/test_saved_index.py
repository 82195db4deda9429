"""An index in a folder: the same after reading, replaced as a whole, damage is named."""

import json

import pytest
import torch
from torch.nn.functional import normalize

from dalm.errors import UserError
from dalm.records import Passage
from dalm.retrieval.exact import ExactIndex, load_index, save_index
from dalm.retrieval.hnsw import HnswIndex


def passages(count):
    return [
        Passage(f"p{i}", f"text {i}\u2028\r\n“é”", "title" if i % 2 else "") for i in range(count)
    ]


@pytest.fixture(params=["exact", "hnsw"])
def index(request):
    if request.param == "hnsw":
        pytest.importorskip("usearch")
    vectors = normalize(torch.randn(50, 8, generator=torch.Generator().manual_seed(0)))
    return {"exact": ExactIndex, "hnsw": HnswIndex}[request.param](passages(50), vectors)


def test_saved_and_loaded_it_is_the_same(index, tmp_path):
    save_index(index, tmp_path / "deep" / "index", "encoder-1")
    loaded = load_index(tmp_path / "deep" / "index", "encoder-1")
    assert loaded.passages == index.passages
    assert torch.equal(loaded.vectors, index.vectors)
    assert (loaded.kind, loaded.count(), loaded.dim) == (index.kind, 50, 8)
    queries = normalize(torch.randn(9, 8))
    assert loaded.search(queries, 5) == index.search(queries, 5)
    assert [path.name for path in (tmp_path / "deep").iterdir()] == ["index"]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_the_type_of_the_vectors_is_kept(tmp_path, dtype):
    vectors = torch.randn(5, 3).to(dtype)
    save_index(ExactIndex(passages(5), vectors), tmp_path)
    assert load_index(tmp_path).vectors.dtype == dtype
    assert torch.equal(load_index(tmp_path).vectors, vectors)


def test_an_index_is_replaced_whole(tmp_path):
    save_index(ExactIndex(passages(5), torch.ones(5, 3)), tmp_path / "index")
    (tmp_path / "index" / "graph.usearch").write_text("of an older index")
    save_index(ExactIndex(passages(2), torch.ones(2, 3)), tmp_path / "index")
    assert load_index(tmp_path / "index").count() == 2
    assert not (tmp_path / "index" / "graph.usearch").exists()
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_failed_save_leaves_the_old_index(tmp_path, monkeypatch):
    save_index(ExactIndex(passages(5), torch.ones(5, 3)), tmp_path / "index")
    monkeypatch.setattr(Passage, "to_dict", lambda passage: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save_index(ExactIndex(passages(2), torch.ones(2, 3)), tmp_path / "index")
    assert load_index(tmp_path / "index").count() == 5
    assert [path.name for path in tmp_path.iterdir()] == ["index"]


def test_a_folder_of_something_else_is_not_overwritten(tmp_path):
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(UserError, match="not an index"):
        save_index(ExactIndex(passages(2), torch.ones(2, 3)), tmp_path)
    assert (tmp_path / "thesis.txt").exists()


def test_a_view_of_a_larger_tensor_is_saved(tmp_path):
    vectors = torch.randn(6, 8)[::2, ::2]
    save_index(ExactIndex(passages(3), vectors), tmp_path)
    assert torch.equal(load_index(tmp_path).vectors, vectors)


def cut(path):
    path.write_bytes(path.read_bytes()[:-20])


def drop_a_line(path):
    path.write_text("\n".join(path.read_text("utf-8").split("\n")[1:]), "utf-8")


def describe(**changes):
    def change(path):
        path.write_text(json.dumps(json.loads(path.read_text()) | changes))

    return change


@pytest.mark.parametrize("sealed", [True, False])
@pytest.mark.parametrize(
    ("name", "damage"),
    [
        ("index.json", lambda path: path.unlink()),
        ("index.json", cut),
        ("index.json", lambda path: path.write_text("[]")),
        ("index.json", describe(format=99)),
        ("index.json", describe(count=4)),
        ("index.json", describe(dim=4)),
        ("index.json", describe(kind="faiss")),
        ("passages.jsonl", lambda path: path.unlink()),
        ("passages.jsonl", cut),
        ("passages.jsonl", drop_a_line),
        ("vectors.safetensors", lambda path: path.unlink()),
        ("vectors.safetensors", cut),
    ],
)
def test_a_damaged_folder_is_refused_with_a_manifest_and_without(tmp_path, name, damage, sealed):
    save_index(ExactIndex(passages(5), torch.ones(5, 3)), tmp_path)
    damage(tmp_path / name)
    if not sealed:
        (tmp_path / "manifest.json").unlink()
    with pytest.raises(UserError, match="build the index again"):
        load_index(tmp_path)


@pytest.mark.parametrize("damage", ["gone", "cut", "another's"])
def test_a_damaged_graph_is_refused(tmp_path, damage):
    pytest.importorskip("usearch")
    save_index(HnswIndex(passages(9), torch.randn(9, 4)), tmp_path / "index")
    (tmp_path / "index" / "manifest.json").unlink()
    graph = tmp_path / "index" / "graph.usearch"
    if damage == "gone":
        graph.unlink()
    elif damage == "cut":
        graph.write_bytes(graph.read_bytes()[:50])
    else:
        HnswIndex(passages(3), torch.eye(3)).save_graph(graph)
    with pytest.raises(UserError, match="build the index again"):
        load_index(tmp_path / "index")


def test_an_absent_folder(tmp_path):
    with pytest.raises(UserError, match="not a complete index"):
        load_index(tmp_path / "nowhere")


def test_another_encoders_index_is_refused(tmp_path):
    save_index(ExactIndex(passages(5), torch.ones(5, 3)), tmp_path, "encoder-1")
    load_index(tmp_path)
    with pytest.raises(UserError, match="'encoder-1', not by 'encoder-2'"):
        load_index(tmp_path, "encoder-2")
