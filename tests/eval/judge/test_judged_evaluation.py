"""Answers are judged: which requests are sent, and what remains when a judge fails."""

import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dalm.cli import app, run
from dalm.eval.judge.judge import cases_of, judge_answers, preferences_of
from dalm.eval.results import load
from dalm.llm.language_model import Reply
from dalm.llm.local_model import LocalModel
from dalm.progress import Stopwatch
from tests.eval.judge.answers import answered, judge

PACKAGE = Path(__file__).parents[3]
TOWNS = ("Ulm", "Bern", "Graz", "", "I don't know.")
MINE, BASE = answered(*TOWNS), answered("Ulm", "Ulm", "Linz", "Ulm", "Bern", name="base")


def judged(stub, folder, *systems, guard=()):
    watch = Stopwatch()
    mine, *baselines = ([each, *guard] for each in systems)
    others = baselines[0] if baselines else []
    return judge_answers(judge(stub.url, folder), mine, others, watch)


def test_what_is_asked_of_each_answer():
    asked = [(case.kind, case.query) for case in cases_of(MINE)]
    both = ("faithfulness", "correctness")
    # The fourth is empty, the fifth declines: it claims nothing, and may be wrong.
    assert asked == [(kind, f"q{n}") for n in range(3) for kind in both] + [("correctness", "q4")]
    assert [case.kind for case in cases_of(answered("Ulm", references=()))] == ["faithfulness"]


def test_the_passages_of_the_prompt_are_shown_and_no_others():
    shown = str(next(cases_of(MINE)).first)
    assert "in 1901" in shown
    assert "in 1902" not in shown


def test_citations_are_not_shown_to_the_judge():
    citing = answered("Ulm [1]", "[2]")
    assert "Answer:\nUlm [1]" in next(cases_of(citing)).first
    citing = replace(citing, facts={**citing.facts, "citations": True})
    [faithful, correct] = cases_of(citing)
    assert "Answer:\nUlm" in faithful.first
    assert "Answer:\nUlm" in correct.first
    assert not list(preferences_of(citing, answered("Ulm", "")))


def test_equal_answers_are_not_compared():
    assert [case.query for case in preferences_of(MINE, BASE)] == ["q1", "q2", "q3", "q4"]


def test_verdicts_become_measures(tmp_path, stub):
    [mine], none = judged(stub, tmp_path, MINE)
    assert not none
    assert mine.measures["faithfulness"] == [1, 1, 0, None, None]
    assert mine.measures["correctness"] == [1, 0, 0, 0, 0]
    assert "preference" not in mine.measures
    assert mine.measures["EM"] == MINE.measures["EM"]
    figures = mine.facts["judge"]
    assert figures["model"] == "m"
    assert figures["exact_match"]["agree"] == figures["exact_match"]["kappa"] == 1
    assert figures["exact_match"]["answers"] == 4, "the empty answer says nothing of the judge"
    assert figures["faithfulness"] == {"judged": 3, "without_verdict": 0, "orders_disagree": 0}


def test_with_a_baseline_both_are_judged_and_compared(tmp_path, stub):
    [mine], [base] = judged(stub, tmp_path, MINE, BASE)
    assert mine.measures["preference"] == [0.5, 0, 0.5, 0, 0.5]
    assert "preference" not in base.measures
    assert base.measures["correctness"] == [1, 1, 0, 1, 0]
    figures = mine.facts["judge"]["preference"]
    assert (figures["wins"], figures["ties"], figures["losses"]) == (0, 3, 2)
    assert (figures["equal_answers"], figures["orders_disagree"]) == (1, 0)
    assert figures["baseline"] == "base"


def test_a_judge_that_is_swayed_by_the_order_is_found_out(tmp_path, stub, rules):
    rules.swayed = True
    [mine], _ = judged(stub, tmp_path, MINE, BASE)
    assert mine.measures["preference"] == [0.5] * 5, "whatever is called A wins: all are ties"
    assert mine.facts["judge"]["preference"]["orders_disagree"] == 1
    assert mine.measures["correctness"] == [0.75, 0.25, 0.25, 0, 0.25]
    assert mine.facts["judge"]["correctness"]["orders_disagree"] == 1
    assert mine.facts["judge"]["exact_match"]["neither_right"] == 3
    assert mine.facts["judge"]["exact_match"]["exact_match_alone"] == 1


def test_unreadable_replies_leave_values_out_and_are_told(tmp_path, stub, rules, caplog):
    rules.odd["Answer:\nBern"] = "Hm."
    [mine], _ = judged(stub, tmp_path, MINE)
    assert mine.measures["faithfulness"] == [1, None, 0, None, None]
    assert mine.measures["correctness"] == [1, None, 0, 0, 0]
    assert mine.facts["judge"]["correctness"]["without_verdict"] == 1
    assert "judge      2 of 7 cases have no verdict" in caplog.text


def test_every_verdict_is_written_with_its_reason_and_loaded_again(tmp_path, stub):
    from dalm.eval.results import save

    [mine], _ = judged(stub, tmp_path, MINE, BASE)
    save(tmp_path / "run", mine, {})
    again = load(tmp_path / "run")
    assert again.verdicts == list(mine.verdicts)
    assert again.facts["judge"] == mine.facts["judge"]
    said = {"word": "no", "reason": "by the rules"}
    assert {"query": "q2", "asked": "correctness", "value": 0, "first": said, "swapped": said} in (
        again.verdicts
    )
    assert [v["asked"] for v in again.verdicts].count("preference") == 4
    save(tmp_path / "run", MINE, {})
    assert not (tmp_path / "run" / "verdicts.jsonl").exists(), "those were of other answers"


def test_a_guard_is_not_judged(tmp_path, stub):
    guard = answered("Linz", name="guard")
    systems, baselines = judged(stub, tmp_path, MINE, BASE, guard=[guard])
    assert systems[1] is baselines[1] is guard
    assert not [
        prompt for prompt in stub.prompts() if "Answer:\nLinz" in prompt and "190" not in prompt
    ]


# The command


@pytest.fixture
def talkative(tiny_models, tmp_path):
    """A generator whose answers aren't empty: an untrained one may write line ends alone."""
    folder = tmp_path / "talkative"
    shutil.copytree(tiny_models.generator, folder)
    model, tokenizer = (
        kind.from_pretrained(folder) for kind in (AutoModelForCausalLM, AutoTokenizer)
    )
    blank = [
        token
        for token in range(len(tokenizer))
        if not tokenizer.decode([token], skip_special_tokens=True).strip()
    ]
    with torch.no_grad():
        model.get_input_embeddings().weight[blank] = 0  # tied: their logits are 0
    model.save_pretrained(folder)
    return folder


@pytest.fixture
def line(tmp_path, tiny_table, tiny_models, talkative, stub, monkeypatch):
    monkeypatch.chdir(tmp_path)
    made = ["eval-rag", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    made += ["--generator-name-or-path", talkative, "--evaluate-generator"]
    made += ["--max-new-tokens", 4, "--precision", "fp32", "--top-k", 5, "--no-bounds"]
    return [str(each) for each in (*made, "--judge", stub.url, "--judge-model", "m")]


def started(*command: object) -> subprocess.Popen[str]:
    """Start a command in the folder of the test."""
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE)}
    return subprocess.Popen(
        [sys.executable, "-m", *map(str, command)],
        env=environment,
        stderr=subprocess.PIPE,
        text=True,
    )


def kept_in(journal: Path) -> int:
    return len(journal.read_text().splitlines())


def test_the_command_asks_nothing_twice_in_numbered_folders(line, stub, capsys, tmp_path):
    assert run(app, [*line, "--fail-below", "correctness=0", "faithfulness=0"]) == 0
    said = capsys.readouterr().out
    assert "the judge agrees with exact match on 100 % of " in said
    assert "with the order swapped, the judge changed its verdict: 0 % on faithfulness" in said
    asked = len(stub.bodies)
    assert run(app, [*line, "--fail-below", "correctness=0.5"]) == 1
    assert len(stub.bodies) == asked + 1, "the trial alone"
    assert (tmp_path / "evaluation-judge.jsonl").is_file()
    assert run(app, ["compare", "evaluation-1", "evaluation-2"]) == 0
    said = capsys.readouterr().out
    assert "correctness" in said
    assert "judge agrees" in said


def test_a_model_on_this_machine_judges_as_a_server_does(
    line, stub, rules, tiny_models, tmp_path, monkeypatch
):
    folder = shutil.copytree(tiny_models.generator, tmp_path / "chat")
    tokenizer = AutoTokenizer.from_pretrained(folder)
    tokenizer.chat_template = "{% for m in messages %}{{ m['content'] }}{% endfor %}"
    tokenizer.save_pretrained(folder)
    asked = []

    def generate(self, requests, on_reply, on_failure) -> None:
        """Reply by the rules: an untrained model has no verdict."""
        for request in requests:
            asked.append(request.messages[-1]["content"])
            on_reply(request, Reply(rules.reply(asked[-1])))

    monkeypatch.setattr(LocalModel, "generate", generate)
    place = line.index("--judge")
    local = [*line[:place], "--judge", str(folder)]
    assert run(app, [*line, "--output-dir", "served"]) == 0
    sent = len(stub.bodies)
    assert run(app, [*local, "--output-dir", "local"]) == 0
    assert (len(stub.bodies), len(asked)) == (sent, sent)
    assert run(app, [*local, "--output-dir", "local", "--overwrite-output-dir"]) == 0
    assert len(asked) == sent + 1, "the trial only"
    found, expected = load(tmp_path / "local"), load(tmp_path / "served")
    assert found.verdicts == expected.verdicts
    assert found.facts["judge"] == {**expected.facts["judge"], "model": str(folder)}


def test_in_a_named_folder_the_journal_outlasts_the_results(line, stub, tmp_path, capsys):
    line += ["--output-dir", "run"]
    assert run(app, line) == 0
    asked = len(stub.bodies)
    assert run(app, line) == 2
    assert "--overwrite-output-dir" in capsys.readouterr().err
    assert run(app, [*line, "--overwrite-output-dir"]) == 0
    assert len(stub.bodies) == asked + 1, "the trial alone"
    assert (tmp_path / "run" / "judge.jsonl").is_file()


def test_answers_outlast_a_judge_that_fails(line, stub, tmp_path, tiny_models, capsys):
    stub.plan.extend(["", *["fail"] * 999])  # the trial is answered
    line += ["--output-dir", "run", "--baseline", str(tiny_models.encoder)]
    line += ["--judge-max-retries", "0"]
    assert run(app, line) == 2
    assert "500 out of memory" in capsys.readouterr().err
    for folder in (tmp_path / "run", tmp_path / "run" / "baseline"):
        assert len(load(folder).answers["found"]) == 20


def test_runs_may_share_a_journal(line, stub, tmp_path):
    line += ["--judge-journal", "mine/kept.jsonl", "--output-dir"]
    assert run(app, [*line, "one"]) == 0
    asked = len(stub.bodies)
    assert run(app, [*line, "two"]) == 0
    assert len(stub.bodies) == asked + 1
    assert not (tmp_path / "one" / "judge.jsonl").exists()


def test_killed_it_asks_only_what_is_missing_and_ends_alike(line, stub, tmp_path):
    stub.delay = 0.05
    line += ["--judge-concurrency", "2", "--output-dir"]
    with started("dalm", *line, "run") as process:
        while len(stub.bodies) < 20 and process.poll() is None:
            time.sleep(0.01)
        assert process.poll() is None, "it was done before it could be killed"
        process.send_signal(signal.SIGKILL)
    kept = kept_in(tmp_path / "run" / "judge.jsonl")
    assert kept > 10
    assert load(tmp_path / "run").answers["found"], "the answers were written before"
    time.sleep(0.2)  # the last requests of the killed run arrive
    stub.bodies.clear()
    stub.delay = 0
    assert run(app, [*line, "run", "--overwrite-output-dir"]) == 0
    assert len(stub.bodies) == 1 + kept_in(tmp_path / "run" / "judge.jsonl") - kept
    assert run(app, [*line, "whole"]) == 0
    again, whole = load(tmp_path / "run"), load(tmp_path / "whole")
    assert again.measures == whole.measures
    assert again.verdicts == whole.verdicts


def test_of_two_processes_one_asks(line, stub, tmp_path):
    command = ["torch.distributed.run", "--nproc-per-node", 2, "--standalone", "-m", "dalm", *line]
    with started(*command, "--output-dir", "run") as process:
        _, said = process.communicate()
    assert process.returncode == 0, said[-2000:]
    kept = kept_in(tmp_path / "run" / "judge.jsonl")
    # Where the machine is busy a connection may break, and its request is put again.
    assert 1 + kept <= len(stub.bodies) < 1.5 * kept
    assert len(load(tmp_path / "run").verdicts) == kept / 2
