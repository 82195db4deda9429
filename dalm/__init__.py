"""DALM: adapt retrieval-augmented generation to a domain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalm.commands.compare import compare
    from dalm.commands.eval_rag import eval_rag
    from dalm.commands.eval_retriever import eval_retriever
    from dalm.commands.merge import merge
    from dalm.commands.mine_negatives import mine_negatives
    from dalm.commands.passages import passages
    from dalm.commands.pretrain import pretrain
    from dalm.commands.qa_gen import qa_gen
    from dalm.commands.reading_comprehension import reading_comprehension
    from dalm.commands.train_generator import train_generator_only
    from dalm.commands.train_rag import train_rag_e2e
    from dalm.commands.train_retriever import train_retriever_only
    from dalm.config import (
        CompareRuns,
        EvalRag,
        EvalRetriever,
        GeneratorOnly,
        Merge,
        MineNegatives,
        Passages,
        Pretraining,
        QaGen,
        RagE2E,
        ReadingComprehension,
        RetrieverOnly,
    )

__version__ = "0.1.0"

__all__ = [
    "CompareRuns",
    "EvalRag",
    "EvalRetriever",
    "GeneratorOnly",
    "Merge",
    "MineNegatives",
    "Passages",
    "Pretraining",
    "QaGen",
    "RagE2E",
    "ReadingComprehension",
    "RetrieverOnly",
    "__version__",
    "compare",
    "eval_rag",
    "eval_retriever",
    "merge",
    "mine_negatives",
    "passages",
    "pretrain",
    "qa_gen",
    "reading_comprehension",
    "train_generator_only",
    "train_rag_e2e",
    "train_retriever_only",
]

_HOMES = {
    "CompareRuns": "dalm.config",
    "EvalRag": "dalm.config",
    "EvalRetriever": "dalm.config",
    "GeneratorOnly": "dalm.config",
    "Merge": "dalm.config",
    "MineNegatives": "dalm.config",
    "Passages": "dalm.config",
    "Pretraining": "dalm.config",
    "QaGen": "dalm.config",
    "RagE2E": "dalm.config",
    "ReadingComprehension": "dalm.config",
    "RetrieverOnly": "dalm.config",
    "compare": "dalm.commands.compare",
    "eval_rag": "dalm.commands.eval_rag",
    "eval_retriever": "dalm.commands.eval_retriever",
    "merge": "dalm.commands.merge",
    "mine_negatives": "dalm.commands.mine_negatives",
    "passages": "dalm.commands.passages",
    "pretrain": "dalm.commands.pretrain",
    "qa_gen": "dalm.commands.qa_gen",
    "reading_comprehension": ("dalm.commands.reading_comprehension"),
    "train_generator_only": "dalm.commands.train_generator",
    "train_rag_e2e": "dalm.commands.train_rag",
    "train_retriever_only": "dalm.commands.train_retriever",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
