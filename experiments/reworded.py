"""Let SmolLM2-135M-Instruct write COVID-QA's training answers in its own words.

It reads a question and its answer, no passage, and replies greedily. So the answers no longer stand
in their passages word for word, as people's own wording doesn't. How good they are, and how many
still do, is in docs/experiments.md. Replies are kept as they arrive; a later run goes on.

    python experiments/reworded.py 100       reword so many answers, show 20 of them
"""

import json
import random
import sys
from dataclasses import dataclass
from typing import Any

from common import DATA, WORK, rows_of
from instruct_model import smollm2

SHOTS = (
    (
        "What is the main cause of tides?",
        "gravitational pull of the Moon",
        "They happen mostly because the Moon attracts the water of the seas.",
    ),
    (
        "How many patients recovered?",
        "12 of 40",
        "A dozen out of the forty people got well again.",
    ),
    (
        "What can lower the risk of scurvy?",
        "eating fresh citrus fruit",
        "People who often have oranges or lemons are less likely to get it.",
    ),
)
ASK = (
    "Say the answer again in one sentence, in your own words, with other words than the answer's."
    "\nQuestion: {question}\nAnswer: {answer}"
)
LONGEST = 48
"""Tokens of a reply."""
KEPT = WORK / "covidqa_reworded.jsonl"
CUT = 400
"""Characters of an answer that are shown to the model."""


@dataclass(frozen=True)
class Rewording:
    """A request to reword a row's answer."""

    query: str
    answer: str
    messages: list[dict[str, str]]
    response_format: None = None


def reworded(rows: list[dict[str, str]]) -> list[dict[str, str]]:
    """Return rows with their answers reworded; the given ones are in the column `Given`."""
    done = _read()
    if missing := [row for row in rows if (row["Query"], row["Answer"]) not in done]:
        _reword(missing)
        done = _read()
    return [
        row | {"Answer": done[row["Query"], row["Answer"]], "Given": row["Answer"]} for row in rows
    ]


def _reword(rows: list[dict[str, str]]) -> None:
    from dalm.llm.local_model import load_local_model
    from dalm.models.loading import place

    requests = [Rewording(row["Query"], row["Answer"], _messages(row)) for row in rows]
    model = load_local_model(smollm2(), place("cpu", "bf16"), LONGEST)
    with KEPT.open("a", encoding="utf-8") as out:

        def keep(request: Rewording, reply: Any) -> None:
            text = reply.text.strip().partition("\n")[0]
            line = {"query": request.query, "answer": request.answer, "text": text}
            out.write(json.dumps(line) + "\n")
            out.flush()

        model.generate(requests, keep, lambda request, error: print(request.query, error))


def _read() -> dict[tuple[str, str], str]:
    lines = KEPT.read_text(encoding="utf-8").splitlines() if KEPT.exists() else []
    return {(each["query"], each["answer"]): each["text"] for each in map(json.loads, lines)}


def _messages(row: dict[str, str]) -> list[dict[str, str]]:
    found = []
    for question, answer, said in SHOTS:
        found.append({"role": "user", "content": ASK.format(question=question, answer=answer)})
        found.append({"role": "assistant", "content": said})
    asked = ASK.format(question=row["Query"], answer=row["Answer"][:CUT])
    return [*found, {"role": "user", "content": asked}]


def main() -> None:
    rows = random.Random(0).sample(rows_of(DATA / "covidqa_train.csv"), int(sys.argv[1]))
    for row in reworded(rows)[:20]:
        print(f"{row['Query']}\n    {row['Given'][:200]}\n    {row['Answer']}")


if __name__ == "__main__":
    main()
