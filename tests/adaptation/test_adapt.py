"""`dalm adapt`: the whole chain on a few documents, what a second run does again, and kills."""

import json
import os
import re
import shlex
import shutil
import signal
from pathlib import Path
from typing import Any

import pytest

from dalm import config
from dalm.adaptation import question_tables
from dalm.adaptation.question_tables import Row
from dalm.adaptation.stage_runs import checked_system, plan
from dalm.adaptation.state import State
from dalm.cli import app, run
from dalm.config import Columns
from dalm.errors import UserError
from dalm.io.examples import read_passages
from dalm.records import Example, Hit
from dalm.retrieval.index_folder import IndexFolder
from dalm.serving.server import open_service
from dalm.serving.service import Service
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, Judgment
from tests.forked import Forked, waiting_at

STAGES = ["passages", "tables", "negatives", "retriever", "generator"]
STAGES += ["evaluate-human", "verdict", "index"]


def reasons(line: list[str], folder: Path, **changed: Any) -> dict[str, str]:
    """Return why each stage would run; a stage that wouldn't is left out."""
    options = dict(zip(line[2::2], line[3::2], strict=True))
    given = {name[2:].replace("-", "_"): value for name, value in options.items()}
    documents = changed.pop("documents", line[1])
    settings = config.Adapt(**{**given, "output_dir": str(folder), **changed})
    steps = plan(checked_system([documents], settings), State(folder))
    return {step.stage.name: step.reason for step in steps if step.choice == "runs"}


def opened(words: list[str]) -> Service:
    """Return the service that a printed line of `dalm serve` would run."""
    _, bound, _ = app.parse_args(words[1:])
    return open_service(words[2], bound.arguments["settings"])


def test_the_user_leaves_with_a_verdict_and_an_index_that_answers(
    line: list[str], system: Path, tmp_path: Path, caplog: Any, capfd: Any
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    assert run(app, [*line, "--output-dir", str(folder)]) == 0
    said = [record.getMessage() for record in caplog.records]
    kept = [each for each in said if each.startswith("stage ")]
    assert [each.partition(": kept: nothing changed")[1] != "" for each in kept] == [True] * 8
    verdict = json.loads((folder / "verdict.json").read_text())
    assert verdict["outcome"] in ("not shown", "worse")  # so few documents show no gain
    assert "human questions" in verdict["headline"]
    assert "<html" in (folder / "verdict.html").read_text()
    made = IndexFolder(folder / "index").current().description
    assert made.retriever == line[3]
    assert made.dense_weight is not None  # by the held-out questions
    words = shlex.split(next(each for each in said if each.startswith("next "))[11:])
    assert words[:2] == ["dalm", "serve"]
    assert run(app, ["ask", words[2], "Where does Ada live?", *words[3:5]]) == 0
    assert "[1]" in capfd.readouterr().out


def test_held_out_documents_are_in_no_training_table(system: Path) -> None:
    def documents(name: str) -> set[str]:
        lines = (system / name).read_text().splitlines()
        return {json.loads(each)["document"] for each in lines}

    test = documents("tables/human_test.jsonl")
    assert len(test) == 4
    assert not test & documents("tables/train.jsonl")
    assert not test & documents("negatives/train.jsonl")


def test_a_changed_input_or_setting_reaches_what_depends_on_it_and_no_more(
    line: list[str], system: Path, tmp_path: Path, asked: Path, documents: Path
) -> None:
    assert reasons(line, system) == {}
    found = reasons(line, system, documents=str(documents / "Ada.md"))
    assert found["passages"] == "documents changed (1 files, 10 before)"
    assert list(found) == STAGES
    assert found["negatives"] == "if what tables writes differs"

    more = tmp_path / "more.csv"
    more.write_text(asked.read_text() + "Who keeps one owl?,Cyrus,\n")
    found = reasons(line, system, questions=str(more))
    assert list(found) == STAGES[1:]
    assert found["tables"] == "people's questions changed"

    found = reasons(line, system, stage_options={"generator": {"max_train_steps": 3}})
    assert found["generator"] == "--max-train-steps changed from 2 to 3"
    assert found["retriever"] == "--num-train-epochs changed from 1 to 2"
    assert "tables" not in found
    assert "negatives" not in found
    found = reasons(line, system, test_share=0.4)
    assert found["tables"] == "--test-share changed from None to 0.4"


def test_another_model_reaches_what_it_is_read_by(
    line: list[str], system: Path, tiny_models: Any, tmp_path: Path
) -> None:
    other = shutil.copytree(tiny_models.generator, tmp_path / "other")
    assert reasons(line, system, generator_name_or_path=str(other)) == {}  # the same content
    (other / "config.json").write_text((other / "config.json").read_text() + "\n")
    found = reasons(line, system, generator_name_or_path=str(other))
    assert list(found) == STAGES[4:]
    assert found["generator"] == "generator changed"


def test_missing_and_damaged_outputs_are_made_again(
    line: list[str], system: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    (folder / "passages" / "passages.jsonl").unlink()
    assert reasons(line, folder)["passages"] == "its output is missing (passages.jsonl)"
    folder = shutil.copytree(system, tmp_path / "other")
    weights = folder / "generator" / "generator" / "adapter_model.safetensors"
    weights.write_bytes(weights.read_bytes()[:-1] + b"!")
    found = reasons(line, folder)
    assert found["generator"] == "its output was changed or damaged"
    assert next(iter(found)) == "generator"
    shutil.rmtree(folder / "index")
    assert reasons(line, folder)["index"] == "its output is missing (index)"


def test_options_of_answers_do_no_harm_where_the_questions_turn_out_to_have_none(
    line: list[str], system: Path, tmp_path: Path
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    file = folder / "tables" / "tables.json"
    counts = json.loads(file.read_text())
    counts["human"]["answered"] = 0
    file.write_text(json.dumps(counts))
    found = reasons(line, folder, stage_options={"evaluate-human": {"max_new_tokens": 4}})
    assert "evaluate-human" in found


def test_joint_training_says_what_it_leaves_out(
    line: list[str], tmp_path: Path, asked: Path, caplog: Any
) -> None:
    rows = asked.read_text().splitlines()
    column = rows[0].split(",").index("Answer")
    assert column == 1
    query, _, passage = rows[1].split(",", 2)
    table = tmp_path / "asked.csv"
    table.write_text("\n".join([rows[0], f"{query},,{passage}", *rows[2:]]) + "\n")
    words = [*line, "--output-dir", str(tmp_path / "new"), "--to", "generator"]
    words[words.index("--questions") + 1] = str(table)
    assert run(app, [*words, "--recipe", "joint"]) == 0
    assert "1 of 12 questions have none, and joint training leaves them out" in caplog.text


def test_from_and_to(line: list[str], system: Path, tmp_path: Path) -> None:
    found = reasons(line, system, from_stage="generator")
    assert list(found) == STAGES[4:]
    assert found["verdict"] == "--from generator"
    assert reasons(line, system, from_stage="generator", to_stage="generator") == {
        "generator": "--from generator"
    }
    assert list(reasons(line, tmp_path / "new", to_stage="tables")) == STAGES[:2]
    with pytest.raises(config.options.UserError, match="--from verdict: there is no result of pa"):
        reasons(line, tmp_path / "new", from_stage="verdict")


def test_a_run_that_stops_says_that_the_verdict_is_of_an_earlier_one(
    line: list[str], system: Path, tmp_path: Path, caplog: Any
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    caplog.set_level("INFO", "dalm")
    assert run(app, [*line, "--output-dir", str(folder), "--to", "tables"]) == 0
    left = "left       what follows tables, by --to; verdict and index are of an earlier run"
    assert caplog.messages.index(left) < caplog.messages.index(
        next(each for each in caplog.messages if each.startswith("verdict"))
    )


def test_force_switches_to_the_tuned_pair_and_says_so(
    line: list[str], system: Path, tmp_path: Path, caplog: Any
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    assert run(app, [*line, "--output-dir", str(folder), "--force"]) == 0
    made = IndexFolder(folder / "index").current().description
    assert made.retriever == str(folder / "models" / "1" / "retriever")
    said = [record.getMessage() for record in caplog.records]
    assert any("a tuned pair: by --force" in each for each in said)
    assert f"--generator-name-or-path {folder}/models/1/generator --feedback" in said[-1]
    # The generation before is of the untuned pair: to go back to, and to compare with.
    index = IndexFolder(folder / "index")
    assert index.previous().description.retriever == line[3]
    compare = next(each for each in said if each.startswith("compare "))
    assert compare.endswith(f"--compare-previous --compare-generator-name-or-path {line[5]}")
    service = opened(shlex.split(compare.partition(": ")[2]))
    assert service.compared is not None
    assert service.compared.index.generation.number == index.previous().number
    # The pair that is served stays as it is when another one is trained.
    weights = folder / "models" / "1" / "retriever" / "model.safetensors"
    before = weights.read_bytes()
    options = {"retriever": {"num_train_epochs": 2}, "generator": {"max_train_steps": 1}}
    options["evaluate-human"] = {"max_new_tokens": 4, "bounds": False}
    file = tmp_path / "options.json"
    file.write_text(json.dumps(options))
    again = [*line, "--output-dir", str(folder)]
    again[again.index("--stage-options") + 1] = str(file)
    assert run(app, again) == 0
    assert weights.read_bytes() == before
    # It is what the next one is compared with, and stays served where nothing is shown.
    baseline = json.loads((folder / "evaluation/human/baseline/results.json").read_text())
    assert "models/1/retriever" in baseline["name"]
    assert IndexFolder(folder / "index").current().description.retriever == made.retriever


def test_feedback_joins_the_tables_and_its_number_is_a_reason(
    line: list[str], system: Path, tmp_path: Path, tiny_rows: list[dict[str, str]]
) -> None:
    folder = shutil.copytree(system, tmp_path / "system")
    with pytest.raises(config.options.UserError, match="feedback"):
        reasons(line, folder, feedback=[])  # nothing is kept yet
    passages = read_passages(folder / "passages" / "passages.jsonl", config.Columns())
    with FeedbackStore.open(folder / "index") as store:
        for place, passage in enumerate(passages):
            name = passage.title
            question = f"At {name}'s, who is at home?"
            hits = [Hit(passage, 1.0).to_dict()]
            store.keep_answer(
                AnswerRecord(
                    id=f"a{place}",
                    question=question,
                    searched=question,
                    answer="nobody",
                    generation=1,
                    hits=hits,
                )
            )
            for person in ("p", "q"):
                known = {"answer_id": f"a{place}", "person": person}
                store.judge(Judgment(kind="passage", value=1, passage_id=passage.id, **known))
                store.judge(Judgment(kind="correction", text=name, **known))
    found = reasons(line, folder, feedback=[])
    assert re.fullmatch(r"judgments changed from none to 40 \(\w{8}\)", found["tables"])
    assert found["evaluate-feedback"] == "first time"
    words = [*line, "--output-dir", str(folder), "--feedback", "--to", "tables"]
    assert run(app, words) == 0
    counts = json.loads((folder / "tables" / "tables.json").read_text())
    assert counts["feedback"]["train"] + counts["feedback"]["test"] == 10
    assert counts["feedback"]["test"] == counts["feedback"]["documents"] == 4
    rows = [json.loads(each) for each in (folder / "tables/train.jsonl").read_text().splitlines()]
    rows = [row for row in rows if row["Origin"] == "feedback"]
    assert len({row["Query"] for row in rows}) == 6
    assert all(row["Answer"] in row["Passage"] for row in rows)


PLACES = {
    "passages": "dalm.ingest.passage_writer.PassageWriter.add",
    "tables": "dalm.adaptation.question_tables.split",
    "negatives": "dalm.retrieval.negatives.write_mined_table",
    "retriever": "dalm.training.run_folder.RunFolder.export",
    "generator": "dalm.training.run_folder.RunFolder.export",
    "evaluate-human": "dalm.eval.evaluation_run.EvaluationRun.finish",
    "verdict": "dalm.artifacts.write_json",
    "index": "dalm.retrieval.indexing.update",
}
"""What of each stage a process is killed in."""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_killed_in_any_stage_it_goes_on_where_it_was(
    line: list[str], system: Path, tmp_path: Path, caplog: Any
) -> None:
    words = [*line, "--output-dir", str(tmp_path / "system")]
    for stage, place in PLACES.items():
        log, flag = tmp_path / f"{stage}.txt", tmp_path / f"{stage}.flag"

        def first(place: str = place, flag: Path = flag, stage: str = stage) -> int:
            if run(app, [*words, "--to", STAGES[max(0, STAGES.index(stage) - 1)]]) != 0:
                return 3
            waiting_at(place, flag)
            return run(app, words)

        if stage == "passages":

            def first(place: str = place, flag: Path = flag) -> int:
                waiting_at(place, flag)
                return run(app, words)

        process = Forked(first, log)
        process.wait_for(flag)
        process.send(signal.SIGKILL)
        assert process.end() == -signal.SIGKILL
    assert run(app, words) == 0
    assert not list((tmp_path / "system").rglob("checkpoint-*"))
    said = [r.getMessage() for r in caplog.records if re.match(r"stage +8/8", r.getMessage())]
    assert said == ["stage      8/8 index: it was begun and not finished: goes on"]
    same = ("tables/train.jsonl", "negatives/train.jsonl", "tables/human_test.jsonl")
    for name in same:
        assert (tmp_path / "system" / name).read_bytes() == (system / name).read_bytes()
    verdicts = [json.loads((s / "verdict.json").read_text()) for s in (system, tmp_path / "system")]
    assert verdicts[0] == verdicts[1]


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"retreiver": {}}, "no stage 'retreiver' with options"),
        ({"retriever": {"epochs_": 1}}, 'Unknown option: "[epochs_]"'),
        ({"retriever": {"num_train_epochs": "two"}}, "unable to convert"),
        ({"retriever": {"output_dir": "x"}}, "is set by dalm adapt"),
        ({"retriever": {"learning_rate": -1}}, "--learning-rate -1"),
        ({"tables": {"seed": 1}}, "no stage 'tables' with options"),
        ({"retriever": 3}, "write options below it"),
    ],
)
def test_stage_options_are_checked_as_those_of_the_command(
    line: list[str], tmp_path: Path, options: dict[str, Any], said: str
) -> None:
    with pytest.raises(config.options.UserError) as raised:
        reasons(line, tmp_path / "system", stage_options=options)
    assert said in str(raised.value)
    assert not (tmp_path / "system").exists()


def test_judgments_that_weigh_nothing_are_no_training_table(
    line: list[str], system: Path, tmp_path: Path, monkeypatch: Any
) -> None:
    passages = {
        each.id: each for each in read_passages(system / "passages/passages.jsonl", Columns())
    }
    rows = [
        Row(Example(f"Who is {n}?", "Ada", passage), "feedback", copies=0)
        for n, passage in enumerate(passages.values())
    ]
    monkeypatch.setattr(question_tables, "_judged", lambda *_: rows)
    settings = config.Adapt(
        output_dir="-",
        retriever_name_or_path=line[3],
        generator_name_or_path=line[5],
        backend="none",
        feedback=[],
    )
    arguments = (settings, system / "passages/passages.jsonl", [], [tmp_path])
    with pytest.raises(
        UserError, match="judgments weigh too little to train on any of 6 questions"
    ):
        question_tables.make_tables(tmp_path / "tables", *arguments)
