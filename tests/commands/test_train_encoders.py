"""Training that leaves the passages' vectors as they are, from the command line to an index."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from dalm.cli import app, run
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.retrieval.index_folder import IndexFolder
from dalm.retrieval.indexing import retriever_of
from dalm.retrieval.stores.lance import LanceStore
from dalm.training import metrics_log

CPU = place("cpu", "fp32")
SHARED = "--device cpu --batch-size 5 --learning-rate 3e-2 --logging-steps 1"
ADAPTER, LORA = "query-adapter", "query"
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def dalm(*line: object) -> int:
    return run(app, [str(part) for part in line])


@pytest.fixture
def train(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> Callable[..., int]:
    """Train in this process; the run's folder is `run`."""
    caplog.set_level("INFO")
    line = ["train-retriever-only", tiny_models.encoder, tiny_table, *SHARED.split()]
    line += ["--output-dir", tmp_path / "run", "--cache-dir", tmp_path / "cache"]
    return lambda *options, precision="fp32": dalm(*line, *options, "--precision", precision)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Collect the kind of each text that a retriever encodes, in training or outside of it."""
    kinds: list[str] = []
    plain = Retriever._embed

    def embed(retriever: Retriever, features: dict[str, Any], kind: Any) -> torch.Tensor:
        kinds.extend([kind] * len(features["input_ids"]))
        return plain(retriever, features, kind)

    monkeypatch.setattr(Retriever, "_embed", embed)
    return kinds


def metrics(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("name", [ADAPTER, LORA])
def test_passages_are_encoded_once_and_stay_as_they_are(
    train: Any, tiny_models: Any, tmp_path: Path, encoded: list[str], name: str
) -> None:
    assert train("--train-encoders", name, "--epochs", 4) == 0
    lines = metrics(tmp_path / "run")
    first, last = (sum(line["loss"] for line in part) for part in (lines[:4], lines[-4:]))
    assert last < 0.9 * first
    tuned = load_retriever(str(tmp_path / "run" / "retriever"), CPU)
    base = load_retriever(str(tiny_models.encoder), CPU)
    texts = ["Ada lives in Ulm.", "Where does Ada live?"]
    assert torch.equal(tuned.encode_passages(texts), base.encode_passages(texts))
    assert (tuned.encode_queries(texts) - base.encode_queries(texts)).abs().max() > 0.01

    encoded.clear()
    assert train("--train-encoders", name, "--max-train-steps", 2, "--overwrite-output-dir") == 0
    probes = 40  # of the model's checks; 20 questions and 10 passages are trained on
    assert encoded.count("passage") < probes, "the cache has them"
    assert name == LORA or encoded.count("query") < 20 + probes, "a step runs no encoder"


def test_a_step_in_chunks_is_that_of_the_whole_batch(train: Any, tmp_path: Path) -> None:
    options = ["--train-encoders", LORA, "--lora-dropout", 0, "--max-train-steps", 3]
    assert train(*options) == 0
    whole = metrics(tmp_path / "run")
    assert train(*options, "--contrastive-chunk", 2, "--overwrite-output-dir") == 0
    for one, other in zip(whole, metrics(tmp_path / "run"), strict=True):
        assert other["loss"] == pytest.approx(one["loss"], rel=1e-4)


def test_an_adapter_is_trained_on_a_teachers_scores(
    tiny_models: Any, tiny_table: Path, tmp_path: Path
) -> None:
    scored = tmp_path / "scored.jsonl"
    line = ["score-candidates", tiny_table, "--teacher", "answer-match", "--num-candidates", 5]
    assert dalm(*line, "--passages", tiny_table, "--output", scored) == 0
    line = ["train-retriever-only", tiny_models.encoder, scored, *SHARED.split()]
    line += ["--objective", "listwise", "--train-encoders", ADAPTER, "--max-train-steps", 6]
    assert dalm(*line, "--output-dir", tmp_path / "run", "--no-cache") == 0
    lines = metrics(tmp_path / "run")
    assert lines[-1]["loss"] < lines[0]["loss"]
    assert lines[-1]["tokens_per_second"] == 0, "no text is read in a step"


def test_a_resumed_run_ends_where_an_unbroken_one_ends(train: Any, tmp_path: Path) -> None:
    options = ["--train-encoders", ADAPTER, "--checkpointing-steps", 5, "--max-train-steps", 8]
    assert train(*options) == 0
    whole = shutil.copytree(tmp_path / "run", tmp_path / "whole")
    for left in ("checkpoint-8", "retriever"):
        shutil.rmtree(tmp_path / "run" / left)
    assert train("--train-encoders", LORA, "--resume-from-checkpoint", "latest") == 2
    assert train(*options, "--resume-from-checkpoint", "latest") == 0
    (file,) = (whole / "retriever").glob("*_Router/query_0_Dense/model.safetensors")
    same = tmp_path / "run" / file.relative_to(whole)
    assert load_file(file).keys() == {"linear.weight"}
    assert torch.equal(load_file(file)["linear.weight"], load_file(same)["linear.weight"])
    names = [name for name in metrics(whole)[0] if name not in metrics_log.CLOCK]
    for one, other in zip(metrics(whole), metrics(tmp_path / "run"), strict=True):
        assert [one[key] for key in names] == [other[key] for key in names]


def test_a_dry_run_says_how_long_encoding_takes_and_encodes_a_sample(
    train: Any, tmp_path: Path, encoded: list[str], monkeypatch: Any, caplog: Any
) -> None:
    monkeypatch.setattr("dalm.training.frozen_vectors.SAMPLE", 3)
    assert train("--train-encoders", ADAPTER, "--dry-run") == 0
    shown = [line for line in caplog.messages if line.startswith("encoding ")]
    assert [line.split(":")[0] for line in shown] == [
        "encoding   10 passages once, before the first update",
        "encoding   20 questions once, before the first update",
    ]
    assert not (tmp_path / "run").exists()
    assert not (tmp_path / "cache").exists()


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ("--use-peft", "--train-encoders query-adapter freezes the encoder itself"),
        ("--lora-rank 4", "--lora-rank has no effect without --use-peft or --train-encoders query"),
        ("--contrastive-chunk 2", "texts are encoded once, before training"),
        ("--gradient-checkpointing", "texts are encoded once, before training"),
        ("--use-bnb", "4-bit weights need --use-peft"),
        ("--no-cache", "--cache-dir has no effect with --no-cache"),
    ],
)
def test_what_does_not_go_with_an_adapter_is_refused(
    train: Any, capsys: Any, options: str, reason: str
) -> None:
    assert train("--train-encoders", ADAPTER, *options.split()) == 2
    assert reason in capsys.readouterr().err


def test_the_cache_is_for_passages_that_training_leaves_as_they_are(
    train: Any, capsys: Any
) -> None:
    assert train() == 2
    assert "--cache-dir has no effect without --train-encoders" in capsys.readouterr().err


# An index takes the tuned retriever over


@pytest.fixture
def tuned(train: Any, tmp_path: Path) -> Path:
    """A retriever whose queries are mapped."""
    options = ["--train-encoders", ADAPTER, "--epochs", 2]
    assert train(*options, precision="bf16") == 0, "which is no reason to round what is frozen"
    return tmp_path / "run" / "retriever"


@pytest.fixture
def index(tiny_models: Any, people: Path, tmp_path: Path) -> Path:
    """An index of the untuned retriever, with its weight of the dense scores."""
    folder = tmp_path / "index"
    line = ["index", people, "--index-dir", folder, "--precision", "fp32"]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    return folder


def hits_of(folder: Path, question: str) -> list[tuple[str, float]]:
    generation = IndexFolder(folder).current()
    vectors = retriever_of(generation, CPU).encode_queries([question])
    [hits] = generation.store.search(vectors, 3)
    return [(hit.passage.text, hit.score) for hit in hits]


def test_an_index_takes_over_an_adapter_without_encoding_a_passage(
    index: Path, tuned: Path, tiny_models: Any, encoded: list[str], caplog: Any
) -> None:
    question = "Where does Ada live?"
    before, store = hits_of(index, question), IndexFolder(index).current().store
    stored = store.passages_of(sorted(store.digests()))
    encoded.clear()
    assert dalm("index", "--index-dir", index, "--retriever-name-or-path", tuned) == 0
    loading = len(encoded)
    assert dalm("index", "--index-dir", index, "--retriever-name-or-path", tuned) == 0
    assert encoded.count("passage") <= 10, "the model's checks embed a few texts, and no passage"
    assert len(encoded) == 2 * loading
    assert "3 with their vectors, of generation 1" in caplog.text

    folder = IndexFolder(index)
    generation = folder.current()
    assert (generation.number, generation.description.retriever) == (2, str(tuned))
    now = generation.store.passages_of(sorted(stored))
    assert {key: each.to_dict() for key, each in now.items()} == {
        key: each.to_dict() for key, each in stored.items()
    }
    texts = [each.text for each in now.values()]
    retriever, plain = (load_retriever(str(each), CPU) for each in (tuned, tiny_models.encoder))
    scores = retriever.encode_queries([question]) @ plain.encode_passages(texts).T
    exact = sorted(zip(texts, scores[0].tolist(), strict=True), key=lambda pair: -pair[1])
    found = hits_of(index, question)
    assert [text for text, _ in found] == [text for text, _ in exact]
    assert [each for _, each in found] == pytest.approx([each for _, each in exact], abs=1e-5)
    assert found != before

    assert dalm("index", "--index-dir", index, "--rollback") == 0
    assert hits_of(index, question) == before


def test_new_passages_come_with_the_adapter(
    index: Path, tuned: Path, people: Path, tmp_path: Path
) -> None:
    """What the source has no more stays, as in any update, until it is pruned."""
    rows = people.read_text().splitlines()[1:]
    grown = tmp_path / "grown.jsonl"
    grown.write_text("\n".join([*rows, json.dumps({"Passage": "Dora lives in Linz."})]) + "\n")
    line = ["index", grown, "--index-dir", index, "--retriever-name-or-path", tuned]
    assert dalm(*line) == 0
    assert IndexFolder(index).current().store.count() == 4
    assert dalm(*line, "--prune") == 0
    assert IndexFolder(index).current().store.count() == 3


def test_an_interrupted_switch_goes_on_and_leaves_no_passage_too_many(
    index: Path, tuned: Path, people: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    monkeypatch.setattr("dalm.retrieval.carrying_over.BLOCK", 2)
    line = ["index", "--index-dir", index, "--retriever-name-or-path", tuned]
    add, added = LanceStore.add, []

    def counted(store: LanceStore, passages: Any, vectors: Any) -> None:
        if added == [2]:
            added.append(0)
            raise KeyboardInterrupt
        add(store, passages, vectors)
        added.append(len(passages))

    monkeypatch.setattr(LanceStore, "add", counted)
    assert dalm(*line) == 130
    folder = IndexFolder(index)
    assert folder.current().number == 1
    rows = people.read_text().splitlines()[1:]
    shorter = tmp_path / "shorter.jsonl"
    shorter.write_text("\n".join(rows) + "\n")
    assert dalm("index", shorter, "--index-dir", index, "--prune") == 0  # meanwhile
    assert dalm(*line) == 0
    assert folder.current().number == 2
    assert folder.current().store.count() == 2
    assert added[:2] == [2, 0]
    assert sum(added[2:]) < 2, "what was copied isn't copied again"


def test_another_adapter_in_the_place_of_the_indexed_one_is_noticed(
    index: Path, tuned: Path, train: Any, capsys: Any
) -> None:
    assert dalm("index", "--index-dir", index, "--retriever-name-or-path", tuned) == 0
    options = ["--train-encoders", ADAPTER, "--epochs", 1, "--overwrite-output-dir"]
    assert train(*options) == 0
    assert dalm("search", index, "Ada?") == 2
    assert "is no longer the one that built the index" in capsys.readouterr().err
    assert dalm("index", "--index-dir", index, "--retriever-name-or-path", tuned) == 0
    assert dalm("search", index, "Ada?") == 0
    assert IndexFolder(index).current().number == 3


def test_a_calibration_is_the_retrievers_and_has_to_be_found_again(
    index: Path, tuned: Path, tiny_table: Path, caplog: Any
) -> None:
    calibrate = ["--calibrate", tiny_table]
    assert dalm("index", tiny_table, "--index-dir", index, *calibrate) == 0
    line = ["index", "--index-dir", index, "--retriever-name-or-path", tuned]
    assert dalm(*line) == 0
    assert "find them again: --calibrate QUESTIONS" in caplog.text
    assert IndexFolder(index).current().description.dense_weight is None
    assert dalm(*line, *calibrate) == 0
    assert IndexFolder(index).current().description.dense_weight is not None


def test_another_encoder_still_needs_a_new_index(
    index: Path, train: Any, tmp_path: Path, capsys: Any
) -> None:
    other = tmp_path / "run" / "retriever"
    line = ["index", "--index-dir", index, "--retriever-name-or-path", other]
    assert train("--train-encoders", ADAPTER, "--max-train-steps", 1) == 0
    assert dalm(*line, "--passage-max-len", 20) == 2
    assert "add --rebuild" in capsys.readouterr().err
