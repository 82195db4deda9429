"""The command line as the README writes it: every line, both spellings, options by file."""

import json
import runpy
import signal
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import yaml
from safetensors.torch import load_file

import dalm
from dalm import __main__, stop_signals
from dalm.cli import app, run
from tests import test_architecture

ROOT = Path(__file__).parents[1]
SCRIPTS = {name: f"dalm/{path}" for name, path in test_architecture.SCRIPTS.items()}


@dataclass(frozen=True)
class Outcome:
    code: int
    out: str
    err: str


Command = Callable[..., Outcome]


@pytest.fixture
def command(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Command:
    """Run `dalm` in this process, in an empty folder."""
    monkeypatch.chdir(tmp_path)

    def call(*arguments: object) -> Outcome:
        capsys.readouterr()
        code = run(app, [str(argument) for argument in arguments])
        printed = capsys.readouterr()
        return Outcome(code, printed.out, printed.err)

    return call


@pytest.fixture(scope="module")
def trained(
    tiny_models: Any, tiny_table: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, Path]:
    """A run of each training command, as the README writes it."""
    folder = tmp_path_factory.mktemp("trained")
    more = ["--with-tracking", "--report-to", "all", "--per-device-train-batch-size"]
    retriever = [tiny_models.encoder, tiny_table, "--output-dir", folder / "retriever"]
    pair = [tiny_table, tiny_models.encoder, tiny_models.generator, "--output-dir", folder / "pair"]
    lines = (
        ["train-retriever-only", *retriever, "--use-peft", *more, 150],
        ["train-rag-e2e", *pair, *more, 24],
    )
    for line in lines:
        assert run(app, [str(argument) for argument in line]) == 0
    return {"retriever": folder / "retriever", "pair": folder / "pair"}


def settings_of(run_folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = yaml.safe_load((run_folder / "settings.yaml").read_text())
    return found


# The commands


def test_version(command: Command) -> None:
    assert command("version") == Outcome(0, f"{dalm.__version__}\n", "")
    assert command("--version") == Outcome(0, f"dalm {dalm.__version__}\n", "")


@pytest.mark.parametrize("name", [*SCRIPTS, "adapt", "demo", "version"])
def test_help(command: Command, name: str) -> None:
    assert name in command("--help").out
    helped = command(name, "--help")
    assert (helped.code, helped.err) == (0, "")
    assert "Usage: dalm" in helped.out


def test_training_writes_models_metrics_settings_and_tracks(trained: dict[str, Path]) -> None:
    for name, models in (("retriever", ["retriever"]), ("pair", ["retriever", "generator"])):
        folder = trained[name]
        assert all((folder / model / "dalm.json").is_file() for model in models)
        lines = (folder / "metrics.jsonl").read_text().splitlines()
        assert json.loads(lines[-1])["loss"] > 0
        if find_spec("tensorboard"):
            assert list(folder.glob("runs/*/events*"))
    assert (trained["retriever"] / "retriever" / "adapter_config.json").is_file()
    assert settings_of(trained["pair"])["per_device_train_batch_size"] == 24


def test_eval_retriever(
    command: Command, trained: dict[str, Path], tiny_table: Path, tiny_models: Any, tmp_path: Path
) -> None:
    line = ["eval-retriever", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    adapter = ["--retriever-peft-model-path", trained["retriever"] / "retriever", "--top-k", 10]
    assert command(*line).code == 0
    outcome = command(*line, *adapter)
    assert outcome.code == 0
    assert "recall@10" in outcome.out
    assert (tmp_path / "evaluation-1" / "results.json").is_file()
    assert (tmp_path / "evaluation-2" / "queries.jsonl").is_file()


def test_eval_rag(
    command: Command, trained: dict[str, Path], tiny_table: Path, tiny_models: Any, tmp_path: Path
) -> None:
    pair = ["--retriever-name-or-path", trained["pair"] / "retriever"]
    pair += ["--generator-name-or-path", trained["pair"] / "generator"]
    assert command("eval-rag", tiny_table, *pair).code == 0
    outcome = command("eval-rag", tiny_table, *pair, "--evaluate-generator", "--max-new-tokens", 4)
    assert outcome.code == 0
    assert "EM" in outcome.out
    records = (tmp_path / "evaluation-2" / "queries.jsonl").read_text().splitlines()
    record = json.loads(records[0])
    assert set(record["answers"]) == {"found", "gold", "random", "none"}
    assert {"EM", "NLL", "EM[none]", "NLL[gold]", "grounding"} <= set(record["measures"])
    assert "no passage" in outcome.out


def test_eval_rag_takes_adapters_for_both(
    command: Command, trained: dict[str, Path], tiny_table: Path, tiny_models: Any, tmp_path: Path
) -> None:
    pair = [tiny_table, tiny_models.encoder, tiny_models.generator, "--output-dir", "lora"]
    assert command("train-rag-e2e", *pair, "--use-peft", "both").code == 0
    line = ["--retriever-name-or-path", tiny_models.encoder, "--retriever-peft-model-path"]
    line += ["lora/retriever", "--generator-name-or-path", tiny_models.generator]
    line += ["--generator-peft-model-path", "lora/generator", "--evaluate-generator"]
    assert command("eval-rag", tiny_table, *line, "--max-new-tokens", 2).code == 0


@pytest.fixture
def questions_alone(tiny_rows: list[dict[str, str]], tmp_path: Path) -> tuple[Path, list[Path]]:
    """A table without a column of passages, and the passages in two others."""
    table = tmp_path / "questions.jsonl"
    asked = [{name: row[name] for name in ("Query", "Answer")} for row in tiny_rows]
    table.write_text("".join(json.dumps(row) + "\n" for row in asked))
    passages = []
    for part in (0, 1):
        passages.append(tmp_path / f"passages-{part}.jsonl")
        rows = tiny_rows[part * 10 : (part + 1) * 10]
        lines = [json.dumps({"Passage": row["Passage"]}) + "\n" for row in rows]
        passages[-1].write_text("".join(lines))
    return table, passages


@pytest.mark.parametrize("spelling", ["-", "_"])
def test_train_over_an_index_on_questions_and_answers_alone(
    command: Command,
    questions_alone: tuple[Path, list[Path]],
    tiny_models: Any,
    tiny_table: Path,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
    spelling: str,
) -> None:
    table, passages = questions_alone
    options = {
        "--candidates": "index",
        "--passages": passages,
        "--objective": "rag_token",
        "--num-candidates": None,
        "--refresh-budget": 0.1,
        "--output-dir": "out",
        "--batch-size": 10,
        "--train-encoders": "query",
        "--reconstruction-weight": 0.5,
    }
    line: list[object] = [table, tiny_models.encoder, tiny_models.generator]
    for option, value in options.items():
        line.append("--" + option[2:].replace("-", spelling))
        line += value if isinstance(value, list) else [value]
    line.append("--gold-probability=0.5" if spelling == "-" else "--gold_probability=0.5")
    caplog.set_level("INFO")
    outcome = command("train-rag-e2e", *line)
    assert (outcome.code, outcome.out) == (0, ""), outcome.err
    assert any("20 questions, 10 distinct passages" in said for said in caplog.messages)
    assert settings_of(tmp_path / "out")["passages"] == [str(file) for file in passages]
    last = json.loads((tmp_path / "out" / "metrics.jsonl").read_text().splitlines()[-1])
    assert {"rag_token", "index_age", "distinct_passages", "gap_none", "gap_random"} < set(last)
    assert last.get("info_nce", 0) == 0
    # Another table, with passages, to look for them with the tuned query side.
    tuned = ["--retriever-name-or-path", tmp_path / "out" / "retriever"]
    assert command("eval-retriever", tiny_table, *tuned).code == 0


# The scripts


def script(name: str, *arguments: object) -> subprocess.CompletedProcess[str]:
    line = [sys.executable, SCRIPTS[name], *map(str, arguments)]
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, check=False)


def test_script_trains_a_retriever(tiny_models: Any, tiny_table: Path, tmp_path: Path) -> None:
    done = script(
        "train-retriever-only",
        *("--train_dataset_csv_path", tiny_table, "--model_name_or_path", tiny_models.encoder),
        *("--output_dir", tmp_path / "out", "--use_peft", "--with_tracking", "--report_to", "all"),
        *("--per_device_train_batch_size", 150),
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert (tmp_path / "out" / "retriever" / "adapter_config.json").is_file()
    assert settings_of(tmp_path / "out")["per_device_train_batch_size"] == 150
    assert f"next       dalm index {tiny_table} --retriever-name-or-path" in done.stderr


def test_script_trains_a_pair(tiny_models: Any, tiny_table: Path, tmp_path: Path) -> None:
    done = script(
        "train-rag-e2e",
        *("--dataset_path", tiny_table, "--retriever_name_or_path", tiny_models.encoder),
        *("--generator_name_or_path", tiny_models.generator, "--output_dir", tmp_path / "out"),
        *("--with_tracking", "--report_to", "all", "--per_device_train_batch_size", 24),
    )
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "out" / "generator" / "config.json").is_file()


@pytest.mark.parametrize("name", ["eval-retriever", "eval-rag"])
def test_script_evaluates(
    name: str,
    tiny_models: Any,
    tiny_table: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    file = ROOT / SCRIPTS[name]
    arguments = ["--dataset_path", tiny_table, "--retriever_name_or_path", tiny_models.encoder]
    arguments += ["--top_k", 3, "--output_dir", tmp_path / "out"]
    if name == "eval-rag":
        arguments += ["--generator_name_or_path", tiny_models.generator]
        arguments += ["--evaluate_generator", "--max_new_tokens", 2]
    monkeypatch.setattr(sys, "argv", [str(file), *map(str, arguments)])
    monkeypatch.syspath_prepend(str(file.parent))  # as the interpreter does
    monkeypatch.setattr(stop_signals, "listen", lambda: None)  # this process isn't the script's
    with pytest.raises(SystemExit) as end:
        runpy.run_path(str(file), run_name="__main__")
    assert end.value.code == 0
    assert (tmp_path / "out" / "results.json").is_file()


# Spellings

SAME = {
    "train-retriever-only": {
        "--dataset-path": ["--train_dataset_csv_path", "--train-dataset-csv-path"],
        "--retriever-name-or-path": ["--model_name_or_path", "--model-name-or-path"],
    },
    "train-rag-e2e": {
        "--dataset-path": ["--train_dataset_csv_path"],
        "--retriever-name-or-path": ["--model_name_or_path"],
    },
    "train-generator-only": {
        "--dataset-path": ["--train_dataset_csv_path"],
        "--generator-name-or-path": ["--model_name_or_path"],
    },
    "merge": {"--output-dir": ["--output_dir"]},
    "eval-retriever": {
        "--dataset-path": ["--test_dataset_csv_path"],
        "--retriever-name-or-path": ["--model_name_or_path"],
    },
    "eval-rag": {
        "--dataset-path": ["--test_dataset_csv_path"],
        "--retriever-name-or-path": ["--model_name_or_path"],
    },
    "compare": {"--fail-below": ["--fail_below"]},
    "mine-negatives": {
        "--dataset-path": ["--train_dataset_csv_path"],
        "--retriever-name-or-path": ["--model_name_or_path"],
    },
    "passages": {"--docs": ["--docs"]},
    "qa-gen": {"--output-dir": ["--output_dir"], "--as-csv": ["--as_csv"]},
    "reading-comprehension": {"--passage-column": ["--passage_column"]},
    "pretrain": {"--from-scratch": ["--from_scratch"]},
}
EVERYWHERE = {
    "--retriever-is-autoregressive": ["--is_autoregressive", "--is-autoregressive"],
    "--passage-column": ["--dataset_passage_col_name", "--dataset-passage-col-name"],
    "--query-column": ["--dataset_query_col_name"],
    "--top-k": ["--top_k"],
    "--use-peft": ["--use_peft"],
}


@pytest.mark.parametrize("name", SCRIPTS)
def test_both_spellings_name_one_option(name: str) -> None:
    collection = app[name].assemble_argument_collection()
    names = {each: argument for argument in collection for each in argument.names}
    for option, others in (SAME[name] | EVERYWHERE).items():
        for other in others:
            if option in names:
                assert collection.match(other)[0] is collection.match(option)[0], other


# Options from a file


def test_settings_file_reproduces_the_run(
    command: Command, tiny_models: Any, tiny_table: Path, tmp_path: Path
) -> None:
    odd = ["--learning-rate", "3e-3", "--seed", 7, "--batch-size", 8, "--use-peft"]
    odd += ["--lora-target-modules", "query", "value", "--query-prompt", "find: ", "--epochs", 2]
    line = ["train-retriever-only", tiny_models.encoder, tiny_table, "--output-dir", "first", *odd]
    assert command(*line, "--overwrite-output-dir", "--logging-steps", 1).code == 0
    assert command("train-retriever-only", "--config", "first/settings.yaml").code == 2, "a run"
    again = ["train-retriever-only", "--config=first/settings.yaml", "--output-dir"]
    assert command(*again, "second").code == 0
    assert command(*again, "third", "--seed", 8).code == 0

    first, second, third = (tmp_path / name for name in ("first", "second", "third"))
    assert settings_of(second) == settings_of(first) | {"output_dir": "second"}
    assert settings_of(third) == settings_of(first) | {"output_dir": "third", "seed": 8}
    assert losses(second) == losses(first)
    assert losses(third) != losses(first)
    weights = [load_file(f / "retriever" / "adapter_model.safetensors") for f in (first, second)]
    assert all((weights[0][key] == weights[1][key]).all() for key in weights[0] | weights[1])


def losses(run_folder: Path) -> list[float]:
    lines = (run_folder / "metrics.jsonl").read_text().splitlines()
    return [json.loads(line)["loss"] for line in lines]


def test_settings_file_leaves_out_what_is_said_of_one_start(trained: dict[str, Path]) -> None:
    kept = settings_of(trained["pair"])
    assert not {"hub_token", "overwrite_output_dir", "resume_from_checkpoint"} & set(kept)
    assert list(kept)[:3] == ["dataset_path", "retriever_name_or_path", "generator_name_or_path"]


def test_a_config_does_not_outlast_its_command(command: Command, tmp_path: Path) -> None:
    (tmp_path / "odd.yaml").write_text("no_such_option: 1\n")
    line = ["train-retriever-only", "model", "table.csv", "--output-dir", "out"]
    assert "no_such_option" in command(*line, "--config", "odd.yaml").err
    assert "no_such_option" not in command(*line).err


# Mistakes on the command line


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["train-rag-e2ee"], 'Did you mean "train-rag-e2e"?'),
        (
            ["train-rag-e2e", "a", "b", "c", "--output-dir", "d", "--use-pefft", "both"],
            "--use-peft",
        ),
        (["train-rag-e2e", "a", "b", "c", "--output_dir", "d", "--top_kk", "1"], "--top_kk"),
        (["train-rag-e2e", "a", "b", "--output-dir", "d"], "generator-name-or-path"),
        (["train-rag-e2e", "a", "b", "c"], "dalm train-rag-e2e needs --output-dir\n"),
        (["train-rag-e2e", "a", "b", "c", "--output-dir"], "--output-dir requires an argument"),
        (["passages", "--output", "p.jsonl"], "dalm passages needs --docs\n"),
        (
            ["train-rag-e2e", "a"],
            "dalm train-rag-e2e needs --retriever-name-or-path, --generator-name-or-path and "
            "--output-dir",
        ),
        (
            ["eval-rag", "a", "--evaluate-generator"],
            "--search-index INDEX; --evaluate-generator needs a generator: --generator-name-or-pa",
        ),
        (["qa-gen", "a", "--backend", "http"], "needs --base-url, the server's address, as in htt"),
        (["qa-gen", "a", "--backend", "http"], "/v1, and --model, the server's name for its mod"),
        (["train-rag-e2e", "a", "b", "c", "d", "--output-dir", "e"], "d"),
        (["train-rag-e2e", "a", "b", "c", "--output-dir", "d", "--epochs", "x"], "--epochs"),
    ],
)
def test_mistakes(command: Command, arguments: list[str], said: str) -> None:
    outcome = command(*arguments)
    assert outcome.code == 2
    assert outcome.err.count("\n") == 1
    assert said in outcome.err
    assert outcome.err.startswith("dalm: ")
    assert outcome.out == ""


# Public names


def test_control_c_is_said_and_has_its_code(
    command: Command, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(*arguments: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("dalm.eval.results.read_runs", interrupted)
    outcome = command("compare", "run")
    assert (outcome.code, outcome.err) == (130, "dalm: stopped\n")


def test_a_signal_before_the_command_is_known_is_said_and_has_its_code(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def stopped() -> None:
        raise stop_signals.Stopped(signal.SIGTERM)

    monkeypatch.setattr(stop_signals, "listen", lambda: None)
    monkeypatch.setattr("dalm.cli.main", stopped)
    with pytest.raises(SystemExit) as ended:
        __main__.main()
    assert (ended.value.code, capsys.readouterr().err) == (143, "dalm: stopped\n")


def test_public_names() -> None:
    from dalm import (
        EvalRag,
        EvalRetriever,
        RagE2E,
        RetrieverOnly,
        compare,
        eval_rag,
        eval_retriever,
        merge,
        mine_negatives,
        passages,
        pretrain,
        qa_gen,
        reading_comprehension,
        train_generator_only,
        train_rag_e2e,
        train_retriever_only,
    )

    assert {"RagE2E", "train_rag_e2e"} <= set(dir(dalm))
    assert RagE2E(output_dir="out").objective == "rag_token"
    assert RetrieverOnly(output_dir="out", hub_token="s").__repr__().count("hub_token") == 0
    assert EvalRag.__mro__[1] is EvalRetriever
    doors = (
        train_retriever_only,
        train_rag_e2e,
        train_generator_only,
        merge,
        eval_retriever,
        eval_rag,
        compare,
        mine_negatives,
        passages,
        qa_gen,
        reading_comprehension,
        pretrain,
    )
    assert [door.__name__ for door in doors] == [name.replace("-", "_") for name in SCRIPTS]
    with pytest.raises(AttributeError, match="no attribute 'train_rag'"):
        _ = dalm.train_rag


def test_doors_are_functions(tiny_models: Any, tiny_table: Path, tmp_path: Path) -> None:
    settings = dalm.RetrieverOnly(output_dir=str(tmp_path / "out"), max_train_steps=1)
    dalm.train_retriever_only(str(tiny_models.encoder), str(tiny_table), settings)
    assert (tmp_path / "out" / "retriever" / "modules.json").is_file()


@pytest.mark.parametrize("kind", [str, Path])
def test_functions_take_paths_of_pathlib_and_a_single_one(kind: type, tmp_path: Path) -> None:
    (tmp_path / "ada.txt").write_text("Ada lives in Ulm, where the river is wide and slow.")
    settings = dalm.Passages(output=kind(tmp_path / "passages.jsonl"))
    dalm.passages(kind(tmp_path / "ada.txt"), settings)
    assert "Ulm" in (tmp_path / "passages.jsonl").read_text()
    assert settings.output == kind(tmp_path / "passages.jsonl"), "the caller's own"
    written = yaml.safe_load((tmp_path / "passages.settings.yaml").read_text())
    assert written["docs"] == [str(tmp_path / "ada.txt")]


# The frozen options: to rename one, or to move a default, is a decision

REQUIRED = "required"
COLUMNS = {
    "--passage-column --dataset-passage-col-name": "Passage",
    "--query-column --dataset-query-col-name": "Query",
    "--title-column": "Title",
    "--prepend-title --no-prepend-title": False,
    "--encoding": None,
}
ANSWER = {"--answer-column --dataset-answer-col-name": "Answer"}
RETRIEVER = {
    "--retriever-is-autoregressive --is-autoregressive": None,
    "--query-prompt": None,
    "--passage-prompt": None,
}
RAY = {"--ray": None, "--ray-actors": None, "--ray-max-actors": None}
MACHINE = {"--precision": "auto", "--device": "auto", "--trust-remote-code": False}
RERANKING = {"--reranker": None, "--rerank-top": 50}
ANSWERING = {
    **RERANKING,
    "--prompt": None,
    "--generator-url": None,
    "--generator-model --model": None,
    "--generator-api-key-env": "OPENAI_API_KEY",
    "--generator-name-or-path": None,
    "--generator-peft-model-path": None,
    "--reader-passages": None,
    "--citations --no-citations": False,
    "--answer-anyway": False,
    "--max-new-tokens": 64,
    "--generator-max-len": None,
    "--search": "hybrid",
    "--where": None,
}
TRAINING = {
    "--negatives-column": "Negatives",
    "--output-dir": REQUIRED,
    "--overwrite-output-dir --no-overwrite-output-dir": False,
    "--checkpointing-steps": "epoch",
    "--checkpoints-kept": 2,
    "--resume-from-checkpoint": None,
    "--dry-run": False,
    "--logging-steps": 10,
    "--with-tracking --no-with-tracking": False,
    "--report-to": None,
    "--hub-model-id": None,
    "--hub-token": None,
    "--lora-rank": 16,
    "--lora-alpha": 32,
    "--lora-dropout": 0.05,
    "--lora-target-modules": None,
    "--per-device-train-batch-size --batch-size": 32,
    "--gradient-accumulation-steps": 1,
    "--num-train-epochs --epochs": 1,
    "--max-train-steps": None,
    "--learning-rate": 1e-4,
    "--lr-scheduler-type": "linear",
    "--num-warmup-steps": 0,
    "--weight-decay": 0.0,
    "--max-grad-norm": 1.0,
    "--logit-scale": None,
    "--gradient-checkpointing --no-gradient-checkpointing": False,
    "--optimizer": "adamw",
    "--shard": "none",
    "--cpu-offload --no-cpu-offload": False,
    "--seed": 42,
    "--query-max-len": None,
    "--passage-max-len": None,
}
OF_RETRIEVERS = ("--negatives-column", "--logit-scale", "--query-max-len", "--passage-max-len")
EVALUATION = {
    "--dataset-path --test-dataset-csv-path": REQUIRED,
    "--retriever-name-or-path --model-name-or-path": None,
    "--retriever-peft-model-path": None,
    "--passages": None,
    "--top-k": 10,
    "--measures": None,
    "--search-index": None,
    "--search": "hybrid",
    "--baseline": None,
    "--reranker": None,
    "--rerank-top": 50,
    "--output-dir": None,
    "--overwrite-output-dir --no-overwrite-output-dir": False,
    "--report": None,
    "--seed": 42,
    "--fail-below": None,
    "--fail-on-regression --no-fail-on-regression": False,
    "--guard": None,
    "--guard-margin": 0.02,
    "--cache --no-cache": True,
    "--cache-dir": None,
    "--query-max-len": None,
    "--passage-max-len": None,
}
NO_RERANKERS = {
    *("--logit-scale", "--query-max-len", "--passage-max-len"),
    *("--lora-rank", "--lora-alpha", "--lora-dropout", "--lora-target-modules"),
}
OPTIONS: dict[str, dict[str, object]] = {
    "train-retriever-only": {
        **COLUMNS,
        **RETRIEVER,
        **MACHINE,
        **TRAINING,
        "--retriever-name-or-path --model-name-or-path": REQUIRED,
        "--dataset-path --train-dataset-csv-path": REQUIRED,
        "--answer-column --dataset-answer-col-name": "Answer",
        "--passages": None,
        "--objective": "contrastive",
        "--num-candidates": 8,
        "--target-temperature": "auto",
        "--marginal-temperature": None,
        "--margin-scale": None,
        "--contrastive-weight": 1.0,
        "--num-train-epochs --epochs": 3,
        "--contrastive-chunk": None,
        "--matryoshka-dims": None,
        "--train-encoders": "both",
        "--cache --no-cache": True,
        "--cache-dir": None,
        "--use-peft --no-use-peft": False,
        "--use-bnb --no-use-bnb": False,
    },
    "train-reranker": {
        **COLUMNS,
        **MACHINE,
        **{name: default for name, default in TRAINING.items() if name not in NO_RERANKERS},
        "--reranker-name-or-path --model-name-or-path": REQUIRED,
        "--dataset-path --train-dataset-csv-path": REQUIRED,
        "--objective": None,
        "--num-candidates": 8,
        "--target-temperature": "auto",
        "--max-length": None,
        "--per-device-train-batch-size --batch-size": 8,
        "--learning-rate": 2e-5,
    },
    "train-rag-e2e": {
        **COLUMNS,
        **ANSWER,
        **RETRIEVER,
        **MACHINE,
        **TRAINING,
        "--dataset-path --train-dataset-csv-path": REQUIRED,
        "--retriever-name-or-path --model-name-or-path": REQUIRED,
        "--generator-name-or-path": REQUIRED,
        "--generator-max-len": None,
        "--prompt": None,
        "--preset": None,
        "--objective": "rag_token",
        "--num-candidates": None,
        "--marginal-temperature": None,
        "--target-temperature": "auto",
        "--teacher-mix": 0.0,
        "--reader-passages": 1,
        "--gold-probability": 1.0,
        "--contrastive-weight": 1.0,
        "--contrastive-chunk": None,
        "--train-encoders": "both",
        "--train-generator --no-train-generator": True,
        "--reader-warmup": 0.0,
        "--skip-gradient-below": 1e-6,
        "--candidates": "in-batch",
        "--passages": None,
        "--refresh-budget": 0.1,
        "--over-retrieve": 2,
        "--write-back --no-write-back": False,
        "--reconstruction-weight": 0.0,
        "--generator-learning-rate": None,
        "--use-peft": None,
        "--use-bnb": None,
    },
    "train-generator-only": {
        **COLUMNS,
        **ANSWER,
        **MACHINE,
        **{
            name: default
            for name, default in TRAINING.items()
            if name not in ("--negatives-column", "--logit-scale")
        },
        "--dataset-path --train-dataset-csv-path": REQUIRED,
        "--generator-name-or-path --model-name-or-path": REQUIRED,
        "--generator-max-len": None,
        "--prompt": None,
        "--reader-passages": None,
        "--gold-probability": None,
        "--retriever-name-or-path": None,
        "--passages": None,
        "--query-max-len": None,
        "--passage-max-len": None,
        "--query-prompt": None,
        "--passage-prompt": None,
        "--cache --no-cache": True,
        "--cache-dir": None,
        "--use-peft --no-use-peft": False,
        "--use-bnb --no-use-bnb": False,
    },
    "merge": {
        "--adapter": REQUIRED,
        "--output-dir": REQUIRED,
        "--overwrite-output-dir --no-overwrite-output-dir": False,
        "--weight": 1.0,
        "--base": None,
        "--dtype": "auto",
        "--device": "auto",
        "--trust-remote-code": False,
    },
    "eval-retriever": {**COLUMNS, **ANSWER, **RETRIEVER, **MACHINE, **EVALUATION},
    "eval-rag": {
        **COLUMNS,
        **ANSWER,
        **RETRIEVER,
        **MACHINE,
        **EVALUATION,
        "--generator-name-or-path": None,
        "--generator-url": None,
        "--generator-model --model": None,
        "--generator-api-key-env": "OPENAI_API_KEY",
        "--generator-peft-model-path": None,
        "--answerable-column": "Answerable",
        "--answer-anyway": False,
        "--evaluate-generator --no-evaluate-generator": False,
        "--bounds --no-bounds": True,
        "--baseline-generator": None,
        "--reader-passages": None,
        "--citations --no-citations": False,
        "--max-new-tokens": 64,
        "--generator-max-len": None,
        "--prompt": None,
        "--judge": None,
        "--judge-model": None,
        "--judge-api-key-env": "OPENAI_API_KEY",
        "--judge-concurrency": 16,
        "--judge-max-retries": 8,
        "--judge-timeout": 300.0,
        "--judge-max-new-tokens": 1024,
        "--judge-journal": None,
    },
    "compare": {
        "--runs": REQUIRED,
        "--qrels": None,
        "--measures": None,
        "--report": None,
        "--overwrite-report --no-overwrite-report": False,
        "--seed": 42,
        "--fail-below": None,
        "--fail-on-regression --no-fail-on-regression": False,
    },
    "mine-negatives": {
        **COLUMNS,
        **RETRIEVER,
        **MACHINE,
        "--dataset-path --train-dataset-csv-path": REQUIRED,
        "--retriever-name-or-path --model-name-or-path": REQUIRED,
        "--retriever-peft-model-path": None,
        "--output": REQUIRED,
        "--overwrite-output --no-overwrite-output": False,
        "--passages": None,
        "--query-max-len": None,
        "--passage-max-len": None,
        "--encoder-backend": None,
        "--cache --no-cache": True,
        "--cache-dir": None,
        "--bm25 --no-bm25": False,
        "--num-negatives": 4,
        "--first-rank": 1,
        "--last-rank": 100,
        "--max-share": 0.95,
        "--margin": None,
        "--skip-same-document --no-skip-same-document": True,
        "--sampling": "best",
        "--seed": 42,
    },
    "score-candidates": {
        **RAY,
        "--ray-gpus": None,
        **COLUMNS,
        **ANSWER,
        **RETRIEVER,
        **MACHINE,
        "--dataset-path": REQUIRED,
        "--passages": REQUIRED,
        "--num-candidates": 32,
        "--search": None,
        "--search-with": "question-and-answer",
        "--retriever-name-or-path": None,
        "--retriever-peft-model-path": None,
        "--query-max-len": None,
        "--passage-max-len": None,
        "--teacher": REQUIRED,
        "--feedback": None,
        "--num-negatives": 4,
        "--negative-margin": None,
        "--check --no-check": False,
        "--generator-name-or-path": None,
        "--generator-peft-model-path": None,
        "--prompt": None,
        "--generator-max-len": None,
        "--reranker": None,
        "--llm": None,
        "--llm-model": None,
        "--llm-api-key-env": "OPENAI_API_KEY",
        "--llm-concurrency": 16,
        "--llm-max-retries": 8,
        "--llm-timeout": 300.0,
        "--llm-max-new-tokens": 256,
        "--llm-window": 10,
        "--cache --no-cache": True,
        "--cache-dir": None,
        "--output": REQUIRED,
        "--overwrite-output --no-overwrite-output": False,
        "--dry-run": False,
    },
    "passages": {
        "--docs": REQUIRED,
        "--output": REQUIRED,
        "--overwrite-output --no-overwrite-output": False,
        "--max-words": 100,
        "--max-tokens": None,
        "--tokenizer": None,
        "--trust-remote-code": False,
        "--overlap": 0,
        "--min-words": 5,
        "--near-duplicates": 0.8,
        "--keep-contained": False,
        "--text-column": None,
        "--title-column": None,
        "--encoding": "utf-8",
        "--html": "main",
        "--max-megabytes": 64,
        "--strict": False,
        "--processes": 1,
        **RAY,
    },
    "qa-gen": {
        **RAY,
        "--ray-gpus": None,
        "--dataset-path": REQUIRED,
        "--passage-column --passage-column-name --dataset-passage-col-name": "Passage",
        "--title-column --title-column-name": "Title",
        "--encoding": None,
        "--backend": "extractive",
        "--generator-name-or-path --model": None,
        "--base-url": None,
        "--api-key-env": "OPENAI_API_KEY",
        "--concurrency": 16,
        "--max-retries": 8,
        "--timeout": 300.0,
        "--temperature": 0.0,
        "--max-new-tokens": 1024,
        "--reply-format": "json",
        "--questions-per-passage": 3,
        "--query-types": None,
        "--answer-types": None,
        "--kinds": None,
        "--round-trip-k": 20,
        "--retriever-name-or-path": None,
        "--max-overlap": 0.8,
        "--judge": False,
        "--judge-model": None,
        **MACHINE,
        "--output-dir": "qa-gen",
        "--overwrite-output-dir --no-overwrite-output-dir": False,
        "--as-csv": False,
        "--as-jsonl": False,
        "--as-dataset": False,
        "--test-share": 0.1,
        "--seed": 42,
        "--dry-run": False,
        "--limit": None,
    },
    "reading-comprehension": {
        "--dataset-path": REQUIRED,
        "--output": REQUIRED,
        "--overwrite-output --no-overwrite-output": False,
        "--passage-column --passage-column-name --dataset-passage-col-name": "Passage",
        "--title-column --title-column-name": "Title",
        "--encoding": None,
        "--patterns --no-patterns": True,
        "--questions": None,
        "--general-vocabulary": None,
        "--trust-remote-code": False,
        "--exercises-per-passage": 4,
        "--seed": 42,
    },
    "pretrain": {
        **MACHINE,
        **{option: TRAINING[option] for option in TRAINING if option not in OF_RETRIEVERS},
        "--dry-run": False,
        "--dataset-path": REQUIRED,
        "--generator-name-or-path": None,
        "--per-device-train-batch-size --batch-size": 8,
        "--learning-rate": 5e-5,
        "--text-column": None,
        "--title-column": None,
        "--encoding": None,
        "--html": "main",
        "--replay": None,
        "--replay-ratio": 0.1,
        "--held-out": None,
        "--held-out-share": 0.05,
        "--held-out-bytes": 200_000,
        "--from-scratch": None,
        "--extend-vocabulary": 0,
        "--sequence-length": 1024,
        "--evaluation-steps": None,
        "--max-general-loss": 0.1,
        "--patience": None,
        "--use-peft --no-use-peft": False,
        "--use-bnb --no-use-bnb": False,
    },
    "index": {
        "--source": None,
        "--text-column": None,
        "--title-column": None,
        "--encoding": "utf-8",
        "--html": "main",
        "--max-megabytes": 64,
        "--processes": 1,
        "--strict": False,
        "--max-words": 100,
        "--max-tokens": None,
        "--tokenizer": None,
        "--overlap": 0,
        "--min-words": 5,
        **MACHINE,
        "--near-duplicates": 0.8,
        "--keep-contained": False,
        "--retriever-is-autoregressive --is-autoregressive": None,
        "--query-prompt": None,
        "--passage-prompt": None,
        "--encoder-backend": None,
        "--query-max-len": None,
        "--passage-max-len": None,
        "--index-dir": REQUIRED,
        "--retriever-name-or-path --model-name-or-path": None,
        "--retriever-peft-model-path": None,
        "--store": None,
        "--store-url": None,
        "--vectors": None,
        "--prune": False,
        "--rebuild": False,
        "--rollback": False,
        "--keep": 1,
        "--calibrate": None,
        "--query-column": "Query",
        **RAY,
        "--ray-gpus": None,
    },
    "search": {
        "--index-dir": REQUIRED,
        "--question": REQUIRED,
        **MACHINE,
        **RERANKING,
        "--search": "hybrid",
        "--where": None,
        "--top-k": 5,
        "--json": False,
    },
    "ask": {
        "--index-dir": REQUIRED,
        "--question": None,
        **MACHINE,
        **ANSWERING,
        "--json": False,
        "--verbose": False,
    },
    "serve": {
        "--index-dir": REQUIRED,
        **MACHINE,
        **ANSWERING,
        "--host": "127.0.0.1",
        "--port": 8000,
        "--auth --no-auth": True,
        "--cors-origin": None,
        "--max-concurrent": 16,
        "--max-waiting": 64,
        "--request-timeout": 120.0,
        "--shutdown-timeout": 30.0,
        "--mcp-stdio": False,
        "--allow-uploads": False,
        "--feedback": False,
        "--documents": None,
        "--compare-index": None,
        "--compare-previous": False,
        "--compare-generator-name-or-path": None,
        "--log-questions": False,
    },
    "feedback": {
        "--index-dir": REQUIRED,
        "--output": None,
        "--held-out": None,
        "--held-out-share": 0.2,
        "--ratings": None,
        "--overwrite-output --no-overwrite-output": False,
        "--forget-person": None,
        "--forget-question": None,
        "--list-people": False,
    },
    "adapt": {
        "--docs": REQUIRED,
        "--cache-dir": None,
        "--cache --no-cache": True,
        "--trust-remote-code": False,
        "--precision": "auto",
        "--device": "auto",
        "--from": None,
        "--to": None,
        "--dry-run": False,
        "--force": False,
        "--test-share": None,
        "--max-test-questions": 200,
        "--reranker": None,
        "--guard": None,
        "--recipe": "independent",
        "--stage-options": None,
        "--seed": 42,
        "--questions": None,
        "--query-column": "Query",
        "--answer-column": "Answer",
        "--passage-column": "Passage",
        "--encoding": None,
        "--backend": "extractive",
        "--question-model --model": None,
        "--base-url": None,
        "--feedback": None,
        "--retriever-name-or-path --retriever": REQUIRED,
        "--generator-name-or-path --generator": REQUIRED,
        "--output-dir": REQUIRED,
    },
    "export": {
        "--tuned": REQUIRED,
        "--trust-remote-code": False,
        "--output-dir": REQUIRED,
        "--overwrite-output-dir": False,
        "--onnx": False,
        "--dtype": "auto",
        "--device": "auto",
    },
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options_are_frozen(name: str) -> None:
    found = {
        " ".join(argument.names): REQUIRED if argument.required else argument.field_info.default
        for argument in app[name].assemble_argument_collection()
        if argument.names != ("*",)
    }
    assert found == OPTIONS[name]
