"""Many rows in one batch: each is what it is alone, ends where it has to, and can be abandoned."""

import pytest

from dalm.llm.generation_queue import GenerationQueue, Job
from dalm.llm.sampling import Sampling
from dalm.models import loading
from dalm.models.generator import Generator, load_generator

GREEDY = Sampling()
TEXTS = ["Ada lives in", "Bela", "At home Cyrus keeps two cats. Dora", "lives"]


@pytest.fixture(scope="module")
def generator(tiny_models) -> Generator:
    return load_generator(str(tiny_models.generator), loading.place("cpu", "fp32")).eval()


@pytest.fixture(scope="module")
def rows(generator):
    return [row.tolist() for row in generator.tokenise(TEXTS)]


def batched(generator, jobs) -> GenerationQueue:
    """Let jobs arrive together: the thread finds all of them waiting."""
    queue = GenerationQueue(generator, 16)
    first = Job(generator, jobs[0].row, GREEDY, 1)
    queue._waiting.extend(jobs)
    queue.submit(first)
    list(first)
    return queue


def alone(generator, row, most):
    [ids] = generator.generate_tokens([row], most)
    return generator.tokenizer.decode(ids, skip_special_tokens=True)


def test_a_row_of_a_batch_is_the_row_alone(generator, rows):
    lengths = [3, 9, 20, 12]
    jobs = [Job(generator, row, GREEDY, most) for row, most in zip(rows, lengths, strict=True)]
    batched(generator, jobs)
    for job, row, most in zip(jobs, rows, lengths, strict=True):
        assert "".join(job).strip() == alone(generator, row, most).strip()
        assert job.outcome.tokens_in == len(row)
        assert job.outcome.tokens_out <= most
        assert job.outcome.finish_reason == ("length" if job.outcome.tokens_out == most else "stop")


def test_jobs_that_arrive_together_are_one_batch(generator, rows):
    queue = GenerationQueue(generator, 16)
    jobs = [queue.submit(Job(generator, row, GREEDY, 4)) for row in rows]
    for job in jobs:
        list(job)
    assert queue.rows == 4
    assert queue.batches < 4


def test_an_abandoned_row_ends_at_once_and_the_others_go_on(generator, rows):
    queue = GenerationQueue(generator, 16)
    left, kept = (Job(generator, row, GREEDY, 60) for row in rows[:2])
    queue.submit(left)
    queue.submit(kept)
    next(iter(left))
    left.cancel()
    assert "".join(kept).strip() == alone(generator, rows[1], 60).strip()
    assert left.outcome.tokens_out < 60


def test_a_seed_gives_the_same_draw_in_any_batch(generator, rows):
    drawn = Sampling(temperature=1.3, top_p=0.9, seed=5)
    one = Job(generator, rows[0], drawn, 10)
    batched(generator, [one])
    again, other, greedy = (
        Job(generator, rows[0], drawn, 10),
        Job(generator, rows[1], Sampling(temperature=1.0, seed=1), 10),
        Job(generator, rows[2], GREEDY, 10),
    )
    batched(generator, [other, greedy, again])
    assert list(again) == list(one)
    assert "".join(greedy).strip() == alone(generator, rows[2], 10).strip()


def test_a_stop_that_spans_words_ends_the_row_before_it(generator, rows):
    text = alone(generator, rows[2], 30)
    words = text.split(" ")
    stop = " ".join(words[2:4])[1:]
    job = Job(generator, rows[2], Sampling(stop=("nowhere", stop)), 30)
    batched(generator, [job])
    assert "".join(job) == text[: text.index(stop)]
    assert job.outcome.finish_reason == "stop"


def test_an_error_is_raised_where_the_pieces_are_read(generator, rows):
    queue = GenerationQueue(generator, 16)
    broken = queue.submit(Job(generator, [10**9], GREEDY, 4))
    with pytest.raises(IndexError):
        list(broken)
    assert list(queue.submit(Job(generator, rows[0], GREEDY, 4)))  # the thread lives on
