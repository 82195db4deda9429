"""A table's teacher beside the generator: its part of the target, in-batch and over an index."""

import json
import logging
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from dalm.cli import app, run
from dalm.errors import UserError
from dalm.io.scored_tables import write_scored
from dalm.records import Example, Passage, ScoredCandidate, ScoredQuestion
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.data.teacher_scores import TeacherScores
from dalm.training.objectives import distillation, joint

A, B, C, D = (Passage.of(text) for text in "abcd")
PLACES = {A.id: 0, B.id: 1, C.id: 2}


def question(query, scores, answer="an answer", temperature=None):
    candidates = tuple(ScoredCandidate(*each) for each in scores.items())
    return ScoredQuestion(query, answer, candidates, temperature=temperature)


def test_scores_of_a_row_are_those_of_its_question_and_answer() -> None:
    questions = [
        question("Who?", {A: 2.0, B: 1.0, D: 0.5, C: None}, "she", 0.5),
        question("Who?", {B: 4.0}, "he", 2.0),
    ]
    examples = [Example("WHO?", "he"), Example("Why?", "he"), Example("who? ", "She")]
    found = TeacherScores(questions, examples, PLACES)
    assert [each.tolist() for each in found.places] == [[1], [], [0, 1]]
    assert [each.tolist() for each in found.logits] == [[0.0], [], [0.0, -2.0]]
    places, logits = found.of([2, 1], without=1)
    assert places.tolist() == [[0, 1], [-1, -1], [-1, -1]]
    assert logits[1:].isneginf().all()


def test_without_a_temperature_a_third_of_the_candidates_carry_the_target() -> None:
    made = np.random.default_rng(0).normal(size=(9, 6))
    passages = [Passage.of(f"passage {n}") for n in range(6)]
    questions = [
        question(f"Who {n}?", dict(zip(passages, row.tolist(), strict=True)))
        for n, row in enumerate(made)
    ]
    examples = [Example(q.query, q.answer) for q in questions]
    found = TeacherScores(questions, examples, {p.id: n for n, p in enumerate(passages)})
    weights = torch.tensor(np.stack(found.logits)).softmax(1)
    assert (1 / weights.square().sum(1)).mean().item() == pytest.approx(2.0, abs=1e-3)


def test_only_differences_between_scores_count() -> None:
    """In fp32 scores about 1e9 would all be equal."""
    questions = [question("Who?", {A: 1e9 + 2, B: 1e9 + 1, D: 2e9}, temperature=0.5)]
    found = TeacherScores(questions, [Example("Who?", "an answer")], PLACES)
    assert found.of([0])[1].float().tolist() == [[0.0, -2.0]]


def test_scores_of_no_passage_that_can_be_found_are_refused() -> None:
    with pytest.raises(UserError, match="--teacher-mix: the table's teacher has scored no passage"):
        TeacherScores([question("Who?", {D: 1.0, A: None})], [Example("Who?", "an answer")], PLACES)


# The target


def scored_by_length(examples, passages, rows=(0, 2)):
    """Return questions of some rows, with every second passage scored by its length."""
    return [
        question(
            examples[row].query,
            {p: len(p.text) / 10 for p in passages[row % 2 :: 2]},
            examples[row].answer,
            0.7,
        )
        for row in rows
    ]


@pytest.mark.parametrize("name", ["pdist", "lsr"])
@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_the_target_is_the_mixture(
    models, examples, in_batch, searched, monkeypatch, source, name
) -> None:
    passages = [example.passage for example in examples]
    scored = scored_by_length(examples, passages)
    seen: list[Any] = []
    plain = joint.teacher_logits

    def watched(batch, found):
        seen.append((found.passages, plain(batch, found)))
        return seen[-1][1]

    monkeypatch.setattr(joint, "teacher_logits", watched)
    targets: list[torch.Tensor] = []
    distil = distillation.losses.distil
    monkeypatch.setattr(
        distillation.losses, "distil", lambda p, t: targets.append(t) or distil(p, t)
    )
    options = {"num_candidates": 4, "target_temperature": 0.5}
    if source == "index":
        objective, _ = searched(name, **options, teacher_mix=0.3)
        rows = RetrievedRows(examples, *models, more=objective.source.base.passages, scored=scored)
        assert rows.base.keys.tolist() == objective.source.base.keys.tolist()
    else:
        objective = in_batch(name, **options, teacher_mix=0.3)
        rows = Rows(examples, *models, scored=scored)
    batch = rows.collate(range(5))
    torch.manual_seed(0)
    found = objective(batch)
    without = {k: v for k, v in batch.items() if not k.startswith("teacher_")}
    torch.manual_seed(0)
    objective(without)
    mixed, own = (target.softmax(1) for target in targets)
    (candidates, _), (_, none) = seen
    assert none is None
    by_tokens = {tuple(rows.base.pieces[n]): p for n, p in enumerate(rows.base.passages)}
    has_say = 0
    for row in range(5):
        known = (
            {c.passage.id: c.score for q in scored for c in q.candidates} if row in (0, 2) else {}
        )
        ids = [by_tokens[tuple(tokens)].id for tokens in candidates[row]]
        weights = torch.tensor(
            [np.exp(known[i] / 0.7) if i in known else 0.0 for i in ids]
        ).double()
        expected = own[row]
        if weights.any():
            has_say += 1
            expected = 0.7 * own[row] + 0.3 * weights / weights.sum()
        torch.testing.assert_close(mixed[row], expected, rtol=1e-6, atol=1e-9)
    assert has_say == 2
    assert found.parts["teacher_rows"].item() == pytest.approx(2 / 5)
    assert not torch.allclose(mixed, own)


def test_the_command(
    tiny_rows: Any, tiny_models: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture, capsys: Any
) -> None:
    passages = {row["Passage"]: Passage.of(row["Passage"]) for row in tiny_rows}
    questions = []
    for row in tiny_rows:
        own = passages[row["Passage"]]
        others = [p for p in passages.values() if p is not own]
        scores = (ScoredCandidate(own, 1.0), *(ScoredCandidate(p, 0.0) for p in others[:3]))
        questions.append(ScoredQuestion(row["Query"], row["Answer"], scores, own))
    table = tmp_path / "scored.jsonl"
    write_scored(table, questions, "a rule")
    line = ["train-rag-e2e", table, tiny_models.encoder, tiny_models.generator]
    line += ["--output-dir", tmp_path / "run", "--objective", "pdist", "--batch-size", 10]
    line += ["--max-train-steps", 2, "--generator-max-len", 128, "--logging-steps", 1]
    with caplog.at_level(logging.INFO):
        assert run(app, [str(word) for word in (*line, "--teacher-mix", 0.5)]) == 0
    lines = [json.loads(x) for x in (tmp_path / "run" / "metrics.jsonl").read_text().splitlines()]
    assert [line["teacher_rows"] for line in lines] == [1.0, 1.0]
    pairs = tmp_path / "pairs.jsonl"
    pairs.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows))
    line[1], line[5] = pairs, tmp_path / "other"
    assert run(app, [str(word) for word in (*line, "--teacher-mix", 0.5)]) == 2
    assert "pairs.jsonl has no column 'Candidates' of scored candidates" in capsys.readouterr().err
