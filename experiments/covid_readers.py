"""Train small generators that answer questions on texts like COVID-QA's, one per seed.

Their training data contains no expert question, and marks no passage that one needs: they are
fine-tuned, with gold passages, on questions that `dalm qa-gen` generates with rules from MedQuAD's
passages and from COVID-QA's knowledge base, and on XQuAD's, which people wrote about Wikipedia. The
answers of all three occur anywhere in their passages. Answers of the rules are whole sentences,
from which copying is learnt quickly: with the rules' short answers, a generator made no use of the
passage after 200 updates.

    python covid_readers.py SEED ...    make them
"""

import sys
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from common import DATA, WORK, rows_of, write_rows

from dalm import GeneratorOnly, QaGen, qa_gen, train_generator_only

SIZE = {"width": 192, "layers": 3, "heads": 6, "vocabulary": 4096, "max_length": 512}
"""2.2 million parameters."""
ASKED_BY_PATTERNS = ("medquad_train.csv", "covidqa_passages.csv")
ASKED_BY_PEOPLE = "xquad_en_train.csv"
COLUMNS = ("Query", "Passage", "Answer")
TUNING = {
    "per_device_train_batch_size": 16,
    "max_train_steps": 450,
    "learning_rate": 1.5e-3,
    "lr_scheduler_type": "cosine",
    "num_warmup_steps": 40,
    "precision": "bf16",
    "logging_steps": 50,
    "generator_max_len": 288,
    "reader_passages": 1,
}


@cache
def questions() -> str:
    """Write all questions, with their passages and answers, to one table, and return it."""
    file = WORK / "covid-reading.csv"
    if not file.exists():
        write_rows(file, COLUMNS, (row for source in _tables() for row in _rows(source)))
    return str(file)


def _tables() -> Iterator[Path]:
    for name in ASKED_BY_PATTERNS:
        folder = WORK / f"questions-{name.removesuffix('.csv')}"
        qa_gen(str(DATA / name), QaGen(output_dir=str(folder), overwrite_output_dir=True))
        yield folder / "question_answer_pairs_train.csv"
    yield DATA / ASKED_BY_PEOPLE


def _rows(source: Path) -> list[dict[str, str]]:
    return [row | {"Answer": row.get("Quote", row["Answer"])} for row in rows_of(source)]


def fresh(seed: int) -> str:
    """Return an untrained generator whose tokenizer knows the passages' and questions' words."""
    from dalm.models.tiny import build_generator
    from dalm.prompts import MARKS

    folder = WORK / f"covid-fresh-{seed}"
    if not folder.exists():
        texts = [row[name] for row in _rows(Path(questions())) for name in COLUMNS]
        texts += MARKS * (len(texts) // len(COLUMNS))
        build_generator(texts, folder, **SIZE, seed=seed)
    return str(folder)


def reader(seed: int) -> str:
    """Return a generator that can answer from passages, as any pretrained one can."""
    folder = WORK / f"covid-reader-{seed}"
    if not (folder / "generator").exists():
        settings = GeneratorOnly(
            output_dir=str(folder), overwrite_output_dir=True, seed=seed, **TUNING
        )
        train_generator_only(questions(), fresh(seed), settings)
    return str(folder / "generator")


if __name__ == "__main__":
    for seed in map(int, sys.argv[1:]):
        print(reader(seed))
