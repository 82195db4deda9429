"""The command from end to end: by patterns, over HTTP, killed at any moment."""

import csv
import json
import multiprocessing
import os
import random
import shutil
import signal
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path
from typing import Any

import psutil
import pytest
import yaml

from dalm.artifacts import claim_folder
from dalm.cli import app, run
from dalm.commands.qa_gen import qa_gen
from dalm.config import Columns, QaGen
from dalm.errors import UserError
from dalm.io.examples import read_examples
from tests.llm.stub_server import completion

ROOT = Path(__file__).parents[2]
TOY = ROOT / "dalm/datasets/toy_data_test.csv"
TABLES = ("question_answer_pairs_train.csv", "question_answer_pairs_test.csv")
SEVERAL_FORMS = ("--as-csv", "--as-jsonl", "--as-dataset")


def command(*arguments: object) -> int:
    return run(app, ["qa-gen", *map(str, arguments)])


def rows(path: Path) -> list[dict[str, str]]:
    with path.open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file))


def made(folder: Path) -> dict[str, bytes]:
    """Return what a run leaves behind but for its journal."""
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file() and not path.name.startswith(("journal", ".dalm.lock"))
    }


def over_http(stub: Any, table: Path, folder: Path, **options: Any) -> dict[str, Any]:
    return {
        "dataset_path": str(table),
        "settings": QaGen(
            backend="http",
            base_url=stub.url,
            generator_name_or_path="m",
            output_dir=str(folder),
            test_share=0.3,
            concurrency=4,
            **options,
        ),
    }


# By patterns


def test_the_readme_line(tmp_path, monkeypatch, caplog):
    monkeypatch.chdir(tmp_path)
    assert command(TOY) == 0
    train, test = (rows(tmp_path / "qa-gen" / name) for name in TABLES)
    assert train
    assert test
    assert list(train[0])[:4] == ["Title", "Passage", "Query", "Answer"]
    for row in train + test:
        assert row["Quote"] == row["Passage"][int(row["QuoteStart"]) : int(row["QuoteEnd"])]
        assert row["Answer"] in row["Quote"]
        assert row["QueryType"] in ("question", "keywords", "title")
        assert (row["Kind"] in ("fact", "why", "how")) == (row["QueryType"] == "question")
        assert row["AnswerType"] in ("short", "long", "list", "yes-no")
        assert row["Generator"] == "extractive"
        assert 1 <= int(row["Rank"]) <= 20
    assert not {row["Title"] for row in train} & {row["Title"] for row in test}
    hard = tmp_path / "qa-gen" / "question_answer_pairs_test_hard.csv"
    assert (rows(hard) if hard.exists() else []) == [r for r in test if r["BM25Rank"] != "1"]
    assert {row["QueryType"] for row in train + test} >= {"keywords", "title"}
    assert "Answerable" not in train[0]
    said = caplog.text
    assert "BM25       recall@1 " in said
    assert "types      " in said
    assert "next       dalm train-rag-e2e" in said
    rejections = (tmp_path / "qa-gen/rejections.jsonl").read_text().splitlines()
    assert all({"Gate", "Reason", "Query", "Answer"} <= set(json.loads(r)) for r in rejections)
    assert f"{len(train) + len(test)} passed the filters, {len(rejections)} did not" in said


def test_without_a_test_share_all_are_to_train_on(tmp_path, caplog):
    assert command(TOY, "--output-dir", tmp_path / "split") == 0
    caplog.clear()
    assert command(TOY, "--output-dir", tmp_path / "whole", "--test-share", 0) == 0
    both = [row for name in TABLES for row in rows(tmp_path / "split" / name)]
    whole = rows(tmp_path / "whole" / TABLES[0])
    assert sorted(map(str, whole)) == sorted(map(str, both))
    assert not (tmp_path / "whole" / TABLES[1]).exists()
    assert "split" not in caplog.text.replace("/split/", "")
    assert f"on the {len(whole)} queries" in caplog.text


def test_every_form_holds_the_same_and_is_read_without_options(tmp_path):
    assert command(TOY, "--output-dir", tmp_path / "out", *SEVERAL_FORMS) == 0
    names = [f"question_answer_pairs_train{form}" for form in (".csv", ".jsonl", "")]
    needs = ("passage", "answer")
    first, *others = (
        read_examples(tmp_path / "out" / name, Columns(), needs=needs) for name in names
    )
    assert first
    assert all(other == first for other in others)
    assert command(TOY, "--output-dir", tmp_path / "only", "--as-jsonl") == 0
    assert not list((tmp_path / "only").glob("*.csv"))


def test_the_settings_make_the_same_tables_again(tmp_path):
    odd = ["--seed", 7, "--test-share", 0.4, "--round-trip-k", 5, "--questions-per-passage", 2]
    assert command(TOY, "--output-dir", tmp_path / "a", *odd) == 0
    settings = tmp_path / "a" / "settings.yaml"
    assert command("--config", settings, "--output-dir", tmp_path / "b") == 0
    first, second = made(tmp_path / "a"), made(tmp_path / "b")
    kept = [yaml.safe_load(each.pop("settings.yaml")) for each in (first, second)]
    assert first == second
    assert kept[1] == kept[0] | {"output_dir": str(tmp_path / "b")}
    assert not {"dry_run", "limit", "overwrite_output_dir"} & set(kept[0])


def test_a_table_without_a_title(tmp_path):
    table = tmp_path / "bare.jsonl"
    table.write_text(
        "".join(json.dumps({"text": row["Passage"]}) + "\n" for row in rows(TOY)[:200])
    )
    assert command(table, "--passage-column", "text", "--output-dir", tmp_path / "out") == 0
    train, test = (rows(tmp_path / "out" / name) for name in TABLES)
    assert test
    assert not {row["Passage"] for row in train} & {row["Passage"] for row in test}


def test_results_are_replaced_only_when_told_so(tmp_path, capsys):
    line = (TOY, "--output-dir", tmp_path / "out")
    assert command(*line, "--as-jsonl") == 0
    before = made(tmp_path / "out")
    assert command(*line) == 2
    assert "holds results (question_answer_pairs_train.jsonl)" in capsys.readouterr().err
    assert made(tmp_path / "out") == before
    (tmp_path / "out" / "mine.csv").write_text("x")
    assert command(*line, "--overwrite-output-dir") == 0
    after = made(tmp_path / "out")
    assert "question_answer_pairs_train.csv" in after
    assert "question_answer_pairs_train.jsonl" not in after
    assert after["mine.csv"] == b"x"


def test_a_folder_that_another_run_writes_to_is_refused(tmp_path, capsys):
    assert command(TOY, "--output-dir", tmp_path / "out") == 0
    before = made(tmp_path / "out")
    with claim_folder(tmp_path / "out", "--output-dir"):
        assert command(TOY, "--output-dir", tmp_path / "out", "--overwrite-output-dir") == 2
    assert "another process is writing there" in capsys.readouterr().err
    assert made(tmp_path / "out") == before


def test_an_error_while_writing_leaves_the_earlier_results(tmp_path, monkeypatch, capsys):
    line = (TOY, "--output-dir", tmp_path / "out", "--overwrite-output-dir")
    assert command(*line) == 0
    before = made(tmp_path / "out")

    def fail(*_: object) -> None:
        raise UserError("no space left")

    with monkeypatch.context() as patched:
        patched.setattr("dalm.synth.pairs.write_yaml", fail)
        assert command(*line) == 2
    assert made(tmp_path / "out") == before
    assert command(*line[:-1]) == 2, "they are complete, and not replaced unasked"


def test_a_grown_table_keeps_its_documents_on_their_sides(tmp_path):
    few, more = rows(TOY)[:300], rows(TOY)
    sides = []
    for name, part in (("few", few), ("more", more)):
        table = tmp_path / f"{name}.csv"
        with table.open("w", newline="") as file:
            writer = csv.DictWriter(file, list(part[0]))
            writer.writeheader()
            writer.writerows(part)
        line = (table, "--output-dir", tmp_path / name, "--test-share", 0.3)
        assert command(*line, "--round-trip-k", 0) == 0
        sides.append([{r["Title"] for r in rows(tmp_path / name / t)} for t in TABLES])
    (few_train, few_test), (more_train, more_test) = sides
    assert few_test
    moved = few_train & more_test | few_test & more_train
    assert len(moved) <= 0.2 * len(few_train | few_test)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--round-trip-k", "-1"], "--round-trip-k -1: must be"),
        (["--backend", "http"], "needs --base-url"),
        (["--backend", "http", "--base-url", "http://x"], "needs --model"),
        (["--backend", "transformers"], "needs --model"),
        (["--backend", "transformers", "--model", "./none"], "no such folder"),
        (["--concurrency", "3"], "has no effect without --backend http"),
        (["--device", "cpu"], "has no effect without --backend transformers"),
        (["--kinds", "why"], "has no effect without --backend"),
        (["--answer-types", "list"], "has no effect without --backend"),
        (["--judge"], "has no effect without --backend"),
        (["--judge-model", "m"], "has no effect without --judge"),
        (["--max-overlap", "0.5"], "has no effect without --backend"),
        (["--reply-format", "lines"], "has no effect without --backend"),
        (["--query-types", "claim"], "claim: rules can't make it"),
        (["--query-types", "question=x"], "question=x: the share must be a number"),
        (["--dry-run", "--limit", "2"], "leave out one of them"),
        (["--passage-column", "nope"], "no column 'nope'"),
        (["--retriever-name-or-path", "./none"], "no such folder"),
    ],
)
def test_mistakes_are_one_line(tmp_path, capsys, options, said):
    assert command(TOY, "--output-dir", tmp_path / "out", *options) == 2
    err = capsys.readouterr().err
    assert said in err
    assert "Traceback" not in err
    assert not (tmp_path / "out").exists()


def test_nothing_that_passes(tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("Passage\nnothing to ask\n")
    assert command(table, "--output-dir", tmp_path / "out") == 2
    assert "no question passed the filters" in capsys.readouterr().err
    assert (tmp_path / "out" / "rejections.jsonl").exists()


def test_dry_run_and_trial_by_patterns(tmp_path, capsys):
    line = (TOY, "--output-dir", tmp_path / "out")
    assert command(*line, "--dry-run") == 0
    assert "requests    0: rules ask no model" in capsys.readouterr().out
    assert command(*line, "--limit", 20) == 0
    printed = capsys.readouterr().out
    assert 2 <= printed.count("\npassage   ") <= 20
    assert "queries passed the filters" in printed
    assert not (tmp_path / "out").exists()


def test_as_a_script(tmp_path):
    script = "dalm/datasets/qa_gen/question_answer_generation.py"
    line = [sys.executable, script, "--dataset_path", TOY, "--output_dir", tmp_path / "out"]
    done = subprocess.run(
        [*map(str, line), "--as_csv"], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    assert "Traceback" not in done.stderr
    assert rows(tmp_path / "out" / TABLES[0])


# Over HTTP


def test_over_http(tmp_path, stub, engines, monkeypatch, capsys):
    monkeypatch.setenv("OPENAI_API_KEY", "sk-secret-77")
    stub.plan.extend(["fail", "", "drop", "cut"])
    qa_gen(**over_http(stub, engines, tmp_path / "out"))
    train, test = (rows(tmp_path / "out" / name) for name in TABLES)
    assert len(train) + len(test) == 29, "one answer was cut short"
    for row in train + test:
        assert row["Quote"] == row["Passage"].split(". ")[0] + "."
        assert (row["Generator"], row["QueryType"], row["Rank"]) == ("m", "question", "1")
        assert (row["AnswerType"], row["Kind"] != "") == ("short", True)
        assert row["PromptVersion"]
    order = [int(row["Query"].split()[3]) for row in train]
    assert order == sorted(order)
    assert len((tmp_path / "out" / "journal.jsonl").read_text().splitlines()) == 30
    said = capsys.readouterr()
    everything = b"".join(p.read_bytes() for p in (tmp_path / "out").rglob("*") if p.is_file())
    assert b"sk-secret" not in everything
    assert "sk-secret" not in said.err + said.out


def test_a_second_run_asks_nothing_and_more_passages_only_what_is_new(tmp_path, stub, engines):
    qa_gen(**over_http(stub, engines, tmp_path / "out"))
    assert len(stub.bodies) == 30
    before = made(tmp_path / "out")
    qa_gen(**over_http(stub, engines, tmp_path / "out", overwrite_output_dir=True))
    assert len(stub.bodies) == 30
    assert made(tmp_path / "out") == before
    with engines.open("a") as file:
        file.write("new,The engine number 99 of Ulm burns hay pellets. It is new.\n")
    qa_gen(**over_http(stub, engines, tmp_path / "out", overwrite_output_dir=True))
    assert len(stub.bodies) == 31


def test_dry_run_trial_and_an_estimate_from_it(tmp_path, stub, engines, capsys):
    qa_gen(**over_http(stub, engines, tmp_path / "out", dry_run=True))
    printed = capsys.readouterr().out
    assert "requests    30, of which 0 are answered" in printed
    assert "a guess" in printed
    assert not stub.bodies
    assert not (tmp_path / "out").exists()
    qa_gen(**over_http(stub, engines, tmp_path / "out", limit=3))
    assert len(stub.bodies) == 3
    printed = capsys.readouterr().out
    assert [f"engine {n} of" in printed for n in (0, 10, 20)] == [True] * 3
    assert "3 queries passed the filters" in printed
    qa_gen(**over_http(stub, engines, tmp_path / "out", dry_run=True))
    printed = capsys.readouterr().out
    assert "requests    30, of which 3 are answered" in printed
    assert "tokens in   8,100" in printed
    assert "tokens out  1,350" in printed
    assert "by 3 answers in the journal" in printed
    qa_gen(**over_http(stub, engines, tmp_path / "out"))
    assert len(stub.bodies) == 30


def test_passages_without_an_answer_are_counted_and_asked_again(tmp_path, stub, engines, caplog):
    stub.plan.extend(["", "", "", "", "too_long", "too_long"])
    qa_gen(**over_http(stub, engines, tmp_path / "out"))
    assert "2 of 30 requests got no reply (most often: 400 the context holds" in caplog.text
    qa_gen(**over_http(stub, engines, tmp_path / "out", overwrite_output_dir=True))
    assert len(stub.bodies) == 32
    assert len(rows(tmp_path / "out" / TABLES[0]) + rows(tmp_path / "out" / TABLES[1])) == 30


def test_reasoning_that_fills_the_reply_is_no_answer_for_ever(tmp_path, stub, engines, capsys):
    thought = {"content": None, "reasoning_content": "The passage is about an engine, and"}
    stub.plan.extend([completion(thought, "length")] * 99)
    line = [engines, "--backend", "http", "--base-url", stub.url, "--model", "m"]
    line += ["--output-dir", tmp_path / "out", "--overwrite-output-dir"]
    assert command(*line, "--concurrency", 64) == 2
    said = capsys.readouterr().err
    assert "cut off at 1,024 tokens, while the model was still reasoning" in said
    assert "raise --max-new-tokens, or turn the reasoning off on the server" in said
    stub.plan.clear()
    assert command(*line, "--max-new-tokens", 4096) == 0
    assert len(rows(tmp_path / "out" / TABLES[0]) + rows(tmp_path / "out" / TABLES[1])) == 30


def test_a_higher_limit_asks_for_the_replies_that_were_cut_and_no_others(tmp_path, stub, engines):
    stub.plan.extend(["", completion('{"questions": [{"question": "What', "length")])
    qa_gen(**over_http(stub, engines, tmp_path / "out"))
    more = {"overwrite_output_dir": True, "max_new_tokens": 4096}
    qa_gen(**over_http(stub, engines, tmp_path / "out", **more))
    assert len(stub.bodies) == 31
    assert len(rows(tmp_path / "out" / TABLES[0]) + rows(tmp_path / "out" / TABLES[1])) == 30


def test_a_server_that_answers_nothing(tmp_path, stub, engines, capsys):
    stub.plan.extend(["too_long"] * 99)
    line = (engines, "--backend", "http", "--base-url", stub.url, "--model", "m")
    out = ("--output-dir", tmp_path / "out", "--concurrency", 64)
    assert command(*line, *out) == 2
    said = capsys.readouterr().err
    assert "no request got a reply; most often: 400 the context holds 512 tokens" in said
    assert not list((tmp_path / "out").glob("question*"))


def test_two_passages_at_once(tmp_path, stub, engines):
    def write(asked: str) -> str:
        first, second = asked.split("Second passage:")
        quotes = [part.split("passage:\n")[-1].strip().split(". ")[0] + "." for part in (first,)]
        other = second.strip().split(". ")[0] + "."
        town, rival = quotes[0].split()[5], other.split()[5]
        number, after = quotes[0].split()[3], other.split()[3]
        item = {
            "question": f"What do engine {number} of {town} and engine {after} of {rival} burn?",
            "answer": "both burn pellets",
            "quote": quotes[0],
            "other_quote": other,
            "type": "multi-passage",
        }
        return json.dumps({"questions": [item]})

    stub.write = write
    qa_gen(**over_http(stub, engines, tmp_path / "out", query_types=["multi-passage"]))
    assert len(stub.bodies) == 20, "of three passages of a document two have a next one"
    found = rows(tmp_path / "out" / TABLES[0])
    assert {row["QueryType"] for row in found} == {"multi-passage"}
    assert all(row["SecondPassageId"] and row["SecondQuote"] for row in found)


# Killed


def killed_after(seconds: float, processes: Any, arguments: dict[str, Any]) -> bool:
    """Start a run, kill it with -9 after a while, and tell whether it was still running."""
    process = processes.Process(target=qa_gen, kwargs=arguments)
    process.start()
    process.join(seconds)
    running = process.is_alive()
    if running:
        assert process.pid is not None
        running = stopped(process.pid)
        if running:
            os.kill(process.pid, signal.SIGKILL)
    process.join()
    code = process.exitcode
    process.close()
    assert code == (-signal.SIGKILL if running else 0)
    return running


def stopped(pid: int) -> bool:
    """Stop a process and tell whether it was still running.

    Its fork server tells of its end a little later than it ends; a stopped one can't end meanwhile.
    """
    try:
        os.kill(pid, signal.SIGSTOP)
        process = psutil.Process(pid)
        while (status := process.status()) not in (psutil.STATUS_STOPPED, psutil.STATUS_ZOMBIE):
            time.sleep(0.001)
    except (ProcessLookupError, psutil.NoSuchProcess):
        return False
    return status == psutil.STATUS_STOPPED


@pytest.mark.parametrize("step", range(8))  # four files are written, then moved
def test_killed_while_files_are_put_in_their_places(tmp_path, monkeypatch, step):
    line = (TOY, "--output-dir", tmp_path / "out")
    assert command(*line) == 0
    wanted = made(tmp_path / "out")
    steps = iter(range(100))
    replace = Path.replace

    def stop(self: Path, target: Path) -> Path:
        if self.parent.name == ".writing" and next(steps) == step:
            raise SystemExit(9)
        return replace(self, target)

    with monkeypatch.context() as patched:
        patched.setattr(Path, "replace", stop)
        with pytest.raises(SystemExit):
            command(*line, "--overwrite-output-dir")
    assert (tmp_path / "out" / ".writing").is_dir()
    assert command(*line) == 0, "it goes on without being told to overwrite"
    assert made(tmp_path / "out") == wanted


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGKILL")
def test_killed_twenty_times_it_asks_nothing_twice_and_ends_alike(tmp_path, stub, engines):
    # Processes forked from a server that has imported everything: a run takes no second.
    processes = multiprocessing.get_context("forkserver")
    processes.set_forkserver_preload(
        ["dalm.synth.generation", "dalm.io.examples", "dalm.retrieval.bm25"]
    )
    stub.delay = 0.02
    assert not killed_after(600, processes, over_http(stub, engines, tmp_path / "warm"))
    start = time.monotonic()
    assert not killed_after(600, processes, over_http(stub, engines, tmp_path / "whole"))
    usual = time.monotonic() - start
    wanted = made(tmp_path / "whole")
    chance = random.Random(3)
    kills = rounds = 0
    while kills < 20:
        rounds += 1
        folder = tmp_path / f"round {rounds}"
        stub.bodies.clear()
        running, kept = True, set[str]()
        while running:
            before = len(stub.bodies)
            running = kills < 20 and killed_after(
                chance.uniform(0.1, 1.0) * usual, processes, over_http(stub, engines, folder)
            )
            kills += running
            assert not kept & set(stub.prompts()[before:]), "asked again what was answered"
            kept |= answered_prompts(folder, stub)
            # A kill may fall between the last file and the process's end: nothing is left to do.
            written = (folder / "settings.yaml").exists() and not (folder / ".writing").exists()
            running = running and not written
        if not (folder / "settings.yaml").exists():
            assert not killed_after(600, processes, over_http(stub, engines, folder))
        found = made(folder)
        for name in wanted:
            if name != "settings.yaml":
                assert found[name] == wanted[name]
        assert set(found) == set(wanted)
        assert not (folder / ".writing").exists()
        assert len(lines(folder)) == 30
        assert set(Counter(line["key"] for line in lines(folder)).values()) == {1}


def lines(folder: Path) -> list[dict[str, Any]]:
    """Return the whole lines of a journal."""
    path = folder / "journal.jsonl"
    found = []
    for line in path.read_bytes().splitlines(keepends=True) if path.exists() else []:
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return found


def answered_prompts(folder: Path, stub: Any) -> set[str]:
    """Return the prompts whose answers are in the journal: the passage's words tell them."""
    answers = [json.loads(line["text"])["questions"][0]["quote"] for line in lines(folder)]
    return {prompt for prompt in stub.prompts() if any(quote in prompt for quote in answers)}


# Models on this machine


def test_a_local_model_and_a_retriever(tmp_path, tiny_models, engines, stub, monkeypatch):
    from transformers import AutoTokenizer

    from dalm.llm.language_model import ModelError, Reply
    from dalm.llm.local_model import LocalModel

    folder = shutil.copytree(tiny_models.generator, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    prompts: list[str] = []

    def generate(self: LocalModel, requests: Any, on_reply: Any, on_failure: Any) -> None:
        """The engines' answers: an untrained model has none."""
        for place, request in enumerate(requests):
            prompts.append(self.tokenizer.decode(self.tokenise(request.messages)))
            if place == 1:
                on_failure(request, ModelError("the prompt leaves no room for an answer"))
            else:
                on_reply(request, Reply(stub.write(prompts[-1]), 300, 20, 0.1))

    monkeypatch.setattr(LocalModel, "generate", generate)
    line = (engines, "--backend", "transformers", "--model", folder, "--device", "cpu")
    line += ("--retriever-name-or-path", tiny_models.encoder, "--test-share", 0.3)
    assert command(*line, "--output-dir", tmp_path / "out") == 0
    found = [row for name in TABLES for row in rows(tmp_path / "out" / name)]
    assert len(found) == 29
    assert {row["Generator"] for row in found} == {str(folder)}
    assert len(prompts) == 30
    assert command(*line, "--output-dir", tmp_path / "out", "--overwrite-output-dir") == 0
    assert len(prompts) == 31, "what left no room is tried again, nothing else"
