"""An evaluation reads each distinct prompt once, and gets what separate readings give."""

from typing import Any

import pytest

from dalm.eval import cached_reader
from dalm.eval.cached_reader import CachedReader
from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.rag.pipeline import LocalReader, prompts_of
from dalm.records import Hit, JudgedQuery, Passage
from dalm.training.scoring import mean_log_probs

QUERIES = [
    JudgedQuery(id="1", query="Where does Ada live?", references=("in Ulm", "Ulm")),
    JudgedQuery(id="2", query="What does Bela keep?", references=("two cats",)),
    JudgedQuery(id="3", query="Who is Gero?", references=()),
]
PASSAGES = [
    Passage(id="a", text="Ada lives in Ulm."),
    Passage(id="b", text="Bela keeps two cats. " * 3),
]
FIRST = [[Hit(PASSAGES[0], 1.0)], [Hit(PASSAGES[1], 1.0)], [Hit(PASSAGES[0], 1.0)]]
SECOND = [[Hit(PASSAGES[0], 0.5)], [Hit(PASSAGES[0], 1.0)], []]


@pytest.fixture(scope="module")
def generator(tiny_models: Any) -> Generator:
    return load_generator(str(tiny_models.generator), place("cpu", "fp32"), max_length=128)


def nll(generator: Generator, context: list[list[Hit]]) -> list[float | None]:
    """Return the least NLL of each query's references, each prompt read by itself."""
    found = []
    for query, hits in zip(QUERIES, context, strict=True):
        many = [query.query] * len(query.references)
        prompts = prompts_of(
            generator, many, [hits] * len(many), generator.max_length, query.references
        )
        means = [
            -mean for each in prompts if each for _, (mean,) in mean_log_probs(generator, [each])
        ]
        found.append(min(means, default=None))
    return found


def close(column: list[float | None]) -> list[Any]:
    return [value if value is None else pytest.approx(value, abs=1e-5) for value in column]


@pytest.mark.parametrize("shares", [True, False])
def test_each_distinct_prompt_is_read_once(
    generator: Generator, monkeypatch: pytest.MonkeyPatch, shares: bool
) -> None:
    if not shares:
        monkeypatch.setattr(cached_reader, "shares_starts", lambda generator: False)
    read, scored = [], []
    generate = Generator.generate

    def spied(self: Generator, asked: Any, *rest: Any) -> Any:
        read.extend(tuple(prompt.tokens) for prompt in asked)
        return generate(self, asked, *rest)

    def scores(generator: Generator, prompts: Any) -> Any:
        scored.extend(tuple(prompt.tokens) for prompt in prompts)
        return mean_log_probs(generator, prompts)

    monkeypatch.setattr(Generator, "generate", spied)
    monkeypatch.setattr(cached_reader, "mean_log_probs", scores)
    reader, plain = CachedReader(generator, 1, 6), LocalReader(generator, 1, 6)
    (*found, last), generated = reader.answer_and_score(QUERIES, [FIRST, SECOND, FIRST])
    assert reader.answer_and_score(QUERIES, [FIRST]) == ([last], [])
    assert len(read) == len(set(read)) == reader.prompts_read == 5, "of nine"
    assert len(scored) == len(set(scored)) == (0 if shares else 4)
    assert len(generated) == 5
    assert found[0] == last
    for each, context in zip(found, (FIRST, SECOND), strict=True):
        answers = plain.answer([query.query for query in QUERIES], context)
        assert each.answers == [answer.text for answer in answers]
        assert each.nll == [
            value and pytest.approx(value, abs=1e-5) for value in nll(generator, context)
        ]


def test_a_reference_whose_prompt_is_truncated_otherwise_is_read_by_itself(
    generator: Generator, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = [[Hit(Passage(id="c", text="Ada lives in Ulm, by the river. " * 40), 1.0)]] * 3
    scored = []

    def scores(generator: Generator, prompts: Any) -> Any:
        scored.extend(prompts)
        return mean_log_probs(generator, prompts)

    monkeypatch.setattr(cached_reader, "mean_log_probs", scores)
    (found,), _ = CachedReader(generator, 1, 16).answer_and_score(QUERIES, [long])
    assert len(scored) == 3
    assert found.nll == close(nll(generator, long))


def test_a_reference_without_room_has_no_nll(generator: Generator, caplog: Any) -> None:
    endless = JudgedQuery(id="4", query="Why?", references=("because it is so " * 60,))
    (found,), _ = CachedReader(generator, 1, 4).answer_and_score([endless], [[[]]])
    assert found.nll == [None]
    assert "1 answers leave no room" in caplog.text
