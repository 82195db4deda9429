"""A judge, and answers to be judged, small enough to reckon with."""

from pathlib import Path

from dalm.eval.judge.judge import SERVER, Judge
from dalm.eval.results import Results
from dalm.llm.chat_completions import Endpoint
from dalm.llm.openai_client import OpenAIClient
from dalm.records import Hit, JudgedQuery, Passage

PASSAGES = [Passage(f"p{n}", f"Ada was in Ulm and Bern in 190{n}.") for n in range(3)]


def judge(url: str, folder: Path, key: str | None = None, **server: object) -> Judge:
    patience = {"max_retries": 1, "timeout": 5.0, "first_wait": 0.001} | server
    endpoint = Endpoint(f"{url}/chat/completions", "m", key, options=SERVER, **patience)
    parameters = {"temperature": 0.0, "max_tokens": 64, "seed": 0}
    return Judge(OpenAIClient(endpoint, parameters, 4), folder / "judge.jsonl")


def answered(*answers: str, name: str = "mine", references: tuple[str, ...] = ("Ulm",)) -> Results:
    """Answers to as many questions, each read from two passages of three that were found."""
    queries = [
        JudgedQuery(id=f"q{n}", query=f"Where was Ada in 190{n}?", references=references)
        for n in range(len(answers))
    ]
    hits = [[Hit(passage, 1.0 - n) for n, passage in enumerate(PASSAGES)] for _ in answers]
    match = [float(answer in references) if references else None for answer in answers]
    return Results(
        name=name,
        queries=queries,
        hits=hits,
        measures={"EM": match},
        answers={"found": list(answers)},
        facts={"reader_passages": 2},
    )
