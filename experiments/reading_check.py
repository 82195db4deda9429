"""Check that SmolLM2-135M-Instruct reads, and choose its prompt and length by that.

Test questions of COVID-QA and PubMedQA, evenly spaced; the negative log-likelihood of a token of
the answer with the gold passage, the one that BM25 finds first, another question's and none; and
how often the gold passage gives the answer the highest likelihood, among it and BM25's five best
others. A prompt is within the model's chat template unless its name says `plain`.

    python experiments/reading_check.py
"""

import json
import math
import shutil
import time
from collections.abc import Sequence
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from common import DATA, RESULTS, WORK, results
from instruct_model import smollm2

EXPERIMENT = "reading_check"
QUESTIONS, OTHERS = 48, 5
SOURCES = {
    "covidqa": ("covidqa_test.csv", ["covidqa_passages.csv"]),
    "pubmedqa": ("pubmedqa_test.csv", ["pubmedqa_train.csv"]),
}
PHRASE = {
    "instruction": "Answer the question with a short phrase copied from the passage.",
    "passage": "\n\nPassage: {passage}",
    "question": "\n\nQuestion: {question}",
    "answer": "\n\nAnswer: ",
}
"""A prompt's own texts, by the names of `PromptTemplate`'s fields."""
SETTINGS: dict[str, tuple[str, int]] = {
    "default": ("default", 512),
    "default, 256 tokens": ("default", 256),
    "phrase": ("phrase", 512),
    "default, plain": ("default plain", 512),
}
CHECKED = {"covidqa": tuple(SETTINGS), "pubmedqa": ("default",)}


def main() -> None:
    done = {(line["name"], line["data"]) for line in results(EXPERIMENT)}
    for data, names in CHECKED.items():
        for name in names:
            if (name, data) in done:
                continue
            prompt, length = SETTINGS[name]
            line = {"name": name, "data": data, **check(data, prompt, length)}
            with (RESULTS / f"{EXPERIMENT}.jsonl").open("a", encoding="utf-8") as out:
                out.write(json.dumps(line) + "\n")
            print(line, flush=True)


def check(data: str, prompt: str, length: int) -> dict[str, Any]:
    """Score the answers with every kind of passage; return nats per token, means over tokens."""
    from dalm.models.generator import load_generator
    from dalm.models.loading import place

    template = _prompt_file() if prompt.startswith("phrase") else None
    generator = load_generator(
        _reader(plain=prompt.endswith("plain")),
        replace(place("cpu", "bf16"), frozen=True),
        prompt=template,
        max_length=length,
    )
    queries, answers, gold, found = questions(data)
    random = gold[len(gold) // 2 :] + gold[: len(gold) // 2]
    start = time.perf_counter()
    kinds: dict[str, Sequence[Sequence[str]]] = {
        "gold": [[text] for text in gold],
        "found": [texts[:1] for texts in found],
        "random": [[text] for text in random],
        "none": [[] for _ in gold],
    }
    others = [
        [text for text in texts if text != right][:OTHERS]
        for texts, right in zip(found, gold, strict=True)
    ]
    line: dict[str, Any] = {
        kind: _nats(generator, queries, answers, passages) for kind, passages in kinds.items()
    }
    rows = [(n, text) for n, texts in enumerate(others) for text in (gold[n], *texts)]
    scores = _sums(generator, [(queries[n], answers[n], [text]) for n, text in rows])
    best = {n: -math.inf for n, _ in rows}
    for (n, _), score in zip(rows, scores, strict=True):
        best[n] = max(best[n], score)
    first = {n: score for (n, text), score in zip(rows, scores, strict=True) if text == gold[n]}
    return line | {
        "gold is best": sum(first[n] == best[n] for n in best) / len(gold),
        "questions": len(gold),
        "length": length,
        "prompt": asdict(generator.template),
        "seconds": time.perf_counter() - start,
    }


def questions(data: str) -> tuple[list[str], list[str], list[str], list[list[str]]]:
    """Return questions, answers, gold passages, and what BM25 finds for each, as texts."""
    from dalm.config import Columns
    from dalm.io.examples import read_examples, read_passages
    from dalm.records import distinct_by_id
    from dalm.retrieval.bm25 import BM25

    test, sources = SOURCES[data]
    examples = read_examples(str(DATA / test), Columns(), needs={"passage", "answer"})
    base = [each.passage for each in examples if each.passage]
    for source in sources:
        base += read_passages(str(DATA / source), Columns())
    chosen = examples[:: len(examples) // QUESTIONS][:QUESTIONS]
    queries = [each.query for each in chosen]
    found = BM25(distinct_by_id(base)).search(queries, OTHERS + 1)
    return (
        queries,
        [each.answer or "" for each in chosen],
        [each.passage.text for each in chosen if each.passage],
        [[hit.passage.text for hit in hits] for hits in found],
    )


def _nats(
    generator: Any,
    queries: Sequence[str],
    answers: Sequence[str],
    passages: Sequence[Sequence[str]],
) -> float:
    tokens = sum(len(each) + 1 for each in generator.tokenise_answers(list(answers)))
    return -sum(_sums(generator, list(zip(queries, answers, passages, strict=True)))) / tokens


def _sums(generator: Any, asked: Sequence[tuple[str, str, Sequence[str]]]) -> list[float]:
    """Return the log-likelihood of each answer, given its question and passages."""
    import torch

    from dalm.training.scoring import score_no_grad

    prompts = [
        generator.frame.join(
            [each.tolist() for each in generator.tokenise_passages(list(passages))],
            generator.tokenise_queries([query])[0].tolist(),
            generator.tokenise_answers([answer])[0].tolist(),
            generator.max_length,
        )
        for query, answer, passages in asked
    ]
    found: list[float] = []
    order = sorted(range(len(prompts)), key=lambda n: prompts[n].length)
    with torch.no_grad(), generator.placement.autocast():
        for start in range(0, len(order), 16):
            batch = [prompts[n] for n in order[start : start + 16]]
            found += score_no_grad(generator, batch).sum((1, 2)).tolist()
    return [score for _, score in sorted(zip(order, found, strict=True))]


def _prompt_file() -> str:
    file = WORK / "prompt-phrase.yaml"
    file.write_text(json.dumps(PHRASE), encoding="utf-8")
    return str(file)


def _reader(*, plain: bool) -> str:
    """Return the model's folder, or a copy without the chat template."""
    folder = Path(smollm2())
    if not plain:
        return str(folder)
    copy = folder.with_name(f"{folder.name}-plain")
    if not copy.exists():
        copy.mkdir()
        for file in folder.iterdir():
            if file.suffix == ".safetensors":
                (copy / file.name).symlink_to(file)
            elif file.name != "chat_template.jinja":
                shutil.copy(file, copy)
        settings = copy / "tokenizer_config.json"
        content = json.loads(settings.read_text())
        content.pop("chat_template", None)
        settings.write_text(json.dumps(content))
    return str(copy)


if __name__ == "__main__":
    main()
