"""What a user can get wrong: one line with a remedy, exit code 2, early, and nothing lost."""

import base64
import json
import logging
import os
import shutil
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import torch

from dalm.cli import app, run

TOKEN = "hf_verysecret"


@dataclass
class Trainings:
    """The two training commands on the tiny table and models, into the folder `out`."""

    call: Callable[..., str]
    encoder: Path
    generator: Path
    table: Path
    out: Path

    def retriever(self, *options: object, encoder: object = None, table: object = None) -> str:
        """Train, expect a refusal, and return its one line."""
        given = (encoder or self.encoder, table or self.table, "--output-dir", self.out)
        return self.call("train-retriever-only", *given, *options)

    def pair(
        self,
        *options: object,
        encoder: object = None,
        generator: object = None,
        table: object = None,
    ) -> str:
        given = (table or self.table, encoder or self.encoder, generator or self.generator)
        return self.call("train-rag-e2e", *given, "--output-dir", self.out, *options)


@pytest.fixture
def refused(capsys: pytest.CaptureFixture[str]) -> Callable[..., str]:
    """Run `dalm`, expect exit code 2, and return the line on stderr."""

    def call(*arguments: object) -> str:
        capsys.readouterr()
        assert run(app, [str(argument) for argument in arguments]) == 2
        printed = capsys.readouterr()
        assert printed.out == ""
        assert printed.err.count("\n") == 1, printed.err
        assert printed.err.startswith("dalm: ")
        return printed.err.strip()

    return call


@pytest.fixture
def train(
    refused: Callable[..., str], tiny_models: Any, tiny_table: Path, tmp_path: Path
) -> Trainings:
    out = tmp_path / "out"
    return Trainings(refused, tiny_models.encoder, tiny_models.generator, tiny_table, out)


@pytest.fixture
def no_models(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let every attempt to load a model fail loudly: what is refused must be refused before."""

    def load(*_: object) -> None:
        raise AssertionError("a model was loaded before the mistake was found")

    monkeypatch.setattr("dalm.models.loading.loaded", load)


def succeed(*arguments: object) -> None:
    assert run(app, [str(argument) for argument in arguments]) == 0


def contents(folder: Path) -> dict[str, bytes]:
    files = (file for file in folder.rglob("*") if file.is_file())
    return {str(file.relative_to(folder)): file.read_bytes() for file in files}


# Tables


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"Passage,Querry,Answer\na,b,c\n", ["'Passage', 'Querry'", "set --query-column Querry"]),
        (b"Pasage,Query,Answer\na,b,c\n", ["'Pasage'", "--passage-column Pasage"]),
        (b"", ["is empty", "name the columns"]),
        (b"Passage,Query,Answer\n", ["is empty", "needs a row"]),
        (b"Passage,Query,Answer\n,b,c\nd,,f\n", ["none of its 2 rows", "'Query' in 1"]),
        (b"Passage,Query,Answer\nM\xfcnchen,b,c\n", ["line 2, byte 2 (0xfc)", "UTF-8"]),
        (b"Passage,Query,Answer\na,b,c\na,d,e\n", ["one distinct passage"]),
    ],
)
def test_tables(train: Trainings, tmp_path: Path, content: bytes, said: list[str]) -> None:
    table = tmp_path / "table.csv"
    table.write_bytes(content)
    for line in (train.retriever(table=table), train.pair(table=table)):
        assert all(each in line for each in said), line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
def test_missing_table(train: Trainings, tiny_table: Path) -> None:
    line = train.retriever(table=tiny_table.with_name("tinny.csv"))
    assert f"did you mean {tiny_table}?" in line
    assert not train.out.exists()


def test_rows_with_empty_fields_are_counted_and_skipped(
    train: Trainings, tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "holes.csv"
    table.write_text(tiny_table.read_text() + ",no passage,none\nno query,,none\n")
    with caplog.at_level(logging.INFO, "dalm"):
        succeed("train-retriever-only", train.encoder, table, "--output-dir", train.out)
    assert "skipped 2 of 22 rows, empty are" in caplog.text
    assert "20 questions, 10 distinct passages" in caplog.text


@pytest.mark.usefixtures("no_models")
def test_a_batch_of_one(train: Trainings) -> None:
    for line in (train.retriever("--batch-size", 1), train.pair("--batch-size", 1)):
        assert "use 2 or more" in line
    assert not train.out.exists()


def test_a_batch_of_one_whose_questions_bring_their_negatives(
    train: Trainings, tiny_rows: list[dict[str, str]], tmp_path: Path
) -> None:
    table = tmp_path / "mined.jsonl"
    others = [row["Passage"] for row in tiny_rows[2:] + tiny_rows[:2]]
    rows = [row | {"Negatives": [other]} for row, other in zip(tiny_rows, others, strict=True)]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["--output-dir", train.out, "--batch-size", 1, "--max-train-steps", 2]
    succeed("train-retriever-only", train.encoder, table, *line, "--logging-steps", 1)
    lines = (train.out / "metrics.jsonl").read_text().splitlines()
    assert all(json.loads(logged)["info_nce"] > 0 for logged in lines)


# Lengths


def test_question_and_answer_too_long_for_a_prompt(
    train: Trainings, tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    assert "use --generator-max-len" in train.pair("--generator-max-len", 30)
    assert not train.out.exists()
    table = tmp_path / "long.csv"
    table.write_text(tiny_table.read_text() + f"a passage,a question,{'in Ulm ' * 300}\n")
    pair = (train.encoder, train.generator, "--output-dir", train.out)
    with caplog.at_level(logging.INFO, "dalm"):
        succeed("train-rag-e2e", table, *pair)
    assert "1 of 21 rows left out" in caplog.text


@pytest.mark.parametrize(("option", "most"), [("--passage-max-len", 128), ("--query-max-len", 128)])
def test_longer_than_the_retriever_takes(train: Trainings, option: str, most: int) -> None:
    assert f"takes at most {most}" in train.retriever(option, 500)
    assert not train.out.exists()


def test_longer_than_the_generator_takes(train: Trainings) -> None:
    assert "takes at most 256" in train.pair("--generator-max-len", 5000)
    assert not train.out.exists()


# Output folders


def test_a_finished_run_is_not_replaced_unasked(
    train: Trainings, tmp_path: Path, no_models: None
) -> None:
    train.out.mkdir()
    (train.out / "metrics.jsonl").write_text("{}\n")
    (train.out / "notes.txt").write_text("mine")
    before = contents(train.out)
    line = train.retriever()
    assert "holds a run (metrics.jsonl)" in line
    assert "--overwrite-output-dir" in line
    assert "--resume" not in line, "there is no checkpoint"
    (train.out / "checkpoint-3").mkdir()
    assert "--resume-from-checkpoint latest" in train.retriever()
    assert contents(train.out) == before


@pytest.fixture(scope="module")
def finished(tiny_models: Any, tiny_table: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("finished") / "out"
    line = ("train-retriever-only", tiny_models.encoder, tiny_table, "--output-dir", out)
    succeed(*line, "--use-peft", "--lora-rank", 2)
    (out / "notes.txt").write_text("mine")
    return out


def test_a_wrong_input_does_not_cost_the_old_run(
    train: Trainings, finished: Path, broken: dict[str, Path], tmp_path: Path
) -> None:
    shutil.copytree(finished, train.out)
    before = contents(train.out)
    again = "--overwrite-output-dir"
    empty = tmp_path / "empty.csv"
    empty.write_text("Passage,Query\n")
    train.retriever(again, table=tmp_path / "none.csv")
    train.retriever(again, table=empty)
    train.retriever(again, encoder=broken["corrupt encoder"])
    train.retriever(again, "--passage-max-len", 500)
    train.retriever(again, "--use-peft", "--lora-target-modules", "nosuch")
    train.pair(again, generator=train.encoder)
    train.pair(again, generator=broken["corrupt generator"])
    train.pair(again, "--generator-max-len", 30)
    assert contents(train.out) == before
    line = ("train-retriever-only", train.encoder, train.table, "--output-dir", train.out)
    succeed(*line, again)
    after = contents(train.out)
    assert after["notes.txt"] == b"mine"
    assert "retriever/adapter_config.json" not in after
    assert "retriever/model.safetensors" in after


@pytest.mark.usefixtures("no_models")
def test_output_dir_that_is_a_file_or_in_one(
    train: Trainings, refused: Callable[..., str], tmp_path: Path
) -> None:
    file = tmp_path / "file"
    file.write_text("mine")
    for out in (file, file / "below"):
        train.out = out
        assert f"{file} is a file; name a" in train.retriever()
        line = ("eval-retriever", train.table, "--retriever-name-or-path", train.encoder)
        assert f"{file} is a file; name a folder" in refused(*line, "--output-dir", out)
    assert file.read_text() == "mine"


@pytest.mark.usefixtures("no_models")
def test_evaluations_are_not_replaced_unasked(
    train: Trainings, refused: Callable[..., str], tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text("{}")
    line = ("eval-retriever", train.table, "--retriever-name-or-path", train.encoder)
    assert "--overwrite-output-dir" in refused(*line, "--output-dir", tmp_path)
    assert (tmp_path / "results.json").read_text() == "{}"


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--judge", "http://localhost:9"], "--judge needs --judge-model, the server's name"),
        (["--judge", "localhost", "--judge-model", "m"], "no effect without --judge http://"),
        (["--judge", "http://h/v1?key=x", "--judge-model", "m"], "put no password or key into the"),
        (["--judge-model", "m"], "--judge-model has no effect without --judge"),
        (["--judge-timeout", "1"], "--judge-timeout has no effect without --judge"),
        (["--judge", "http://h", "--judge-concurrency", "0"], "--judge-concurrency 0: must be"),
        (["--judge", "http://h", "--judge-timeout", "0"], "--judge-timeout 0.0: must be"),
        (["--judge", "http://h", "--judge-max-new-tokens", "1"], "must be a number of at least 16"),
    ],
)
def test_a_judge_that_cannot_be_asked(
    train: Trainings, refused: Callable[..., str], options: list[str], said: str
) -> None:
    line = ("eval-rag", train.table, "--retriever-name-or-path", train.encoder)
    line += ("--generator-name-or-path", train.generator, "--evaluate-generator")
    assert said in refused(*line, *options)
    assert "has no effect without --evaluate-generator" in refused(
        *line[:-1], "--judge", "http://h"
    )


@pytest.mark.usefixtures("no_models")
def test_resume_without_a_checkpoint(train: Trainings, tmp_path: Path) -> None:
    assert "no checkpoint in" in train.retriever("--resume-from-checkpoint", "latest")
    assert "not a checkpoint" in train.retriever("--resume-from-checkpoint", tmp_path)
    assert not train.out.exists()


@pytest.mark.parametrize(
    "options",
    [
        ["--use-peft", "--lora-rank", 4],
        ["--use-peft", "--lora-rank", 2, "--lora-alpha", 7],
        ["--use-peft", "--lora-rank", 2, "--lora-target-modules", "query"],
        [],
    ],
    ids=["rank", "alpha", "layers", "none"],
)
@pytest.mark.usefixtures("no_models")
def test_resume_with_other_adapters(
    train: Trainings, finished: Path, options: list[object]
) -> None:
    before = contents(finished)
    train.out = finished
    for wanted in ("latest", finished / "checkpoint-2"):
        line = train.retriever("--resume-from-checkpoint", wanted, *options)
        assert "resume with the same" in line
    assert contents(finished) == before


# Machine and trackers


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--use-bnb"], "add --use-peft"),
        (["--use-bnb", "--use-peft", "--device", "cpu"], "needs an NVIDIA GPU"),
        (["--precision", "fp16", "--device", "cpu"], "use bf16, fp32 or auto"),
        (["--device", "tpu"], "Choose from"),
        (["--with-tracking", "--report-to", "wandbb"], '"wandb"'),
        (["--report-to", "tensorboard"], "without --with-tracking; add it"),
        (["--hub-token", TOKEN], "without --hub-model-id"),
    ],
)
def test_what_cannot_work_here(train: Trainings, options: list[str], said: str) -> None:
    line = train.retriever(*options)
    assert said in line
    assert TOKEN not in line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
def test_a_tracker_that_is_not_installed(train: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalm.training.run.importlib.util.find_spec", lambda _: None)
    line = train.retriever("--with-tracking", "--report-to", "mlflow")
    assert "--report-to mlflow: not installed; pip install" in line


@pytest.mark.usefixtures("no_models")
def test_four_bits_for_a_model_without_adapters(train: Trainings) -> None:
    assert "add --use-peft" in train.pair("--use-bnb", "both", "--use-peft", "generator")


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.usefixtures("no_models")
def test_cuda_where_there_is_none(train: Trainings) -> None:
    assert "use --device auto" in train.retriever("--device", "cuda")


# Models


@pytest.fixture(scope="module")
def broken(tiny_models: Any, tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    folder = tmp_path_factory.mktemp("broken")
    made: dict[str, Path] = {}
    for role, whole in (("encoder", tiny_models.encoder), ("generator", tiny_models.generator)):
        for what in ("corrupt", "unconfigured", "weightless"):
            made[f"{what} {role}"] = shutil.copytree(whole, folder / f"{what}-{role}")
        weights = made[f"corrupt {role}"] / "model.safetensors"
        weights.write_bytes(weights.read_bytes()[:-1000])
        (made[f"unconfigured {role}"] / "config.json").write_text("{")
        (made[f"weightless {role}"] / "model.safetensors").unlink()
    return made


@pytest.mark.usefixtures("no_models")
def test_folders_without_a_model(train: Trainings, tmp_path: Path) -> None:
    nothing = tmp_path / "nothing"
    assert f"retriever {nothing}: no such folder" in train.retriever(encoder=nothing)
    assert f"generator {nothing}: no such folder" in train.pair(generator=nothing)
    nothing.mkdir()
    assert "no model in this folder (no config.json" in train.retriever(encoder=nothing)
    assert "no model in this folder (no config.json" in train.pair(generator=nothing)
    assert "give the folder" in train.retriever(encoder=train.table)
    assert not train.out.exists()


def test_hub_name_while_offline(train: Trainings) -> None:
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids" in train.retriever(
        encoder="some/encoder"
    )
    assert "HF_HUB_OFFLINE or TRANSFORMERS_OFFLINE forbids" in train.pair(
        generator="some-generator"
    )
    assert not train.out.exists()


BROKEN = {
    "corrupt": "model.safetensors is broken (it has ",
    "unconfigured": "config.json is broken (no JSON: ",
    "weightless": "is a file missing or broken?",
}


@pytest.mark.parametrize("what", BROKEN)
def test_broken_models(train: Trainings, broken: dict[str, Path], what: str) -> None:
    for line in (
        train.retriever(encoder=broken[f"{what} encoder"]),
        train.pair(generator=broken[f"{what} generator"]),
    ):
        assert "can't be loaded: " in line
        assert BROKEN[what] in line
    assert not train.out.exists()


def test_a_damaged_file_beside_a_generator(train: Trainings, tmp_path: Path) -> None:
    folder = Path(shutil.copytree(train.generator, tmp_path / "generator"))
    (folder / "dalm.json").write_text('{"prompt": {"instruction": 1}}')
    assert "is damaged: prompt: no field 'passage'" in train.pair(generator=folder)
    (folder / "dalm.json").write_text("{")
    assert f"{folder / 'dalm.json'} is damaged" in train.pair(generator=folder)
    assert not train.out.exists()


def test_an_encoder_is_no_generator(train: Trainings) -> None:
    line = train.pair(generator=train.encoder)
    assert "bert is an encoder; name a decoder-only (causal) language model" in line
    assert not train.out.exists()


@pytest.mark.parametrize("said_to_be_causal", [False, True])
def test_a_masked_language_model_is_no_generator(
    train: Trainings, tmp_path: Path, said_to_be_causal: bool
) -> None:
    from transformers import AutoConfig, AutoTokenizer, BertForMaskedLM

    config = AutoConfig.from_pretrained(train.encoder, initializer_range=0.5)
    config.is_decoder = said_to_be_causal
    tokenizer = AutoTokenizer.from_pretrained(train.encoder)
    tokenizer.eos_token = tokenizer.sep_token
    tokenizer.save_pretrained(tmp_path / "masked")
    with torch.random.fork_rng():
        torch.manual_seed(0)
        BertForMaskedLM(config).save_pretrained(tmp_path / "masked")
    line = train.pair("--generator-max-len", 128, generator=tmp_path / "masked")
    if not said_to_be_causal:
        assert "bert is an encoder; name a decoder-only (causal) language model" in line
    else:  # it loads, and its scores aren't those of its head
        assert "BertLMHeadModel changes its logits in a way that this toolkit doesn't know" in line


def test_a_retriever_with_random_weights(train: Trainings, tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    poor = shutil.copytree(train.encoder, tmp_path / "poor")
    weights = load_file(poor / "model.safetensors")
    without = {key: value for key, value in weights.items() if "pooler" not in key}
    save_file(without, poor / "model.safetensors", {"format": "pt"})
    succeed("train-retriever-only", poor, train.table, "--output-dir", tmp_path / "fine")
    missing = next(key for key in without if "layer.1" in key)
    del without[missing]
    save_file(without, poor / "model.safetensors", {"format": "pt"})
    assert "1 weights of BertModel are not in its files" in train.retriever(encoder=poor)
    assert not train.out.exists()


@pytest.mark.parametrize("adapter", ["nowhere", "model"])
def test_adapters_that_are_none(
    train: Trainings, refused: Callable[..., str], tmp_path: Path, adapter: str
) -> None:
    folder = {"nowhere": tmp_path / "nowhere", "model": train.encoder}[adapter]
    line = ("eval-retriever", train.table, "--retriever-name-or-path", train.encoder)
    said = refused(*line, "--retriever-peft-model-path", folder)
    assert f"retriever adapter {folder}" in said


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("options", [[], ["--use-peft"]])
def test_adapters_are_not_trained_further(
    train: Trainings, refused: Callable[..., str], tmp_path: Path, options: list[str]
) -> None:
    """Their base is frozen: nothing would be trained, or adapters stacked on adapters."""
    adapter = tmp_path / "adapter"
    adapter.mkdir()
    (adapter / "adapter_config.json").write_text("{}")
    both = [*options, "both"] if options else []
    for line in (
        train.retriever(*options, encoder=adapter),
        train.pair(*both, encoder=adapter),
        train.pair(*both, generator=adapter),
        refused("train-generator-only", train.table, adapter, "--output-dir", train.out, *options),
        refused("pretrain", train.table, adapter, "--output-dir", train.out, *options),
    ):
        assert f"{adapter} is a LoRA adapter" in line
        assert f"dalm merge {adapter}" in line
    assert not train.out.exists()


@pytest.mark.parametrize(
    ("role", "options"),
    [("retriever", ["--train-encoders", "none"]), ("generator", ["--no-train-generator"])],
)
def test_adapters_that_rest_are_taken(
    train: Trainings, tmp_path: Path, role: str, options: list[str]
) -> None:
    pair = ("train-rag-e2e", train.table)
    few = ("--max-train-steps", 1, "--batch-size", 4, "--output-dir")
    adapted = tmp_path / "adapted"
    succeed(*pair, train.encoder, train.generator, "--use-peft", "both", *few, adapted)
    given = {"retriever": train.encoder, "generator": train.generator, role: adapted / role}
    extra = ("--candidates", "index", *options) if role == "retriever" else options
    succeed(*pair, given["retriever"], given["generator"], *extra, *few, train.out)


def test_layers_that_the_model_lacks(train: Trainings) -> None:
    line = train.retriever("--use-peft", "--lora-target-modules", "nosuch")
    assert "--lora-target-modules nosuch" in line
    assert "leave it out" in line
    assert not train.out.exists()


# Numbers and files of options


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("--num-train-epochs", "0"),
        ("--num-train-epochs", "inf"),
        ("--learning-rate", "-1e-4"),
        ("--learning-rate", "nan"),
        ("--weight-decay", "nan"),
        ("--max-train-steps", "0"),
        ("--per-device-train-batch-size", "0"),
        ("--gradient-accumulation-steps", "0"),
        ("--checkpointing-steps", "0"),
        ("--logging-steps", "0"),
        ("--lora-dropout", "1.5"),
        ("--logit-scale", "0"),
        ("--seed", "-1"),
        ("--seed", str(2**32)),
        ("--num-candidates", "0"),
        ("--marginal-temperature", "0"),
        ("--contrastive-weight", "-1"),
        ("--generator-max-len", "1"),
        ("--generator-learning-rate", "inf"),
        ("--target-temperature", "0"),
        ("--target-temperature", "nan"),
        ("--reader-passages", "0"),
        ("--gold-probability", "1.5"),
        ("--gold-probability", "-0.1"),
        ("--reader-warmup", "1"),
        ("--skip-gradient-below", "0.2"),
        ("--skip-gradient-below", "-1e-3"),
        ("--refresh-budget", "2"),
        ("--refresh-budget", "-1"),
        ("--over-retrieve", "0"),
        ("--reconstruction-weight", "-1"),
    ],
)
def test_numbers_out_of_range(train: Trainings, option: str, value: str) -> None:
    line = train.pair(option, value)
    assert option in line
    assert "must be" in line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    "options",
    [
        ["--passages", "table.csv"],
        ["--refresh-budget", 0.5],
        ["--over-retrieve", 4],
        ["--write-back"],
        ["--reconstruction-weight", 0.5],
        ["--candidates", "index", "--objective", "dalm"],
        ["--target-temperature", 0.1],
        ["--reader-passages", 2],
        ["--objective", "dalm", "--num-candidates", 3],
        ["--objective", "dalm", "--marginal-temperature", 0.3],
        ["--objective", "dalm", "--reader-warmup", 0.3],
        ["--objective", "dalm", "--gold-probability", 0.3],
        ["--objective", "pdist", "--skip-gradient-below", 0.001],
        ["--objective", "emdr2", "--target-temperature", 0.1],
        ["--train-encoders", "none", "--no-train-generator"],
        ["--train-encoders", "none", "--reader-warmup", 0.3],
        ["--train-encoders", "query", "--use-peft", "both"],
        ["--candidates", "index", "--train-encoders", "none", "--over-retrieve", 4],
        ["--no-train-generator", "--use-peft", "generator"],
        ["--no-train-generator", "--generator-learning-rate", 1e-3],
        ["--lora-rank", 4],
        ["--preset", "nosuch"],
        ["--objective", "rag_sentence"],
        ["--objective", "sft"],
        ["--target-temperature", "warm"],
    ],
    ids=lambda options: " ".join(map(str, options)),
)
def test_what_would_do_nothing_in_joint_training(train: Trainings, options: list[object]) -> None:
    line = train.pair(*options)
    named = [str(option) for option in options if str(option).startswith("--")]
    named = [
        name.replace("--no-train", "--train").replace("--no-write", "--write") for name in named
    ]
    assert any(name in line.replace("--no-train", "--train") for name in named), line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
def test_a_knowledge_base_that_is_none(train: Trainings, tmp_path: Path) -> None:
    table = tmp_path / "questions.csv"
    table.write_text("Query,Answer\nWhere?,in Ulm\nWho?,Ada\n")
    index = ("--candidates", "index")
    assert "name tables of passages with --passages" in train.pair(*index, table=table)
    assert "--passage-column" in train.pair(table=table), "candidates of the batch need passages"
    assert "none.csv" in train.pair(*index, "--passages", tmp_path / "none.csv", table=table)
    one = tmp_path / "one.csv"
    one.write_text("Passage\nAda lives in Ulm.\n")
    assert "has 1 passages" in train.pair(*index, "--passages", one, table=table)
    given = (*index, "--passages", train.table, "--contrastive-weight", 0.5)
    assert "table without gold passages" in train.pair(*given, table=table)
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "name a YAML file"),
        ("seed: [1\n", "line 2: not YAML"),
        ("- seed\n", "a list; write one option per line"),
        ("learning_rat: 1\n", "Did you mean --learning-rate?"),
        ("learning_rate: fast\n", "learning_rate"),
        ("settings:\n  seed: 1\n", "settings"),
        (b"\xff\xfe", "not UTF-8"),
    ],
)
def test_configs(train: Trainings, tmp_path: Path, content: str | bytes | None, said: str) -> None:
    file = tmp_path / "run.yaml"
    if content is not None:
        file.write_bytes(content if isinstance(content, bytes) else content.encode())
    line = train.retriever("--config", file)
    assert str(file) in line
    assert said in line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
def test_config_without_a_file(train: Trainings) -> None:
    assert "name a YAML file" in train.retriever("--config")


# A loss that is no number


def test_a_loss_that_is_no_number_stops_the_run(
    train: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train-retriever-only", train.encoder, train.table, "--output-dir", train.out]
    line += ["--learning-rate", "1e6", "--max-grad-norm", 0, "--precision", "fp32", "--epochs", 9]
    line += ["--batch-size", 8, "--checkpointing-steps", 1, "--logging-steps", 1]
    assert run(app, [str(part) for part in line]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "the loss is not a finite number at step" in err
    assert "; use a lower --learning-rate; " in err
    assert "checkpoint-1 is the last checkpoint: " in err
    assert (train.out / "checkpoint-1" / "state").is_dir()
    assert not (train.out / "retriever").exists()


def test_weights_that_are_no_numbers_replace_no_checkpoint(
    train: Trainings, capsys: pytest.CaptureFixture[str]
) -> None:
    line = ["train-retriever-only", train.encoder, train.table, "--output-dir", train.out]
    line += ["--batch-size", 8, "--lr-scheduler-type", "constant", "--precision", "bf16"]
    line += ["--checkpointing-steps", 1, "--checkpoints-kept", 1]
    assert run(app, [str(part) for part in [*line, "--max-train-steps", 2]]) == 0
    capsys.readouterr()
    line += [
        "--max-train-steps",
        3,
        "--learning-rate",
        "1e60",
        "--resume-from-checkpoint",
        "latest",
    ]
    assert run(app, [str(part) for part in line]) == 2
    err = capsys.readouterr().err
    assert "Traceback" not in err
    assert "weights are not finite numbers at step 3; " in err
    assert "use a lower --learning-rate, or --precision fp32; " in err
    assert [path.name for path in train.out.glob("checkpoint-*")] == ["checkpoint-2"]


# The hub


@dataclass
class Hub:
    """As much of the hub as a push of small files needs, on this machine."""

    url: str
    answers: int = 200
    files: dict[str, bytes] = field(default_factory=dict)
    tokens: set[str | None] = field(default_factory=set)
    created: list[dict[str, Any]] = field(default_factory=list)

    def answer(self, path: str, body: bytes, token: str | None) -> dict[str, Any]:
        self.tokens.add(token)
        if path == "/api/repos/create":
            self.created.append(json.loads(body))
            return {"url": f"{self.url}/me/tuned", "id": "me/tuned", "name": "me/tuned"}
        if path == "/api/models/me/tuned/preupload/main":
            wanted = [file["path"] for file in json.loads(body)["files"]]
            upload = {"uploadMode": "regular", "shouldIgnore": False}
            return {"files": [{"path": each, **upload} for each in wanted]}
        if path == "/api/validate-yaml":
            assert json.loads(body)["content"].startswith("---\nlicense: unknown\n")
            return {"errors": [], "warnings": []}
        assert path == "/api/models/me/tuned/commit/main", path
        for line in map(json.loads, body.splitlines()):
            if line["key"] == "file":
                self.files[line["value"]["path"]] = base64.b64decode(line["value"]["content"])
        return {"commitUrl": f"{self.url}/me/tuned/commit/1", "commitOid": "1"}


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[Hub]:
    class Door(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.reply({})

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            self.reply(served.answer(self.path, body, self.headers.get("Authorization")))

        def reply(self, answer: dict[str, Any]) -> None:
            content = json.dumps(answer).encode()
            self.send_response(served.answers)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Door) as server:
        served = Hub(f"http://127.0.0.1:{server.server_port}")
        thread = threading.Thread(target=server.serve_forever, daemon=True)
        thread.start()
        monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", served.url)
        monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
        yield served
        server.shutdown()
        thread.join()


def test_push(
    train: Trainings,
    hub: Hub,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    line = ("train-retriever-only", train.encoder, train.table, "--output-dir", train.out)
    with caplog.at_level(logging.DEBUG):
        succeed(*line, "--hub-model-id", "me/tuned", "--hub-token", TOKEN, "--with-tracking")
    printed = capsys.readouterr()
    assert hub.created == [{"name": "tuned", "organization": "me", "visibility": "private"}]
    assert hub.tokens == {f"Bearer {TOKEN}"}
    own = contents(train.out)
    pushed = {name for name in own if name.split("/")[0] in ("retriever", "settings.yaml")}
    card = hub.files.pop("README.md").decode()
    assert "[retriever](retriever/README.md)" in card
    assert hub.files == {name: own[name] for name in pushed | {"metrics.jsonl"}}
    assert any(name.startswith("checkpoint-") for name in own), "which are not pushed"
    for text in (printed.out, printed.err, caplog.text):
        assert TOKEN not in text
    for name, content in own.items():
        assert TOKEN.encode() not in content, name


def test_push_of_a_pretrained_generator(train: Trainings, hub: Hub) -> None:
    """Its figures go with it."""
    line = ("pretrain", train.table, train.generator, "--output-dir", train.out)
    few = ("--sequence-length", 64, "--max-train-steps", 1)
    succeed(*line, *few, "--hub-model-id", "me/tuned", "--hub-token", TOKEN)
    own = contents(train.out)
    assert "[generator](generator/README.md)" in hub.files.pop("README.md").decode()
    alone = {"bits_per_byte.json", "metrics.jsonl", "settings.yaml"}
    pushed = {name for name in own if name in alone or name.startswith("generator/")}
    assert hub.files == {name: own[name] for name in pushed}
    assert {"bits_per_byte.json", "generator/README.md"} <= set(hub.files)


@pytest.mark.usefixtures("no_models")
def test_a_hub_that_refuses(train: Trainings, hub: Hub) -> None:
    hub.answers = 401
    line = train.retriever("--hub-model-id", "me/tuned", "--hub-token", TOKEN)
    assert "--hub-model-id me/tuned: the hub refused" in line
    assert TOKEN not in line
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("token", [f"{TOKEN}\nx", f" {TOKEN}", f"{TOKEN}\N{EN DASH}"])
def test_a_token_that_is_no_header(train: Trainings, hub: Hub, token: str) -> None:
    """An HTTP library quotes the header that it refuses."""
    line = train.retriever("--hub-model-id", "me/tuned", "--hub-token", token)
    assert "copy it again" in line
    assert TOKEN not in line
    assert hub.created == []


@pytest.mark.usefixtures("no_models")
def test_a_hub_out_of_reach(train: Trainings, monkeypatch: pytest.MonkeyPatch) -> None:
    push = ("--hub-model-id", "me/tuned", "--hub-token", TOKEN)
    assert "offline mode" in train.retriever(*push)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", False)
    monkeypatch.setattr("huggingface_hub.constants.ENDPOINT", "http://127.0.0.1:9")
    line = train.retriever(*push)
    assert "out of reach" in line
    assert TOKEN not in line
    assert not train.out.exists()


def test_a_push_that_fails_loses_nothing(
    train: Trainings, hub: Hub, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    from huggingface_hub import HfApi

    def upload_folder(*_: object, **__: object) -> None:
        raise OSError(f"the line is cut, Bearer {TOKEN}")

    monkeypatch.setattr(HfApi, "upload_folder", upload_folder)
    line = ["train-retriever-only", train.encoder, train.table, "--output-dir", train.out]
    push = ["--hub-model-id", "me/tuned", "--hub-token", TOKEN]
    assert run(app, [str(part) for part in line + push]) == 2
    err = capsys.readouterr().err
    assert f"nothing is lost: hf upload me/tuned {train.out}" in err
    assert TOKEN not in err
    assert (train.out / "retriever" / "modules.json").is_file()


# What no user means: each of these once ended in a traceback, or never (see tools/fuzz_commands.py)


LONG = "x" * 300
YAMLS = {
    "laughs": "a: &a [x]\nb: &b [*a, *a]\nc: [*b, *b]\n",
    "merges": "a: &a {seed: 1}\nb: {<<: [*a, *a]}\n",
    "nest": "[" * 20_000,
    "python": "seed: !!python/object/apply:os.system ['exit 1']\n",
    "date": "seed: 2024-13-45\n",
    "huge": "seed: " + "9" * 5000,
    "nul": 'output_dir: "a\\0b"\n',
    "key": "? [a]\n: 1\n",
    "large": "seed: 1\n" * 200_000,
}


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize("kind", [*YAMLS, "pipe", "folder", "loop", "/dev/zero", LONG, "a\0b"])
def test_configs_of_every_kind_end_at_once(train: Trainings, tmp_path: Path, kind: str) -> None:
    file = tmp_path / (f"{kind}.yaml" if kind in YAMLS else kind)
    if kind in YAMLS:
        file.write_text(YAMLS[kind])
    elif kind == "pipe":
        os.mkfifo(file)
    elif kind == "folder":
        file.mkdir()
    elif kind == "loop":
        file.symlink_to(file)
    started = time.monotonic()
    line = train.retriever("--config", file)
    assert time.monotonic() - started < 10
    assert len(line) < 700
    assert not train.out.exists()


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--encoding", " "], "--encoding is empty"),
        (["--encoding", "\udcff"], "unknown; use utf-8"),
        (["--seed", "9" * 5000], "--seed"),
        (["--output-dir", "a\0b"], "a NUL character"),
        (["--hub-model-id", ""], "--hub-model-id is empty"),
    ],
)
def test_values_that_no_option_takes(train: Trainings, options: list[str], said: str) -> None:
    line = train.retriever(*options)
    assert said in line
    assert len(line) < 700


@pytest.mark.usefixtures("no_models")
@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("http://me:secret@host/t.csv", "an address, not a file"),
        (LONG, "File name too long"),
        ("~nobody-here/t.csv", "there is no folder"),
        ("odd\x1b]0;x\x07.csv", r"odd\x1b]0;x\x07.csv"),
        ("a\nb\udcff", "no file or folder"),
    ],
)
def test_names_of_tables(train: Trainings, name: str, said: str) -> None:
    line = train.retriever(table=name)
    assert said in line
    assert "secret" not in line


def test_a_cell_that_is_a_book_is_skipped(
    train: Trainings, tiny_table: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    table = tmp_path / "book.csv"
    table.write_text(tiny_table.read_text() + f"{'a b ' * 300_000},q,a\n")
    started = time.monotonic()
    with caplog.at_level(logging.INFO, "dalm"):
        succeed(
            "train-retriever-only", train.encoder, table, "--output-dir", train.out, "--dry-run"
        )
    assert "a text of 1,200,000 characters; split it with dalm passages" in caplog.text
    assert time.monotonic() - started < 20


def test_paths_and_numbers_of_passages(
    refused: Callable[..., str], tiny_table: Path, tmp_path: Path
) -> None:
    exercises = ("reading-comprehension", tiny_table, "--output")
    assert "--output is empty; name something" in refused(*exercises, "")
    assert "File name too long" in refused(*exercises, f"{LONG}.jsonl")
    output = ("--output", tmp_path / "p.jsonl")
    (tmp_path / "a.txt").write_text("Ada lives in Ulm.")
    assert "no file or folder ''" in refused("passages", "", *output)
    assert "File name too long" in refused("passages", LONG, *output)
    line = refused("passages", tmp_path / "a.txt", *output, "--processes", 1_000)
    assert "--processes 1000: this machine has" in line
    assert not (tmp_path / "p.jsonl").exists()
