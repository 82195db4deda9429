"""A resumed run goes on with the same data and options, or says what is another."""

import csv
import importlib.util
import json
import re
import shutil
from dataclasses import dataclass

import numpy as np
import pytest
from safetensors.torch import load_file

from dalm.cli import app, run
from dalm.models.batching import Ragged
from dalm.records import Passage
from dalm.training import resumption

SHARED = {
    **{"--device": "cpu", "--precision": "fp32", "--batch-size": 5, "--epochs": 2},
    **{"--checkpointing-steps": 2, "--logging-steps": 1, "--checkpoints-kept": 9},
}


@dataclass
class Hashed:
    gold: object
    names: object


@pytest.fixture(scope="module")
def command(tiny_models, tiny_table):
    """Return a function that trains a retriever, and gives its exit code."""

    def call(*options, table=tiny_table, model=tiny_models.encoder) -> int:
        shared = [part for pair in SHARED.items() if pair[0] not in options for part in pair]
        return run(app, ["train-retriever-only", *map(str, (model, table, *shared, *options))])

    return call


@pytest.fixture(scope="module")
def whole(command, tmp_path_factory):
    folder = tmp_path_factory.mktemp("whole") / "run"
    assert command("--output-dir", folder) == 0
    return folder


@pytest.fixture
def copied(whole, tmp_path):
    return shutil.copytree(whole, tmp_path / "run")


def resume(folder, step="latest"):
    wanted = step if step == "latest" else folder / f"checkpoint-{step}"
    return ["--output-dir", folder, "--resume-from-checkpoint", wanted]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--batch-size", 4], "--per-device-train-batch-size 4: .* was written with 5; resume"),
        (["--gradient-accumulation-steps", 2], "--gradient-accumulation-steps 2: .* with 1;"),
        (["--seed", 7], "--seed 7: .* was written with 42;"),
        (["--optimizer", "adamw-8bit"], "--optimizer adamw-8bit: .* was written with adamw;"),
        (["--use-peft"], "--use-peft True: .* was written with False;"),
    ],
)
def test_what_can_not_go_on_to_the_bit_is_refused(command, copied, capsys, options, said):
    assert command(*resume(copied), *options) == 2
    assert re.search(said, capsys.readouterr().err)


def test_another_batch_of_another_number_of_processes_is_refused(
    command, copied, capsys, monkeypatch
):
    monkeypatch.setenv("WORLD_SIZE", "2")
    monkeypatch.setenv("RANK", "0")
    assert command(*resume(copied)) == 2
    said = capsys.readouterr().err
    assert "--per-device-train-batch-size 5 on 2 processes: " in said
    assert "was written with 5 by each of 1 processes; resume with the same" in said
    monkeypatch.setenv("WORLD_SIZE", "5")
    assert command(*resume(copied), "--batch-size", 2) == 2
    assert "set it to 1, or start a run in another folder" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("change", "named"),
    [
        (lambda rows: rows[3].update(Query="Who?"), "query_tokens"),
        (lambda rows: rows[3].update(Passage="It is in Bonn now."), "base"),
        (lambda rows: rows.append(rows.pop(0)), "query_tokens"),
        (lambda rows: [r.update(Negatives='["He left Bonn."]') for r in rows], "negatives"),
    ],
)
def test_another_table_is_refused(command, copied, tiny_rows, tmp_path, capsys, change, named):
    rows = [dict(row) for row in tiny_rows]
    change(rows)
    with (tmp_path / "other.csv").open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    assert command(*resume(copied), table=tmp_path / "other.csv") == 2
    said = capsys.readouterr().err
    assert "checkpoint-8 was written with other data (" in said
    assert named in said


def test_the_same_table_elsewhere_is_taken(command, copied, whole, tiny_table, tmp_path):
    table = shutil.copy(tiny_table, tmp_path / "moved.csv")
    assert command(*resume(copied, 4), table=table) == 0
    ours, theirs = (
        load_file(folder / "retriever" / "model.safetensors") for folder in (copied, whole)
    )
    assert all(ours[name].equal(theirs[name]) for name in theirs)


def test_what_is_changed_on_purpose_is_said_and_takes_effect(command, copied, caplog):
    options = ["--learning-rate", 1e-5, "--lr-scheduler-type", "constant", "--epochs", 3]
    assert command(*resume(copied, 4), *options, "--weight-decay", 0.1) == 0
    [said] = [line for line in caplog.messages if line.startswith("resuming with")]
    for part in ("--learning-rate 1e-05 (0.0001 before)", "--num-train-epochs 3", "checkpoint-4"):
        assert part in said
    lines = [json.loads(line) for line in (copied / "metrics.jsonl").read_text().splitlines()]
    rates = {line["step"]: line["retriever_learning_rate"] for line in lines}
    assert rates[4] == pytest.approx(1e-4 * 5 / 8)
    assert {rates[step] for step in range(5, 13)} == {1e-5}


def test_a_run_that_was_over_in_the_middle_of_an_epoch_goes_no_further(command, tmp_path):
    """It was killed while it wrote its models."""
    line = ["--output-dir", tmp_path / "run", "--max-train-steps", 3]
    assert command(*line) == 0
    file = tmp_path / "run" / "retriever" / "model.safetensors"
    metrics, weights = (tmp_path / "run" / "metrics.jsonl").read_text(), file.read_bytes()
    assert command(*line, "--resume-from-checkpoint", "latest") == 0
    assert (tmp_path / "run" / "metrics.jsonl").read_text() == metrics
    assert file.read_bytes() == weights
    assert not (tmp_path / "run" / "checkpoint-4").exists()


def test_logging_may_change_without_a_word(command, copied, caplog):
    assert command(*resume(copied, 6), "--logging-steps", 2) == 0
    assert not [line for line in caplog.messages if line.startswith("resuming with")]


def test_other_frozen_weights_are_refused(command, tiny_models, tmp_path, capsys):
    adapted = ["--use-peft", "--lora-rank", 2, "--max-train-steps", 2]
    assert command("--output-dir", tmp_path / "run", *adapted) == 0
    other = shutil.copytree(tiny_models.encoder, tmp_path / "other")
    file = other / "model.safetensors"
    content = bytearray(file.read_bytes())
    content[-3] ^= 1
    file.write_bytes(content)
    assert command(*resume(tmp_path / "run"), *adapted, model=other) == 2
    assert "was written with other frozen weights (retriever);" in capsys.readouterr().err


@pytest.mark.parametrize("name", ["train-rag-e2e", "train-generator-only"])
def test_other_passages_to_search_are_refused(name, tiny_models, tiny_table, tmp_path, capsys):
    models = [tiny_models.generator]
    options = ["--output-dir", tmp_path / "run", "--max-train-steps", 1, "--passages", "{more}"]
    options += "--device cpu --precision fp32 --batch-size 4 --generator-max-len 200".split()
    if name == "train-rag-e2e":
        models.insert(0, tiny_models.encoder)
        options += ["--candidates", "index", "--num-candidates", 2]
    else:
        options += ["--retriever-name-or-path", tiny_models.encoder, "--no-cache"]
    codes = []
    for place in ("Bonn", "Jena"):
        more = tmp_path / f"{place}.jsonl"
        rows = [{"Passage": f"Ada lives in {place}, and {each} lives there."} for each in "abcd"]
        more.write_text("".join(json.dumps(row) + "\n" for row in rows))
        line = [str(part).format(more=more) for part in (name, tiny_table, *models, *options)]
        codes.append(run(app, line + ["--resume-from-checkpoint", "latest"] * len(codes)))
    said = capsys.readouterr().err.splitlines()[-1]
    assert (codes, "was written with other data (" in said) == ([0, 2], True), said


def test_a_run_goes_on_in_another_folder_with_its_metrics(command, whole, tmp_path, capsys):
    begin = ["--resume-from-checkpoint", whole / "checkpoint-4", "--output-dir"]
    assert command(*begin, tmp_path / "run") == 0
    steps = [
        [json.loads(line)["step"] for line in (folder / "metrics.jsonl").read_text().splitlines()]
        for folder in (whole, tmp_path / "run")
    ]
    assert steps[0] == steps[1]
    assert command(*begin, tmp_path / "run") == 2
    assert "holds a run" in capsys.readouterr().err


def test_every_fixed_and_free_option_exists():
    from dalm import config

    known = {
        name
        for kind in map(vars(config).get, config.COMMAND_OPTIONS)
        if issubclass(kind, config.Training)
        for name in kind.__dataclass_fields__
    }
    assert {*resumption.FIXED, *resumption.FREE} <= known
    assert not set(resumption.FIXED) & set(resumption.FREE)


def test_a_hash_knows_content_and_not_identity():
    def made(**changes):
        values = {
            "gold": [np.arange(3), {2, 1}, {(1, "a"): np.ones(2)}, None],
            "names": [Ragged([[1, 2], [3]]), Passage.of("Ada lives in Ulm."), len, "x"],
        }
        return resumption.content_hash(Hashed(**(values | changes)))

    assert made() == made()
    others = [
        {"gold": [np.arange(4)]},
        {"gold": np.array([], np.int64)},
        {"gold": np.array([[]], np.int64)},
        {"names": [Ragged([[1], [2, 3]])]},
        {"names": [Passage.of("Ada lives in Bern.")]},
        {"names": ["ab", "c"]},
        {"names": ["a", "bc"]},
    ]
    assert len({made(), *(made(**each) for each in others)}) == len(others) + 1


def test_an_optimizer_in_8_bits_needs_bitsandbytes(command, tmp_path, capsys, monkeypatch):
    find = importlib.util.find_spec

    def found(name, *package):
        return None if name == "bitsandbytes" else find(name, *package)

    monkeypatch.setattr(importlib.util, "find_spec", found)
    assert command("--output-dir", tmp_path / "run", "--optimizer", "adamw-8bit") == 2
    said = capsys.readouterr().err
    assert '--optimizer adamw-8bit needs bitsandbytes: pip install "indomain[4bit]"' in said
