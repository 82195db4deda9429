"""Build the models of the GPU's benchmark from configs, and texts for them.

A retriever of bge-large's size (BERT, 24 layers of width 1,024) and a generator of 7 billion
weights (Llama 2's shape), both with random weights: neither speed nor memory depends on them. The
folder is kept, so that the next part, or the next call on the same machine, finds them there.
"""

import csv
import json
import random
import shutil
import statistics
import time
from pathlib import Path

import torch

ROWS = 512
SIZES = {
    "retriever": {
        "vocab_size": 30522, "hidden_size": 1024, "num_hidden_layers": 24,
        "num_attention_heads": 16, "intermediate_size": 4096,
    },
    "generator": {
        "vocab_size": 32000, "hidden_size": 4096, "num_hidden_layers": 32,
        "num_attention_heads": 32, "num_key_value_heads": 32, "head_dim": 128,
        "intermediate_size": 11008, "tie_word_embeddings": False, "attention_bias": False,
    },
}  # fmt: skip
WARM_UP, PRODUCTS = 2, 10


def device() -> str:
    """Return where the parts run."""
    return "cuda" if torch.cuda.is_available() else "cpu"


def prepare(folder: Path, *, tiny: bool) -> None:
    """Write the rows and save the models, unless they are there."""
    done = folder / "complete"
    if done.exists():
        return
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    texts = write_rows(folder / "rows.csv", tiny=tiny)
    build_models(texts, folder, tiny=tiny)
    done.touch()


def write_rows(path: Path, *, tiny: bool) -> list[str]:
    """Write questions, passages and answers of invented words; return their texts.

    Passages are longer than the default lengths, but for tiny models.
    """
    chance = random.Random(0)
    syllables = [a + b for a in "bdfgklmnprst" for b in "aeiou"]
    words = ["".join(chance.choices(syllables, k=chance.randint(1, 3))) for _ in range(3000)]

    def text(shortest: int, longest: int) -> str:
        return " ".join(chance.choices(words, k=chance.randint(shortest, longest)))

    heading = ("Passage", "Query", "Answer")
    lengths = (20, 30) if tiny else (280, 350)
    rows = [(text(*lengths), text(8, 20), text(8, 40)) for _ in range(64 if tiny else ROWS)]
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([heading, *rows])
    return [cell for cells in rows for cell in cells]


def build_models(texts: list[str], folder: Path, *, tiny: bool) -> None:
    """Save a retriever and a generator with the texts' tokenizers and random weights."""
    from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

    from dalm.models.tiny import build_encoder, build_generator

    sizes = {"width": 32, "heads": 2, "layers": 1, "vocabulary": 1000}
    build_encoder(texts, folder / "retriever", max_length=512, **sizes)
    build_generator(texts, folder / "generator", max_length=4096, **sizes)
    if tiny:
        return
    for name, kind in (("retriever", AutoModel), ("generator", AutoModelForCausalLM)):
        config = AutoConfig.from_pretrained(folder / name)
        config.update(SIZES[name])
        with torch.device(device()):
            model = kind.from_config(config, dtype=torch.bfloat16)
        model.save_pretrained(folder / name)
        if name == "retriever":
            _fit_pooling(folder / name, config.hidden_size)
        weights = sum(p.numel() for p in model.parameters()) / 1e9
        print(f"{name}: {weights:.2f} billion weights", flush=True)
        del model
        torch.cuda.empty_cache()


def _fit_pooling(folder: Path, width: int) -> None:
    """Name the new width in the pooling's own config."""
    path = folder / "1_Pooling" / "config.json"
    settings = json.loads(path.read_text())
    known = {key: width for key in settings if "dimension" in key}
    path.write_text(json.dumps(settings | known))


def peak_rate(*, tiny: bool) -> float:
    """Return the operations per second of a bf16 product of two square matrices: the peak."""
    size = 512 if tiny else 8192
    left, right = (torch.randn(size, size, device=device(), dtype=torch.bfloat16) for _ in "lr")
    seconds = []
    for _ in range(WARM_UP + PRODUCTS):
        synchronise()
        start = time.perf_counter()
        left @ right
        synchronise()
        seconds.append(time.perf_counter() - start)
    return 2 * size**3 / statistics.median(seconds[WARM_UP:])


def synchronise() -> None:
    """Wait until the device has done its work."""
    if device() == "cuda":
        torch.cuda.synchronize()


def peak_gib() -> float:
    """Return the most memory that was allocated: on the GPU, else of the process."""
    from dalm.training.metrics_log import peak_memory

    return peak_memory() / 2**30
