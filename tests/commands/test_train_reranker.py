"""A reranker is trained, resumed, exported, loaded again and searched with, or refused."""

import json
import logging
import shlex
import shutil
from pathlib import Path

import pytest
import yaml
from sentence_transformers import CrossEncoder

from dalm.cli import app, run
from dalm.io.scored_tables import write_scored
from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.next_step import RETRIEVER
from dalm.records import Passage, ScoredCandidate, ScoredQuestion
from tests.conftest import NAMES, TOWNS

QUICK = ["--batch-size", 5, "--precision", "fp32", "--logging-steps", 1]
FAST = ["--learning-rate", 1e-2, "--epochs", 20, "--checkpointing-steps", 1000]


def dalm(*line: object) -> int:
    return run(app, [str(part) for part in line])


@pytest.fixture(scope="module")
def table(tmp_path_factory) -> Path:
    """Where somebody lives is right, and what they keep is wrong."""
    file = tmp_path_factory.mktemp("table") / "people_train.jsonl"
    rows = [
        {
            "Query": f"Where does {name} live?",
            "Passage": f"{name} lives in {town}.",
            "Negatives": [
                f"{name} keeps a dog.",
                f"{name} keeps two cats.",
                f"{name} keeps an owl.",
            ],
        }
        for name, town in zip(NAMES, TOWNS, strict=True)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@pytest.fixture(scope="module")
def trained(table, tiny_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("trained") / "out"
    line = ["train-reranker", tiny_models.reranker, table, "--output-dir", folder, *QUICK]
    assert dalm(*line, *FAST, "--max-length", 64) == 0
    return folder


def margins(folder: Path, names=NAMES) -> list[float]:
    """How far the passage of each name's town is above that of a pet."""
    reranker = load_reranker(str(folder), loading.place("cpu", "fp32"))
    found = []
    for name in names:
        texts = [f"{name} lives in Ulm.", f"{name} keeps a dog."]
        right, wrong = reranker.logits([(f"Where does {name} live?", text) for text in texts])
        found.append(float(right - wrong))
    return found


def test_training_puts_the_right_passage_first(trained, tiny_models):
    before = margins(tiny_models.reranker)
    after = margins(trained / "reranker")
    assert min(after) > 2
    assert max(before) < min(after)


def test_what_is_wrong_in_the_table_comes_last(table, tiny_models, tmp_path):
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    flipped = [
        row | {"Passage": row["Negatives"][0], "Negatives": [row["Passage"]]} for row in rows
    ]
    file = tmp_path / "flipped.jsonl"
    file.write_text("".join(json.dumps(row) + "\n" for row in flipped))
    line = ["train-reranker", tiny_models.reranker, file, "--output-dir", tmp_path / "out", *QUICK]
    assert dalm(*line, *FAST, "--objective", "listwise") == 0
    assert max(margins(tmp_path / "out" / "reranker")) < -2


def test_the_export_is_a_cross_encoder_with_its_length_a_card_and_a_manifest(trained, caplog):
    folder = trained / "reranker"
    pairs = [("Where does Ada live?", "Ada lives in Ulm."), ("Where?", "Ada keeps a dog.")]
    model = CrossEncoder(str(folder), device="cpu")
    reranker = load_reranker(str(folder), loading.place("cpu", "fp32"))
    assert reranker.score_pairs(pairs) == pytest.approx(model.predict(pairs).tolist(), abs=2e-6)
    assert reranker.max_length == model.max_seq_length == 64
    card = (folder / "README.md").read_text()
    assert "pipeline_tag: text-ranking" in card
    assert "by: dalm train-reranker" in card
    settings = yaml.safe_load((trained / "settings.yaml").read_text())
    assert (settings["max_length"], settings["num_candidates"]) == (64, 8)
    damaged = shutil.copytree(folder, trained.parent / "damaged")
    (damaged / "config.json").write_text("{}")
    assert dalm("search", "nowhere", "x", "--reranker", damaged) == 2


def test_a_resumed_run_ends_as_one_without_a_break(table, tiny_models, tmp_path, caplog):
    line = ["train-reranker", tiny_models.reranker, table, *QUICK, "--num-candidates", 3]
    line += ["--checkpointing-steps", 2, "--checkpoints-kept", 9, "--epochs", 2, "--output-dir"]
    assert dalm(*line, tmp_path / "whole") == 0
    shutil.copytree(tmp_path / "whole", tmp_path / "broken")
    shutil.rmtree(tmp_path / "broken" / "reranker")
    shutil.rmtree(tmp_path / "broken" / "checkpoint-4")
    assert dalm(*line, tmp_path / "broken", "--resume-from-checkpoint", "latest") == 0
    weights = [(tmp_path / each / "reranker/model.safetensors") for each in ("whole", "broken")]
    assert weights[0].read_bytes() == weights[1].read_bytes()
    other = [*line, tmp_path / "broken", "--resume-from-checkpoint", "latest"]
    other[other.index("--num-candidates") + 1] = 4
    assert dalm(*other) == 2


def test_a_resumed_run_may_have_another_temperature(tiny_models, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    candidates = tuple(
        ScoredCandidate(Passage.of(f"{name} keeps a dog."), float(n))
        for n, name in enumerate(NAMES[:3])
    )
    questions = [ScoredQuestion(f"What does {name} keep?", None, candidates) for name in NAMES]
    write_scored(tmp_path / "scored.jsonl", questions, "made up")
    line = [
        "train-reranker",
        tiny_models.reranker,
        tmp_path / "scored.jsonl",
        *QUICK,
        "--checkpointing-steps",
    ]
    line += [1, "--output-dir", tmp_path / "run", "--max-train-steps"]
    assert dalm(*line, 1) == 0
    more = ("--resume-from-checkpoint", "latest", "--target-temperature", 0.5)
    assert dalm(*line, 2, *more) == 0
    assert "--target-temperature 0.5 (auto before)" in caplog.text


def test_an_encoder_gets_a_head_and_is_evaluated_as_the_next_line_says(
    table, tiny_models, tmp_path, caplog, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    caplog.set_level(logging.INFO)
    shutil.copy(table, table.with_name("people_test.jsonl"))
    line = ["train-reranker", tiny_models.encoder, table, "--output-dir", tmp_path / "out"]
    assert dalm(*line, "--max-train-steps", 1, *QUICK) == 0
    assert "head       new, with random weights" in caplog.text
    assert "LOAD REPORT" not in caplog.text
    _, *line = shlex.split(caplog.messages[-1].removeprefix("next       "))
    assert line[0] == "eval-retriever"
    assert dalm(*[each.replace(RETRIEVER, str(tiny_models.encoder)) for each in line]) == 0
    results = json.loads((tmp_path / "evaluation-1" / "results.json").read_text())
    assert "reranked" in json.dumps(results)


def test_a_teachers_scores_are_followed(table, tiny_models, tmp_path, caplog):
    """The teacher likes what somebody keeps, an owl best of all."""
    caplog.set_level(logging.INFO)
    rows = [json.loads(line) for line in table.read_text().splitlines()]
    questions = []
    for row in rows:
        scores = zip((3.0, 1.0, 0.0), (*row["Negatives"][::2][::-1], row["Passage"]), strict=True)
        candidates = tuple(ScoredCandidate(Passage.of(text), score) for score, text in scores)
        questions.append(ScoredQuestion(row["Query"], None, candidates, temperature=1.5))
    file = tmp_path / "scored.jsonl"
    write_scored(file, questions, "made up")
    line = ["train-reranker", tiny_models.reranker, file, "--output-dir", tmp_path / "out", *QUICK]
    assert dalm(*line, *FAST) == 0
    assert "of 3 scored candidates carry it on average, at temperature 1.5" in caplog.text
    reranker = load_reranker(str(tmp_path / "out/reranker"), loading.place("cpu", "fp32"))
    texts = ["Ada keeps an owl.", "Ada keeps a dog.", "Ada lives in Ulm."]
    scores = reranker.score("Where does Ada live?", texts)
    assert scores == sorted(scores, reverse=True)


def test_a_dry_run_shows_a_pair_and_writes_nothing(table, tiny_models, tmp_path, caplog):
    caplog.set_level(logging.INFO)
    line = ["train-reranker", tiny_models.reranker, table, "--output-dir", tmp_path / "out"]
    assert dalm(*line, "--dry-run") == 0
    assert "[CLS] where does ada live? [SEP] ada lives in ulm. [SEP]" in caplog.text
    assert "steps      2 updates of 8 rows, 1 epochs" in caplog.text
    assert not (tmp_path / "out").exists()


def test_what_cannot_be_trained_is_one_line(table, tiny_models, trained, tmp_path, capsys):
    pairs = tmp_path / "pairs.csv"
    pairs.write_text("Query,Passage\nWho?,Ada\n")
    out = ["--output-dir", tmp_path / "out"]
    for line, problem in (
        ([tiny_models.reranker, pairs, *out], "no question has hard negatives"),
        ([tiny_models.generator, table, *out], "is a causal language model without a head"),
        ([tiny_models.reranker, table, *out, "--max-length", 500], "takes at most 128 tokens"),
        ([tiny_models.reranker, table, "--output-dir", trained], "holds a run (reranker)"),
        ([tiny_models.reranker, table, *out, "--target-temperature", 1], "has no effect"),
    ):
        assert dalm("train-reranker", *line) == 2
        assert problem in capsys.readouterr().err
    for command, folder in (("merge", trained / "reranker"), ("export", tiny_models.reranker)):
        assert dalm(command, folder, "--output-dir", tmp_path / "plain") == 2
        assert "is a reranker, which is plain as it is" in capsys.readouterr().err
