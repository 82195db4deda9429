"""Measure what rule-based questions alone gain a retriever on COVID-QA.

`dalm qa-gen` generates questions from the knowledge base with rules (no model), all-MiniLM-L6-v2 is
trained contrastively on only those, and evaluated on the expert questions, which it has never seen,
over the knowledge base. Steps and learning rate were chosen beforehand.
"""

import json
import sys
import tempfile
import time
from pathlib import Path

from common import DATA, minilm

from dalm import EvalRetriever, QaGen, RetrieverOnly, eval_retriever, qa_gen, train_retriever_only

STEPS, BATCH, RATE = 60, 32, 5e-5
SEEDS = (1,)
SHOWN = {"R@1": "recall@1", "R@10": "recall@10", "RR@10": "MRR@10"}
PASSAGES, TEST = str(DATA / "covidqa_passages.csv"), str(DATA / "covidqa_test.csv")


def one(seed: int, folder: str) -> dict[str, dict[str, float]]:
    """Make questions, train, evaluate; return each measure before and after, with its interval."""
    qa_gen(PASSAGES, QaGen(output_dir=f"{folder}/questions"))
    options = {"max_train_steps": STEPS, "learning_rate": RATE, "seed": seed}
    settings = RetrieverOnly(
        output_dir=f"{folder}/tuned",
        per_device_train_batch_size=BATCH,
        num_warmup_steps=STEPS // 10,
        passage_max_len=128,
        **options,
    )
    table = f"{folder}/questions/question_answer_pairs_train.csv"
    train_retriever_only(minilm(), table, settings)
    eval_retriever(
        TEST,
        EvalRetriever(
            retriever_name_or_path=f"{folder}/tuned/retriever",
            baseline=minilm(),
            passages=[PASSAGES],
            output_dir=f"{folder}/evaluation",
        ),
    )
    lines = json.loads(Path(f"{folder}/evaluation/results.json").read_text())["measures"]
    return {line["measure"]: line for line in lines if line["measure"] in SHOWN}


def main() -> None:
    """Print a table with a line for each measure."""
    print("| seed | measure | untuned | questions by patterns | interval | minutes |")
    print("|---|---|---|---|---|---|")
    for seed in SEEDS:
        start = time.perf_counter()
        with tempfile.TemporaryDirectory() as folder:
            found = one(seed, folder)
        minutes = (time.perf_counter() - start) / 60
        for name, shown in SHOWN.items():
            line = found[name]
            low, high = line["interval"]
            before, after = line["baseline"]["mean"], line["mean"]
            cells = (seed, shown, f"{before:.3f}", f"{after:.3f}", f"{low:.3f} to {high:.3f}")
            print("|", " | ".join(map(str, (*cells, f"{minutes:.1f}"))), "|")


if __name__ == "__main__":
    sys.exit(main())
