"""An evaluation reads each distinct prompt once, and gets what separate readings give."""

import json
from pathlib import Path
from typing import Any

import pytest

from dalm.eval import cached_reader
from dalm.eval.answer_journal import AnswerJournal
from dalm.eval.cached_reader import CachedReader
from dalm.models import generator as generator_module
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
    generate = Generator.generate_batches

    def spied(self: Generator, asked: Any, *rest: Any, **options: Any) -> Any:
        read.extend(tuple(prompt.tokens) for prompt in asked)
        return generate(self, asked, *rest, **options)

    def scores(generator: Generator, prompts: Any) -> Any:
        scored.extend(tuple(prompt.tokens) for prompt in prompts)
        return mean_log_probs(generator, prompts)

    monkeypatch.setattr(Generator, "generate_batches", spied)
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


@pytest.mark.parametrize("shares", [True, False])
def test_a_killed_evaluation_goes_on(
    generator: Generator,
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    caplog: Any,
    shares: bool,
) -> None:
    if not shares:
        monkeypatch.setattr(cached_reader, "shares_starts", lambda generator: False)
    (first, second), _ = CachedReader(generator, 1, 6).answer_and_score(QUERIES, [FIRST, SECOND])
    read, files = [], (tmp_path / "g.jsonl", tmp_path / "g-likelihoods.txt")
    tokens = Generator.generate_tokens

    def stopping(self: Generator, rows: Any, *rest: Any, **hooks: Any) -> Any:
        if len(read) == 2:
            raise KeyboardInterrupt
        read.append(len(rows))
        return tokens(self, rows, *rest, **hooks)

    monkeypatch.setattr(generator_module, "GENERATE_TOKENS", 1)  # each prompt is a batch
    monkeypatch.setattr(Generator, "generate_tokens", stopping)
    with pytest.raises(KeyboardInterrupt):
        kept_reader(generator, files[0]).answer_and_score(QUERIES, [FIRST, SECOND])
    lines = [json.loads(line) for line in files[0].read_text().splitlines()]
    assert len(lines) == 2
    assert {line["query"] for line in lines} <= {query.query for query in QUERIES}
    assert bool(files[1].read_text()) == shares

    read.clear()
    monkeypatch.setattr(Generator, "generate_tokens", tokens)
    caplog.set_level("INFO")
    (*found,), generated = kept_reader(generator, files[0]).answer_and_score(
        QUERIES, [FIRST, SECOND]
    )
    assert len(generated) == 3, "of five"
    assert "journal    2 of 5 answers are kept" in caplog.text
    for again, once in zip(found, (first, second), strict=True):
        assert again.answers == once.answers
        assert again.nll == close(once.nll)

    def nothing(_: Generator, prompts: Any) -> Any:
        assert not prompts, "nothing is scored again"
        return iter(())

    monkeypatch.setattr(cached_reader, "mean_log_probs", nothing)
    assert kept_reader(generator, files[0]).answer_and_score(QUERIES, [FIRST]) == (found[:1], [])


def test_another_generator_or_another_length_has_nothing_kept(
    tiny_models: Any, generator: Generator, tmp_path: Path
) -> None:
    journal = tmp_path / "g.jsonl"
    kept_reader(generator, journal).answer_and_score(QUERIES, [FIRST])
    other = load_generator(str(tiny_models.generator), place("cpu", "fp32"), max_length=128)
    next(iter(other.parameters())).data[0, 0] += 1
    for reader in (kept_reader(other, journal), kept_reader(generator, journal, 5)):
        assert len(reader.answer_and_score(QUERIES, [FIRST])[1]) == 3
    assert kept_reader(generator, journal).answer_and_score(QUERIES, [FIRST])[1] == []


def test_evaluations_at_once_keep_answers_in_files_of_their_own(
    generator: Generator, tmp_path: Path
) -> None:
    journal = tmp_path / "g.jsonl"
    with AnswerJournal(journal):  # of another evaluation, which is answering
        (first,), _ = kept_reader(generator, journal).answer_and_score(QUERIES, [FIRST])
        kept_reader(generator, journal).answer_and_score(QUERIES, [SECOND])
    assert sorted(each.name for each in tmp_path.iterdir()) == [
        *("g-likelihoods.txt", "g.2-likelihoods.txt", "g.2.jsonl", "g.jsonl")
    ]
    assert journal.read_text() == ""
    (again,), generated = kept_reader(generator, journal).answer_and_score(QUERIES, [FIRST])
    assert (again, generated) == (first, [])


def kept_reader(generator: Generator, journal: Path, max_new_tokens: int = 6) -> CachedReader:
    return CachedReader(generator, 1, max_new_tokens, journal=AnswerJournal(journal, "tiny"))
