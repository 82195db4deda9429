"""Train with sentence-transformers' own trainer, at the settings of the benchmarks."""

from collections.abc import Sequence
from typing import Any

from common import data, minilm

BATCH, RATE, LENGTH, SCALE = 32, 1e-4, 128, 100.0


def trainer(folder: str, *, bf16: bool, callbacks: Sequence[Any] = (), **length: float) -> Any:
    """Return a trainer of all-MiniLM-L6-v2 on MedQuAD; `length` says how long it trains."""
    from datasets import load_dataset
    from sentence_transformers import SentenceTransformer, SentenceTransformerTrainer
    from sentence_transformers import SentenceTransformerTrainingArguments as Arguments
    from sentence_transformers.sentence_transformer.losses import (
        MultipleNegativesSymmetricRankingLoss,
    )

    rows = load_dataset("csv", data_files=data("medquad_train.csv"), split="train")
    model = SentenceTransformer(minilm(), device="cpu")
    model.max_seq_length = LENGTH
    arguments = Arguments(
        output_dir=folder,
        per_device_train_batch_size=BATCH,
        learning_rate=RATE,
        batch_sampler="no_duplicates",
        bf16=bf16,
        use_cpu=True,
        report_to=[],
        save_strategy="no",
        disable_tqdm=True,
        **length,
    )
    return SentenceTransformerTrainer(
        model=model,
        args=arguments,
        train_dataset=rows.select_columns(["Query", "Passage"]),
        loss=MultipleNegativesSymmetricRankingLoss(model, scale=SCALE),
        callbacks=list(callbacks),
    )
