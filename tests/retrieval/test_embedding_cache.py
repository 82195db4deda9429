"""Vectors on disk: never those of another encoder, never encoded twice, nothing lost by a kill."""

import logging
import os
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

import dalm.retrieval.embedding_cache as module
from dalm.models import counting_encoder, loading
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.retrieval.embedding_cache import default_folder, encode_passages_cached, fingerprint

TEXTS = ["Ada lives in Ulm.", "Bela lives in Bern.", "Cyrus keeps one owl.", "ada lives in ulm."]


@pytest.fixture
def load(tiny_models: Any) -> Callable[..., Retriever]:
    def make(**options: Any) -> Retriever:
        return load_retriever(str(tiny_models.encoder), place("cpu", "fp32"), **options)

    return make


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The texts that were encoded."""
    seen: list[str] = []
    encode = counting_encoder.encode_counting

    def listening(retriever: Retriever, texts: Sequence[str]) -> tuple[Tensor, int]:
        seen.extend(texts)
        return encode(retriever, texts)

    monkeypatch.setattr(counting_encoder, "encode_counting", listening)
    return seen


def test_the_second_time_nothing_is_encoded(
    load: Callable[..., Retriever], encoded: list[str], tmp_path: Path
) -> None:
    retriever = load()
    plain = retriever.encode_passages(TEXTS)
    encoded.clear()
    first = encode_passages_cached(retriever, [*TEXTS, TEXTS[0]], tmp_path)
    assert sorted(encoded) == sorted(TEXTS)
    torch.testing.assert_close(first, plain[[0, 1, 2, 3, 0]], rtol=0, atol=1e-6)
    encoded.clear()
    again = encode_passages_cached(load(), TEXTS[::-1], tmp_path)
    assert encoded == []
    assert torch.equal(again, first[[3, 2, 1, 0]])


def test_a_grown_knowledge_base_costs_its_new_passages(
    load: Callable[..., Retriever], encoded: list[str], tmp_path: Path
) -> None:
    retriever = load()
    encode_passages_cached(retriever, TEXTS[:2], tmp_path)
    encoded.clear()
    vectors = encode_passages_cached(retriever, TEXTS, tmp_path)
    assert encoded == TEXTS[2:]
    encoded.clear()
    assert torch.equal(encode_passages_cached(retriever, TEXTS, tmp_path), vectors)
    assert encoded == []


def test_a_run_that_was_stopped_goes_on(
    load: Callable[..., Retriever],
    encoded: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(module, "SHARD", 1)
    retriever = load()
    encode = counting_encoder.encode_counting

    def stopped(retriever: Retriever, texts: Sequence[str]) -> tuple[Tensor, int]:
        if texts[0] == TEXTS[2]:
            raise KeyboardInterrupt
        return encode(retriever, texts)

    with monkeypatch.context() as patched:
        patched.setattr(counting_encoder, "encode_counting", stopped)
        with pytest.raises(KeyboardInterrupt):
            encode_passages_cached(retriever, TEXTS, tmp_path)
    encoded.clear()
    encode_passages_cached(retriever, TEXTS, tmp_path)
    assert encoded == TEXTS[2:]


def test_none_keeps_nothing(load: Callable[..., Retriever], tmp_path: Path) -> None:
    retriever = load()
    vectors = encode_passages_cached(retriever, TEXTS, None)
    assert torch.equal(vectors, retriever.encode_passages(TEXTS))
    assert list(tmp_path.iterdir()) == []


def test_no_text_and_no_passage(load: Callable[..., Retriever], tmp_path: Path) -> None:
    retriever = load()
    assert encode_passages_cached(retriever, [], tmp_path).shape == (0, retriever.dim)
    assert encode_passages_cached(retriever, [""], tmp_path).shape == (1, retriever.dim)


@pytest.mark.parametrize("damage", ["cut", "empty", "other shape"])
def test_a_broken_shard_is_encoded_again(
    load: Callable[..., Retriever],
    encoded: list[str],
    tmp_path: Path,
    damage: str,
    caplog: pytest.LogCaptureFixture,
) -> None:
    retriever = load()
    vectors = encode_passages_cached(retriever, TEXTS, tmp_path)
    [file] = tmp_path.rglob("*.safetensors")
    content = file.read_bytes()
    if damage == "other shape":
        module._write(file.parent, [module._key(text) for text in TEXTS], torch.zeros(2, 3))
    else:
        file.write_bytes(content[:-7] if damage == "cut" else b"")
    encoded.clear()
    with caplog.at_level(logging.WARNING, "dalm"):
        assert torch.equal(encode_passages_cached(retriever, TEXTS, tmp_path), vectors)
    assert encoded == TEXTS
    assert "encoded again" in caplog.text
    assert file.read_bytes() == content


def test_a_folder_in_the_way_is_a_warning(
    load: Callable[..., Retriever], tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = load()
    (tmp_path / fingerprint(retriever)).write_text("mine")
    with caplog.at_level(logging.WARNING, "dalm"):
        vectors = encode_passages_cached(retriever, TEXTS, tmp_path)
    assert torch.equal(vectors, retriever.encode_passages(TEXTS))
    assert "name another --cache-dir" in caplog.text


# The fingerprint


def test_fingerprint_is_that_of_the_encoder_and_of_nothing_else(
    load: Callable[..., Retriever], tmp_path: Path
) -> None:
    retriever = load()
    first = fingerprint(retriever)
    retriever.encode_passages(TEXTS)
    retriever.encode_queries(TEXTS)
    assert fingerprint(retriever) == first, "encoding changed it"
    assert fingerprint(load()) == first
    for query in ({"lengths": {"query": 9}}, {"prompts": {"query": "find: "}}):
        assert fingerprint(load(**query)) == first, "passages don't depend on the queries' side"
    retriever.export(tmp_path / "exported")
    exported = load_retriever(str(tmp_path / "exported"), place("cpu", "fp32"))
    assert fingerprint(exported) == first


def test_whatever_moves_a_vector_moves_the_fingerprint(load: Callable[..., Retriever]) -> None:
    found = [fingerprint(load())]
    found.append(fingerprint(load(lengths={"passage": 9})))
    found.append(fingerprint(load(prompts={"passage": "passage: "})))
    found.append(fingerprint(load(is_autoregressive=False)))
    changed = load()
    with torch.no_grad():
        next(changed.model.parameters())[3, 1] += 1e-7
    found.append(fingerprint(changed))
    pooled = load()
    pooled.model[1].pooling_mode = "cls"
    found.append(fingerprint(pooled))
    eps = load()
    eps.model.transformers_model.config.layer_norm_eps = 1e-3
    found.append(fingerprint(eps))
    assert found.pop(3) == found[0], "the pooling that it has anyway"
    assert len(set(found)) == len(found)


def test_adapters_are_part_of_it_with_their_scaling(load: Callable[..., Retriever]) -> None:
    def adapted(alpha: float, queries_alone: bool = False) -> Retriever:
        retriever = load()
        torch.manual_seed(0)
        config = loading.lora(
            rank=2, alpha=alpha, dropout=0.0, targets=None, task="FEATURE_EXTRACTION"
        )
        retriever.add_lora(config, queries_alone=queries_alone)
        with torch.no_grad():
            for name, weight in retriever.model.named_parameters():
                if "lora_B" in name:
                    weight.fill_(0.1)
        return retriever

    assert len({fingerprint(load()), fingerprint(adapted(4)), fingerprint(adapted(8))}) == 3
    alone = adapted(4, queries_alone=True)
    assert fingerprint(alone) == fingerprint(load()), "passages are embedded by the base"
    assert torch.equal(alone.encode_passages(TEXTS), load().encode_passages(TEXTS))
    assert not torch.equal(adapted(4).encode_passages(TEXTS), load().encode_passages(TEXTS))


def test_default_folder_is_the_users(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    if os.name == "posix" and os.uname().sysname == "Linux":
        assert default_folder() == tmp_path / "dalm" / "vectors"
    assert default_folder().parts[-1] == "vectors"


def test_how_many_of_the_texts_encoded_are_cut_is_said(
    tiny_models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    retriever = load_retriever(
        str(tiny_models.encoder), place("cpu", "fp32"), lengths={"passage": 8}
    )
    with caplog.at_level("INFO"):
        encode_passages_cached(retriever, ["short", "long " * 30], tmp_path)
        encode_passages_cached(retriever, ["short", "long " * 30, "new " * 20], None)
    told = [line for line in caplog.messages if line.startswith("lengths")]
    assert "1 of 2 passages are cut at 8 tokens" in told[0]
    assert "2 of 3 passages are cut at 8 tokens" in told[1]
