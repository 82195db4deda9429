"""A judge, and answers to be judged, small enough to reckon with."""

from pathlib import Path

from dalm.eval.judge.judge import Judge
from dalm.eval.results import Results
from dalm.llm.chat_completions import Options, Server
from dalm.records import Hit, JudgedQuery, Passage

OPTIONS = Options(
    asks="--judge",
    address="--judge",
    model="--judge-model",
    key="--judge-api-key-env",
    timeout="--judge-timeout",
)
PASSAGES = [Passage(f"p{n}", f"Ada was in Ulm and Bern in 190{n}.") for n in range(3)]


def judge(url: str, folder: Path, key: str | None = None, **server: object) -> Judge:
    patience = {"max_retries": 1, "timeout": 5.0, "first_wait": 0.001} | server
    served = Server(f"{url}/chat/completions", "m", OPTIONS, key, **patience)
    return Judge(served, 64, 4, folder / "judge.jsonl")


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
