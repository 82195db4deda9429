"""A query adapter maps the vectors of queries, and leaves those of passages as they are."""

from pathlib import Path
from typing import Any

import pytest
import torch
from sentence_transformers import SentenceTransformer

from dalm.models.loading import place
from dalm.models.model_merging import load as load_to_export
from dalm.models.retriever import ENCODED, Retriever, load_retriever
from dalm.models.retriever_checks import description
from dalm.retrieval.embedding_cache import fingerprint, query_fingerprint

CPU = place("cpu", "fp32")
QUERIES = ["Where does Ada live?", "What does Bela keep?"]
PASSAGES = ["Ada lives in Ulm.", "At home Bela keeps two cats."]


@pytest.fixture(params=["cosine", "dot", "cut"])
def folder(request: pytest.FixtureRequest, tiny_models: Any, tmp_path: Path) -> Path:
    """A model of unit vectors, one compared by the dot product, and one that cuts its vectors."""
    if request.param == "cosine":
        return Path(tiny_models.encoder)
    model = SentenceTransformer(str(tiny_models.encoder), device="cpu")
    if request.param == "dot":
        model = SentenceTransformer(modules=list(model)[:2], device="cpu", similarity_fn_name="dot")
    else:
        model.truncate_dim = 12
    model.save_pretrained(str(tmp_path / request.param))
    return tmp_path / request.param


def adapted(folder: Path, size: float = 0.3) -> Retriever:
    """Return the retriever with an adapter whose weights are drawn with a fixed seed."""
    retriever = load_retriever(str(folder), CPU)
    retriever.add_query_adapter()
    [weight] = (each for each in retriever.parameters() if each.requires_grad)
    with torch.no_grad():
        weight.copy_(size * torch.randn(weight.shape, generator=torch.Generator().manual_seed(0)))
    return retriever


def test_an_untrained_adapter_changes_nothing(folder: Path) -> None:
    plain, untrained = load_retriever(str(folder), CPU), adapted(folder, size=0.0)
    for side in ("encode_queries", "encode_passages"):
        assert torch.equal(getattr(untrained, side)(QUERIES), getattr(plain, side)(QUERIES))


def test_queries_are_mapped_and_passages_are_not(folder: Path) -> None:
    plain, retriever = load_retriever(str(folder), CPU), adapted(folder)
    assert torch.equal(retriever.encode_passages(PASSAGES), plain.encode_passages(PASSAGES))
    [weight] = (each for each in retriever.parameters() if each.requires_grad)
    whole = SentenceTransformer(str(folder), device="cpu")
    cut, whole.truncate_dim = whole.truncate_dim, None
    vectors = torch.tensor(whole.encode(QUERIES))
    expected = retriever.cut(vectors + vectors @ weight.detach().T, cut)
    torch.testing.assert_close(retriever.encode_queries(QUERIES), expected, atol=1e-5, rtol=0)


def test_the_exported_folder_is_one_of_sentence_transformers(folder: Path, tmp_path: Path) -> None:
    retriever = adapted(folder)
    retriever.export(tmp_path / "out")
    elsewhere = SentenceTransformer(str(tmp_path / "out"), device="cpu")
    found = elsewhere.encode_query(QUERIES, convert_to_tensor=True)
    compare = {"atol": 1e-5, "rtol": 0}
    normal = torch.nn.functional.normalize if retriever.similarity == "cosine" else lambda x: x
    torch.testing.assert_close(normal(found), retriever.encode_queries(QUERIES), **compare)
    passages = normal(elsewhere.encode_document(PASSAGES, convert_to_tensor=True))
    torch.testing.assert_close(passages, retriever.encode_passages(PASSAGES), **compare)
    plain = normal(elsewhere.encode(PASSAGES, convert_to_tensor=True))
    torch.testing.assert_close(plain, passages, **compare)

    again = load_retriever(str(tmp_path / "out"), CPU)
    assert torch.equal(again.encode_queries(QUERIES), retriever.encode_queries(QUERIES))
    assert "query adapter" in description(again)
    assert query_fingerprint(again) == query_fingerprint(retriever)
    [before] = (each for each in retriever.parameters() if each.requires_grad)
    again.add_query_adapter()  # one that is there is trained further
    [weight] = (each for each in again.parameters() if each.requires_grad)
    assert torch.equal(weight, before)
    load_to_export("retriever", str(tmp_path / "out"), CPU).export(tmp_path / "twice")
    twice = load_retriever(str(tmp_path / "twice"), CPU)
    assert torch.equal(twice.encode_queries(QUERIES), retriever.encode_queries(QUERIES))


def test_passages_keep_their_fingerprint_and_queries_get_one(folder: Path) -> None:
    plain, first = load_retriever(str(folder), CPU), adapted(folder)
    assert fingerprint(first) == fingerprint(plain)
    assert query_fingerprint(plain) == ""
    found = {query_fingerprint(each) for each in (plain, first, adapted(folder, size=0.2))}
    assert len(found) == 3
    assert query_fingerprint(first) == query_fingerprint(adapted(folder))


def test_vectors_that_were_encoded_before_give_the_same(folder: Path) -> None:
    retriever = adapted(folder)
    assert retriever.trains_adapter_alone
    assert not retriever.trains_passages
    for kind, texts in (("query", QUERIES), ("passage", PASSAGES)):
        tokens = retriever.tokenise(texts, kind)
        whole = retriever.embed(retriever.batch(tokens, kind), kind)
        before = {ENCODED: retriever.encode_frozen(tokens, kind)}
        vectors = retriever.embed(before, kind)
        torch.testing.assert_close(vectors, whole, atol=1e-5, rtol=0)
        assert vectors.requires_grad == (kind == "query")
        assert set(before) == {ENCODED}
