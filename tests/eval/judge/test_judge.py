"""Whom to ask: a judge that is there is asked once, one that isn't is known before models load."""

import json
import logging

import pytest

from dalm.cli import app, run
from dalm.errors import UserError
from dalm.eval.judge.judge import try_judge
from dalm.eval.judge.judge_prompts import correctness
from dalm.eval.judge.verdicts import Verdict, VerdictPair
from dalm.records import JudgedQuery
from tests.eval.judge.answers import judge

KEY = "sk-very-secret-1234"
RIGHT, WRONG = Verdict("yes", "by the rules"), Verdict("no", "by the rules")


def cases(*answers: str):
    query = JudgedQuery(id="q", query="Where?", references=("Ulm",))
    return [correctness(query, answer) for answer in answers]


def test_each_case_gets_its_verdicts_and_nothing_is_asked_twice(tmp_path, stub):
    asked = judge(stub.url, tmp_path)
    expected = [VerdictPair("correctness", each, each) for each in (RIGHT, WRONG, RIGHT)]
    assert asked.verdicts(cases("Ulm", "Bern", "Ulm")) == expected
    assert len(stub.bodies) == 4, "equal answers are one case"
    assert judge(stub.url, tmp_path).verdicts(cases("Ulm", "Bern", "Ulm")) == expected
    assert len(stub.bodies) == 4
    assert asked.verdicts([]) == []


def test_replies_are_the_likeliest_words(tmp_path, stub):
    judge(stub.url, tmp_path).verdicts(cases("Ulm"))
    body = stub.bodies[0]
    assert (body["model"], body["temperature"], body["max_tokens"], body["seed"]) == ("m", 0, 64, 0)
    assert "reason" in body["response_format"]["json_schema"]["schema"]["required"]


def test_a_reply_that_cannot_be_read_is_kept_and_is_no_verdict(tmp_path, stub, rules):
    rules.odd["Bern\n\nReference answers"] = "I would rather not say."
    first, second = judge(stub.url, tmp_path).verdicts(cases("Ulm", "Bern"))
    assert first.words == ("yes", "yes")
    assert (second.first, second.swapped) == (WRONG, None)
    lines = [json.loads(line) for line in (tmp_path / "judge.jsonl").read_text().splitlines()]
    assert [line["text"] for line in lines].count("I would rather not say.") == 1
    judge(stub.url, tmp_path).verdicts(cases("Ulm", "Bern"))
    assert len(stub.bodies) == 4


def test_a_case_that_the_server_refuses_stops_no_other(tmp_path, stub, caplog):
    stub.plan.extend(["", "", "too_long"])
    pairs = judge(stub.url, tmp_path, timeout=60.0).verdicts(cases("Ulm", "Bern", "Graz"))
    assert sum(pair.words is None for pair in pairs) == 1
    assert "1 of 6 requests got no reply (most often: 400 the context holds" in caplog.text


def test_a_server_that_dies_keeps_what_it_answered(tmp_path, stub):
    stub.plan.extend([""] * 6 + ["fail"] * 99)
    many = cases(*(f"town {n}" for n in range(20)))
    with pytest.raises(UserError, match=r"500 out of memory; .* the same command continues"):
        judge(stub.url, tmp_path).verdicts(many)
    stub.plan.clear()
    kept = len((tmp_path / "judge.jsonl").read_text().splitlines())
    assert kept == 6
    assert all(pair.words for pair in judge(stub.url, tmp_path).verdicts(many))
    assert len((tmp_path / "judge.jsonl").read_text().splitlines()) == 40, "none is asked twice"


@pytest.mark.parametrize("misdeed", ["", "no_key", "echo_key", "fail"])
def test_the_key_goes_to_the_server_and_nowhere_else(tmp_path, stub, caplog, misdeed):
    stub.plan.extend([misdeed] * 9)
    said = ""
    with caplog.at_level(logging.DEBUG):
        try:
            asked = judge(stub.url, tmp_path, key=KEY)
            said = f"{asked} {asked.verdicts(cases('Ulm'))}"
        except UserError as error:
            said = str(error)
    assert stub.headers[0]["Authorization"] == f"Bearer {KEY}"
    written = "".join(path.read_text() for path in tmp_path.iterdir())
    assert not [text for text in (said, caplog.text, written) if KEY in text]


# The trial


def test_the_trial_is_one_request_and_is_not_kept(tmp_path, stub):
    try_judge(judge(stub.url, tmp_path).model)
    assert len(stub.bodies) == 1
    assert not list(tmp_path.iterdir())


def test_a_judge_that_gets_the_trial_wrong_is_told(tmp_path, stub, rules, caplog):
    rules.odd["Ada live"] = '{"verdict": "no"}'
    try_judge(judge(stub.url, tmp_path).model)
    assert "judge      says no to an answer that is plainly right" in caplog.text


@pytest.mark.parametrize(
    ("misdeeds", "said"),
    [
        (["no_model"] * 9, r"404 no model m; check --judge .* and --judge-model"),
        (["no_key"] * 9, r"401 .*\(--judge-api-key-env names the variable\)"),
        (
            ["fail"] * 9,
            r"--judge http:.* doesn't answer: 500 out of memory; check --judge and --judge-model",
        ),
        (["vanish"] * 9, "doesn't answer: the connection failed"),
        (["cut"], "--judge-model m gives no verdict but .*raise --judge-max-new-tokens"),
    ],
)
def test_a_judge_that_gives_no_verdict_is_refused(tmp_path, stub, misdeeds, said):
    stub.plan.extend(misdeeds)
    with pytest.raises(UserError, match=said):
        try_judge(judge(stub.url, tmp_path).model)
    assert len(stub.bodies) <= 3


# The command


@pytest.fixture
def refused(tmp_path, tiny_table, tiny_models, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)

    def call(*options: object, evaluate: bool = True) -> str:
        line = ["eval-rag", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
        line += ["--generator-name-or-path", tiny_models.generator]
        line += ["--evaluate-generator"] if evaluate else []
        # The model would be refused too, later: it has no such adapter.
        line += ["--retriever-peft-model-path", "nowhere"]
        assert run(app, [str(each) for each in (*line, *options)]) == 2
        return capsys.readouterr().err

    return call


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--judge-model", "m"], "--judge-model has no effect without --judge http"),
        (["--judge", "http://localhost:9"], "--judge needs --judge-model"),
        (["--judge", "localhost:9"], "--judge localhost:9: not an address, which begins with http"),
        (["--judge", "localhost:9", "--judge-model", "m"], "--judge-model has no effect without"),
        (["--judge", "m", "--judge-timeout", "9"], "-timeout has no effect without --judge http"),
        (["--judge", "./nowhere"], "judge ./nowhere: no such folder"),
        (["--judge", "http://a:b@host", "--judge-model", "m"], "--judge: put no password"),
        (["--judge", "http://127.0.0.1:9", "--judge-model", "m"], "the connection is refused"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_loads(refused, options, said):
    assert said in refused(*options)


def test_a_judge_of_no_answers_is_refused(refused, stub):
    options = ("--judge", stub.url, "--judge-model", "m")
    assert "--judge has no effect without --evaluate-gen" in refused(*options, evaluate=False)
    assert not stub.bodies


def test_a_journal_that_cannot_be_written_is_refused(refused, stub, tmp_path):
    options = ("--judge", stub.url, "--judge-model", "m", "--judge-journal", tmp_path)
    assert f"{tmp_path} can't be written" in refused(*options)
