"""Make the models and questions that single arms need: readers, a cross-encoder, questions."""

import random
from pathlib import Path
from typing import Any

from common import WORK, rows_of, write_rows
from domains import FOLDER, domain

STEPS = {"tuned": 200, "by heart": 1500}
"""Updates of the toy domain's reader, by what it becomes."""
STEPS_REAL = {"tuned": 40, "by heart": 400}
"""Those of SmolLM2, in batches of 8."""


def untrained(name: str, seed: int) -> str:
    """Return a reader of the same architecture and tokenizer with random weights."""
    folder = WORK / f"untrained-{Path(name).parent.name}-{Path(name).name}-{seed}"
    if not folder.exists():
        import torch
        from transformers import AutoConfig, AutoModelForCausalLM, AutoTokenizer

        torch.manual_seed(seed)
        model = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(name))
        model.save_pretrained(folder)
        AutoTokenizer.from_pretrained(name).save_pretrained(folder)
    return str(folder)


def tuned(name: str, reader: str, labels: str, options: dict[str, Any], seed: int) -> str:
    """Return the reader after tuning on the passages that it finds best, which may be wrong."""
    return _trained(name, "tuned", reader, labels, options, seed)


def by_heart(name: str, reader: str, options: dict[str, Any], seed: int) -> str:
    """Return the reader after it has learnt the answers with passages of other questions."""
    rows = rows_of(Path(domain(name).gold))
    others = [row["Passage"] for row in rows]
    random.Random(seed).shuffle(others)
    mixed = (row | {"Passage": passage} for row, passage in zip(rows, others, strict=True))
    file = FOLDER / name / f"by-heart-{seed}.csv"
    table = write_rows(file, ("Query", "Passage", "Answer"), mixed)
    return _trained(name, "by heart", reader, table, options, seed)


def _trained(
    name: str, kind: str, reader: str, table: str, options: dict[str, Any], seed: int
) -> str:
    from dalm import GeneratorOnly, train_generator_only

    folder = FOLDER / "readers" / f"{name}-{kind.replace(' ', '-')}-{seed}"
    if not (folder / "generator").exists():
        is_small = name.startswith("toy")
        shared: dict[str, Any] = {
            "output_dir": str(folder),
            "overwrite_output_dir": True,
            "checkpointing_steps": 10**6,
            "per_device_train_batch_size": 32 if is_small else 8,
            "max_train_steps": (STEPS if is_small else STEPS_REAL)[kind],
            "num_warmup_steps": 10,
            "reader_passages": 1,
            "seed": seed,
        }
        train_generator_only(table, reader, GeneratorOnly(**shared, **options))
    return str(folder / "generator")


def cross_encoder(encoder: str, options: dict[str, Any], candidates: int, seed: int) -> str:
    """Return a cross-encoder of the variant of the toy domain, trained on other places' gold.

    From the encoder, with as many candidates of each question; it has met none of the places whose
    candidates it scores, as the reader hasn't.
    """
    from dalm import RerankerTraining, ScoreCandidates, score_candidates, train_reranker

    folder = FOLDER / "readers" / f"cross-encoder-{seed}"
    if not (folder / "reranker").exists():
        from toy_models import halves

        table = halves(shared=True)[0]
        scored = FOLDER / "readers" / "other-places.jsonl"
        given: dict[str, Any] = {"num_candidates": candidates, "overwrite_output": True}
        settings = ScoreCandidates(
            teacher=["gold"], passages=[table], output=str(scored), cache=False, **given
        )
        score_candidates(table, settings)
        shared: dict[str, Any] = {"output_dir": str(folder), "overwrite_output_dir": True}
        shared |= {"checkpointing_steps": 10**6, "seed": seed, "num_candidates": candidates}
        train_reranker(encoder, str(scored), RerankerTraining(**shared, **options))
    return str(folder / "reranker")


def questions_by_rules(name: str) -> str:
    """Return the questions that `dalm qa-gen` makes of the knowledge base with rules, no model."""
    from dalm import QaGen, qa_gen

    folder = FOLDER / name / "rules"
    table = folder / "question_answer_pairs_train.csv"
    if not table.exists():
        qa_gen(domain(name).passages, QaGen(output_dir=str(folder), overwrite_output_dir=True))
    return str(table)
