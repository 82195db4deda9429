"""`dalm pretrain` as a user runs it: on small texts, with real files."""

import json
import logging
import math
import os
import shutil
import subprocess
import sys

import pytest
import torch
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM, AutoTokenizer

from dalm.cli import app, run
from dalm.ingest.texts import hold_out, read_texts
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.training import checkpoints, metrics_log

CPU = "--device cpu --precision fp32".split()
SHORT = [*CPU, *"--sequence-length 48 --batch-size 2 --logging-steps 3".split()]
SMALL = [*SHORT, *"--learning-rate 1e-2".split()]


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """A domain of thirty documents, and general texts."""
    folder = tmp_path_factory.mktemp("texts")
    domain = [
        {
            "title": f"Hall {n}",
            "text": f"The skerrow in hall {n} runs at velt {n % 5}. " * (1 + n % 4)
            + f"Its lanth is oiled with tam {n % 3}.",
        }
        for n in range(30)
    ]
    general = [{"text": f"Ada lives in Ulm with {n} cats, and keeps a dog."} for n in range(30)]
    for name, rows in (("domain", domain), ("general", general)):
        (folder / f"{name}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


@pytest.fixture(scope="module")
def command(texts, tiny_models):
    """Return a function that runs the command on the domain's texts, and gives its exit code."""

    def call(*options, generator=tiny_models.generator, source=None) -> int:
        given = [source or texts / "domain.jsonl", *([generator] if generator else [])]
        return run(app, ["pretrain", *map(str, (*given, *options))])

    return call


@pytest.fixture(scope="module")
def whole(command, texts, tmp_path_factory):
    """A run with replay, accumulation and many checkpoints."""
    folder = tmp_path_factory.mktemp("whole") / "run"
    options = ["--replay", texts / "general.jsonl", "--replay-ratio", 0.25, *SMALL]
    options += "--max-train-steps 17 --checkpointing-steps 5 --checkpoints-kept 99".split()
    options += "--gradient-accumulation-steps 2 --evaluation-steps 3".split()
    assert command("--output-dir", folder, *options) == 0
    return folder, options


def lines(folder) -> list[dict[str, float]]:
    read = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
    return [{k: v for k, v in line.items() if k not in metrics_log.CLOCK} for line in read]


def weights(folder) -> dict[str, torch.Tensor]:
    return load_file(folder / "generator" / "model.safetensors")


def test_held_out_text_is_measured_before_during_and_after(whole):
    found = lines(whole[0])
    assert found[0]["step"] == 0
    assert "loss" not in found[0]
    measured = [line for line in found if "domain_bits_per_byte" in line]
    last = found[-1]["step"]
    assert [line["step"] for line in measured] == sorted({*range(0, last + 1, 3), last})
    assert all("general_bits_per_byte" in line for line in measured)
    figures = json.loads((whole[0] / "bits_per_byte.json").read_text())
    assert figures["before"]["domain_bits_per_byte"] == measured[0]["domain_bits_per_byte"]
    assert figures["best"]["domain_bits_per_byte"] < 0.7 * measured[0]["domain_bits_per_byte"]
    assert figures["held_out"]["domain"]["documents"] >= 1


def test_the_best_weights_are_those_that_are_written(whole, texts):
    """Measured again from the folder, by the model itself."""
    figures = json.loads((whole[0] / "bits_per_byte.json").read_text())
    _, held = hold_out(read_texts(str(texts / "domain.jsonl")), 0.05, 200_000, 42)
    generator = load_generator(str(whole[0] / "generator"), place("cpu", "fp32"))
    end, nats, size = generator.tokenizer.eos_token_id, 0.0, 0
    for text in held:
        ids = [end, *generator.tokenizer(text.text, add_special_tokens=False).input_ids]
        for start in range(0, len(ids) - 1, 47):
            window = torch.tensor([ids[start : start + 48]])
            with torch.no_grad():
                scores = generator.model(input_ids=window).logits.double().log_softmax(-1)
            nats -= float(scores[0, :-1].gather(-1, window[0, 1:, None]).sum())
        size += len(text.text.encode())
    best = figures["best"]["domain_bits_per_byte"]
    assert nats / math.log(2) / size == pytest.approx(best, rel=1e-5)


def test_a_resumed_run_is_the_unbroken_one_to_the_bit(whole, command, tmp_path):
    folder, options = whole
    broken = tmp_path / "run"
    shutil.copytree(folder, broken)
    middle = checkpoints.steps(broken)[1][0]
    for step, path in checkpoints.steps(broken):
        if step > middle:
            shutil.rmtree(path)
    shutil.rmtree(broken / "generator")
    (broken / "bits_per_byte.json").unlink()
    resumed = ["--output-dir", broken, *options, "--resume-from-checkpoint", "latest"]
    assert command(*resumed) == 0
    assert lines(broken) == lines(folder)
    ours, theirs = weights(broken), weights(folder)
    assert set(ours) == set(theirs)
    assert all(torch.equal(ours[name], theirs[name]) for name in ours)
    assert (broken / "bits_per_byte.json").read_text() == (
        folder / "bits_per_byte.json"
    ).read_text()


def test_other_texts_are_not_resumed_on(whole, command, tmp_path, texts, capsys):
    broken = tmp_path / "run"
    shutil.copytree(whole[0], broken)
    options = ["--output-dir", broken, *whole[1], "--resume-from-checkpoint", "latest"]
    assert command(*options, source=texts / "general.jsonl") == 2
    assert "was written with other data (" in capsys.readouterr().err


def test_from_scratch_makes_tokenizer_and_model(command, tmp_path, caplog):
    options = ["--from-scratch", "1m", *CPU, "--sequence-length", 64, "--max-train-steps", 2]
    with caplog.at_level(logging.INFO, "dalm"):
        assert command("--output-dir", tmp_path / "run", *options, generator=None) == 0
    assert "initialised as induction heads" in caplog.text
    folder = tmp_path / "run" / "generator"
    tokenizer = AutoTokenizer.from_pretrained(folder)
    assert len(tokenizer(" skerrow", add_special_tokens=False).input_ids) == 1
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config.hidden_size == 128
    assert "learning_rate: 0.003" in (tmp_path / "run" / "settings.yaml").read_text()


def test_adapters_and_early_end(command, tmp_path, caplog):
    """At a rate that ruins the weights every measurement is worse than the first."""
    options = ["--use-peft", "--lora-rank", 2, *SHORT, "--epochs", 30, "--evaluation-steps", 1]
    options += ["--patience", 2, "--learning-rate", 1]
    with caplog.at_level(logging.INFO, "dalm"):
        assert command("--output-dir", tmp_path / "run", *options) == 0
    assert (tmp_path / "run" / "generator" / "adapter_config.json").is_file()
    assert "2 evaluations without a better one" in caplog.text
    figures = json.loads((tmp_path / "run" / "bits_per_byte.json").read_text())
    assert figures["last"]["step"] == figures["best"]["step"] + 2
    found = lines(tmp_path / "run")
    assert found[-1]["step"] == figures["last"]["step"]
    resumed = ["--output-dir", tmp_path / "run", "--resume-from-checkpoint", "latest"]
    assert command(*resumed, *options) == 0
    assert lines(tmp_path / "run") == found, "it was over, and goes no further"


def test_general_text_that_loses_too_much_is_said(command, texts, tmp_path, caplog):
    options = [
        "--replay",
        texts / "general.jsonl",
        "--replay-ratio",
        0,
        *SHORT,
        "--max-train-steps",
    ]
    options += [2, "--learning-rate", 1, "--max-general-loss", 0.001]
    with caplog.at_level(logging.INFO, "dalm"):
        assert command("--output-dir", tmp_path / "run", *options) == 0
    assert "raise --replay-ratio or lower --learning-rate" in caplog.text
    assert "replay  " not in caplog.text


def test_new_tokens(command, tmp_path, tiny_models):
    options = ["--extend-vocabulary", 20, *SMALL, "--max-train-steps", 2]
    assert command("--output-dir", tmp_path / "run", *options) == 0
    tokenizer = AutoTokenizer.from_pretrained(tmp_path / "run" / "generator")
    assert len(tokenizer) == len(AutoTokenizer.from_pretrained(tiny_models.generator)) + 20


def test_other_texts_to_measure_on_leave_the_training(command, texts, tmp_path, caplog):
    held = tmp_path / "held.jsonl"
    first = (texts / "domain.jsonl").read_text().splitlines(keepends=True)[:3]
    held.write_text("".join(first) + json.dumps({"text": "A velt of its own."}) + "\n")
    options = ["--held-out", held, *SMALL, "--max-train-steps", 1]
    with caplog.at_level(logging.INFO, "dalm"):
        assert command("--output-dir", tmp_path / "run", *options) == 0
    assert "are held out for evaluation" in caplog.text
    assert "27 documents" in caplog.text
    figures = json.loads((tmp_path / "run" / "bits_per_byte.json").read_text())
    assert figures["held_out"]["domain"]["documents"] == 4


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--from-scratch", "1m"], "leave one of them out"),
        (["--replay-ratio", "0.2"], "--replay-ratio has no effect without --replay"),
        (["--max-general-loss", "0.2"], "has no effect without --replay"),
        (["--extend-vocabulary", "5", "--use-peft"], "leave one out"),
        (["--use-bnb"], "add --use-peft"),
        (["--lora-rank", "4"], "--use-peft"),
        (["--sequence-length", "4"], "at least 16"),
        (["--sequence-length", "4096"], "set it to 256"),
        (["--held-out", "nowhere.txt"], "no file or folder"),
        (["--text-column", "body"], "set --text-column"),
        (["--held-out", "x", "--held-out-share", "0.2"], "no effect with --held-out"),
    ],
)
def test_mistakes(command, tmp_path, capsys, options, said):
    assert command("--output-dir", tmp_path / "out", *CPU, *options) == 2
    printed = capsys.readouterr().err
    assert said in printed.splitlines()[-1]
    assert "Traceback" not in printed
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ([], "name one of them"),
        (["--from-scratch", "3m"], "from-scratch"),
        (["--from-scratch", "1m", "--use-peft"], "leave out --from-scratch"),
        (["--from-scratch", "1m", "--extend-vocabulary", "9"], "leave one out"),
    ],
)
def test_mistakes_without_a_generator(command, tmp_path, capsys, options, said):
    assert command("--output-dir", tmp_path / "out", *options, generator=None) == 2
    assert said in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


def test_a_dry_run_shows_a_row_and_writes_nothing(command, tmp_path, caplog):
    with caplog.at_level(logging.INFO, "dalm"):
        assert command("--output-dir", tmp_path / "run", *SMALL, "--dry-run") == 0
    assert "⟦<eos>⟧" in caplog.text
    assert not (tmp_path / "run").exists()


def test_one_document_alone(command, tmp_path, capsys):
    (tmp_path / "book.txt").write_text("A long book. " * 100)
    code = command("--output-dir", tmp_path / "out", source=tmp_path / "book.txt")
    assert code == 2
    assert "dalm passages" in capsys.readouterr().err


@pytest.mark.skipif(not torch.distributed.is_gloo_available(), reason="needs gloo")
def test_two_processes_train_as_one(command, texts, tiny_models, tmp_path):
    shared = [*CPU, *"--sequence-length 48 --learning-rate 1e-2 --logging-steps 1".split()]
    shared += "--evaluation-steps 2 --max-train-steps 4".split()
    assert command("--output-dir", tmp_path / "one", *shared, "--batch-size", 4) == 0
    launcher = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node"]
    given = [texts / "domain.jsonl", tiny_models.generator, "--output-dir", tmp_path / "two"]
    done = subprocess.run(
        [*launcher, "2", "-m", "dalm", "pretrain", *map(str, (*given, *shared, "--batch-size", 2))],
        env=os.environ | {"OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""},
        capture_output=True,
        text=True,
        timeout=180,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    one, two = lines(tmp_path / "one"), lines(tmp_path / "two")
    for a, b in zip(one, two, strict=True):
        for name in ("loss", "domain_bits_per_byte"):
            assert a.get(name, 0.0) == pytest.approx(b.get(name, 0.0), rel=1e-4), name
