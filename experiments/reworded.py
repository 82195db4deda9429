"""Let SmolLM2-135M-Instruct write COVID-QA's training answers in its own words.

It reads a question and its answer, no passage, and replies greedily. So the answers no longer stand
in their passages word for word, as people's own wording doesn't. How good they are, and how many
still do, is in docs/experiments.md. Replies are kept as they arrive; a later run goes on.

    python experiments/reworded.py           make the table, show 20 of its rows
"""

import json
import random
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from common import DATA, WORK, rows_of, write_rows
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
CUT = 400
"""Characters of an answer that are shown to the model."""


@dataclass(frozen=True)
class Rewording:
    """A request to reword a row's answer."""

    row: int
    messages: list[dict[str, str]]
    response_format: None = None


def reworded() -> str:
    """Return the table with the reworded answers, and the given ones in the column `Given`."""
    file = WORK / "covidqa_reworded.csv"
    if not file.exists():
        rows = rows_of(DATA / "covidqa_train.csv")
        replies = _replies(rows)
        changed = [
            row | {"Given": row["Answer"], "Answer": replies[n]} for n, row in enumerate(rows)
        ]
        names = ("Title", "Passage", "Query", "Answer", "Given")
        write_rows(file, names, changed)
    return str(file)


def _replies(rows: list[dict[str, str]]) -> dict[int, str]:
    from dalm.llm.local_model import load_local_model
    from dalm.models.loading import place

    kept = WORK / "covidqa_reworded.jsonl"
    done = _read(kept)
    missing = [Rewording(n, _messages(row)) for n, row in enumerate(rows) if n not in done]
    if missing:
        model = load_local_model(smollm2(), place("cpu", "bf16"), LONGEST)
        with kept.open("a", encoding="utf-8") as out:

            def keep(request: Rewording, reply: Any) -> None:
                text = reply.text.strip().partition("\n")[0]
                out.write(json.dumps({"row": request.row, "text": text}) + "\n")
                out.flush()

            model.generate(missing, keep, lambda request, error: print(request.row, error))
    return _read(kept)


def _read(file: Path) -> dict[int, str]:
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    return {line["row"]: line["text"] for line in map(json.loads, lines)}


def _messages(row: dict[str, str]) -> list[dict[str, str]]:
    found = []
    for question, answer, said in SHOTS:
        found.append({"role": "user", "content": ASK.format(question=question, answer=answer)})
        found.append({"role": "assistant", "content": said})
    asked = ASK.format(question=row["Query"], answer=row["Answer"][:CUT])
    return [*found, {"role": "user", "content": asked}]


if __name__ == "__main__":
    for row in random.Random(0).sample(rows_of(Path(reworded())), 20):
        print(f"{row['Query']}\n    {row['Given'][:200]}\n    {row['Answer']}")
