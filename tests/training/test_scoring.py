"""Mean log-probabilities of answers: prompts that begin alike are read once, and score the same."""

from typing import Any

import pytest
import torch

from dalm.models import loading, shared_start
from dalm.models.generator import Generator, load_generator
from dalm.models.shared_start import log_probs_after, shares_starts
from dalm.prompts import Prompt
from dalm.training import scoring
from dalm.training.scoring import mean_log_probs

QUERIES = ("Where does Ada live?", "What does Bela keep?", "Where does Gero live at home?")
PASSAGES = ("Ada lives in Ulm. " * 4, "Bela keeps two cats. At home Bela keeps an old horse. " * 2)


@pytest.fixture(scope="module")
def generator(tiny_models: Any) -> Generator:
    return load_generator(str(tiny_models.generator), loading.place("cpu", "fp32"))


def prompts(generator: Generator) -> list[Prompt]:
    """Return three prompts for each of two passages, the passages in turn."""
    passages = [row.tolist() for row in generator.tokenise_passages(PASSAGES)]
    queries = [row.tolist() for row in generator.tokenise_queries(QUERIES)]
    answers = [row.tolist() for row in generator.tokenise_answers(["in Ulm", "a dog", "Ulm"])]
    return [
        generator.frame.join([passage], query, answer, 256)
        for query, answer in zip(queries, answers, strict=True)
        for passage in passages
    ]


def one_by_one(generator: Generator, asked: list[Prompt]) -> list[float]:
    """Score each prompt alone by the whole model."""
    found = []
    for prompt in asked:
        ids = torch.tensor([prompt.tokens])
        with torch.no_grad():
            logits = generator.model(input_ids=ids).logits.log_softmax(-1)
        whole = logits[0, :-1].gather(-1, ids[0, 1:, None])[:, 0]
        found.append(float(whole[prompt.answer_start - 1 :].mean()))
    return found


def scored(generator: Generator, asked: list[Prompt]) -> list[float]:
    found = {}
    for rows, means in mean_log_probs(generator, asked):
        assert not found.keys() & set(rows)
        found |= dict(zip(rows, means, strict=True))
    return [found[row] for row in range(len(asked))]


def test_prompts_that_begin_alike_are_read_once(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts(generator)
    lone = Prompt(asked[0].tokens[-20:], 18)
    groups = scoring._alike([*asked, lone])
    assert sorted(sorted(rows) for rows, _ in groups) == [[0, 2, 4], [1, 3, 5]]
    for rows, length in groups:
        starts = {tuple(asked[row].tokens[:length]) for row in rows}
        assert len(starts) == 1
        assert all(length < asked[row].answer_start for row in rows)
    read = list[int]()

    def spied(generator: Generator, start: Any, *rest: Any) -> Any:
        read.append(len(start))
        return log_probs_after(generator, start, *rest)

    monkeypatch.setattr(scoring, "log_probs_after", spied)
    found = scored(generator, [*asked, lone])
    assert sorted(read) == sorted(length for _, length in groups)
    assert found == pytest.approx(one_by_one(generator, [*asked, lone]), abs=1e-5)


def test_the_size_of_a_group_is_limited(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked = prompts(generator)
    monkeypatch.setattr(scoring, "SCORED_TOKENS", 2 * max(prompt.length for prompt in asked))
    assert all(len(rows) == 2 for rows, _ in scoring._alike(asked))
    assert scored(generator, asked) == pytest.approx(one_by_one(generator, asked), abs=1e-5)


def test_a_model_that_can_t_go_on_from_a_start_reads_whole_prompts(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert shares_starts(generator)
    monkeypatch.setattr(shared_start, "_plain_cache", lambda out: None)
    assert not shares_starts(generator)
    asked = prompts(generator)
    assert scored(generator, asked) == pytest.approx(one_by_one(generator, asked), abs=1e-5)


def test_a_start_that_is_not_heard_is_found_out(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = log_probs_after

    def deaf(generator: Generator, start: list[int], *rest: Any) -> Any:
        return plain(generator, start[:1] * len(start), *rest)

    monkeypatch.setattr(shared_start, "log_probs_after", deaf)
    assert not shares_starts(generator)
