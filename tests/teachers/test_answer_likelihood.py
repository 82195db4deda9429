"""The teacher that scores by a generator's likelihood, beside an independent computation."""

import logging
import os
import signal
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoTokenizer

from dalm.config import ScoreCandidates
from dalm.errors import UserError
from dalm.records import Passage
from dalm.teachers.answer_likelihood import AnswerLikelihood
from dalm.teachers.teacher import Candidates, Pair
from tests.forked import Forked

PASSAGES = ("Ada lives in Ulm.", "Bela lives in Bern. At home Bela keeps two cats.", "Gero", "")
QUESTIONS = (("Where does Ada live?", "in Ulm"), ("What does Bela keep?", "two cats"))


@pytest.fixture
def made(tiny_models: Any, tmp_path: Path) -> Any:
    """Make the teacher with the small generator."""

    def make(**given: Any) -> AnswerLikelihood:
        options: dict[str, Any] = {"passages": ["p"], "teacher": ["generator"], "output": "o.jsonl"}
        options |= {"cache_dir": str(tmp_path / "cache"), "precision": "fp32", "device": "cpu"}
        options |= {"generator_name_or_path": str(tiny_models.generator)}
        settings = ScoreCandidates(**(options | given))
        AnswerLikelihood.check(settings)
        return AnswerLikelihood.from_config(settings)

    return make


def asked(passages: Sequence[str] = PASSAGES) -> list[Candidates]:
    return [Candidates(q, a, tuple(map(Passage.of, passages))) for q, a in QUESTIONS]


def test_scores_equal_an_independent_computation(made: Any, tiny_models: Any) -> None:
    """One prompt at a time, as a text, by transformers alone."""
    scores = made().score(asked())
    tokenizer = AutoTokenizer.from_pretrained(tiny_models.generator)
    model = AutoModelForCausalLM.from_pretrained(tiny_models.generator).double().eval()
    for (query, answer), row in zip(QUESTIONS, scores, strict=True):
        for passage, score in zip(PASSAGES, row, strict=True):
            prompt = "Answer the question from the passage."
            prompt += f"\n\nPassage:\n{passage}\n\nQuestion:\n{query}\n\nAnswer:\n"
            before = tokenizer(prompt).input_ids
            ids = [*tokenizer(prompt + answer).input_ids, tokenizer.eos_token_id]
            assert ids[: len(before)] == before
            with torch.no_grad():
                logits = model(torch.tensor([ids])).logits[0]
            steps = range(len(before), len(ids))
            expected = [logits[t - 1].log_softmax(0)[ids[t]].item() for t in steps]
            assert score == pytest.approx(sum(expected) / len(expected), abs=1e-5)


def test_the_order_and_the_company_of_candidates_change_nothing(made: Any) -> None:
    teacher = made(cache=False, cache_dir=None)
    together = teacher.score(asked())
    for row, question in enumerate(asked()):
        for place, passage in enumerate(question.passages):
            [[alone]] = teacher.score([replace(question, passages=(passage,))])
            assert alone == pytest.approx(together[row][place], abs=1e-5)


def test_identity_is_of_what_a_score_depends_on(made: Any, tmp_path: Path) -> None:
    file = tmp_path / "prompt.yaml"
    file.write_text('instruction: ""\npassage: "{passage}"\nquestion: "{question}"\nanswer: "A:"\n')
    teachers = [made(), made(generator_max_len=64), made(prompt=str(file)), made(precision="bf16")]
    other = made()
    with torch.no_grad():
        next(other.generator.parameters()).view(-1)[0] += 1
    assert len({teacher.identity for teacher in (*teachers, other)}) == 5
    assert made().identity == teachers[0].identity


def test_passages_that_are_cut_and_questions_without_room_are_told(
    made: Any, caplog: pytest.LogCaptureFixture
) -> None:
    overhead = made().generator.frame.overhead()
    teacher = made(generator_max_len=overhead + 24)
    caplog.set_level(logging.INFO, "dalm")
    long = Candidates("Where?", "in Ulm " * 30, (Passage.of("Ada"),))
    scores = teacher.score([*asked(["Ada lives in Ulm. " * 9, "Ada"]), long])
    assert [None in row for row in scores] == [False, False, True]
    assert "2 of 4 prompts have their passage cut by --generator-max-len" in caplog.text
    assert "1 of 5 candidates have no score: question and answer alone exceed" in caplog.text


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_killed_run_goes_on(made: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dalm.training.scoring.SCORED_TOKENS", 200)  # prompts of some 70 tokens
    teacher = made()

    def die() -> int:
        score_pairs = teacher.score_pairs

        def scored(pairs: Sequence[Pair]) -> Iterator[Mapping[int, float]]:
            for number, batch in enumerate(score_pairs(pairs)):
                if number == 2:
                    os.kill(os.getpid(), signal.SIGKILL)
                yield batch

        teacher.score_pairs = scored
        teacher.score(asked())
        return 0

    assert Forked(die, tmp_path / "log").end() == -signal.SIGKILL
    [file] = (tmp_path / "cache" / "scores").glob("generator-*.txt")
    kept = file.read_text().splitlines()
    assert 2 <= len(kept) < 8, "two batches"
    scored = list[Pair]()
    monkeypatch.setattr(
        AnswerLikelihood,
        "score_pairs",
        lambda self, pairs, plain=AnswerLikelihood.score_pairs: (
            scored.extend(pairs) or plain(self, pairs)
        ),
    )
    again = made().score(asked())
    assert len(scored) == 8 - len(kept)
    assert file.read_text().splitlines()[: len(kept)] == kept
    assert again == made().score(asked())
    assert len(scored) == 8 - len(kept)


def test_a_generator_must_be_named_and_be_there(made: Any, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="--teacher generator needs --generator-name-or-path"):
        made(generator_name_or_path=None)
    with pytest.raises(UserError, match="no such folder"):
        made(generator_name_or_path=str(tmp_path / "none"))
    with pytest.raises(UserError, match="--prompt"):
        made(prompt=str(tmp_path / "none.yaml"))
