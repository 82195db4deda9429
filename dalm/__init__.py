"""DALM: adapt retrieval-augmented generation to a domain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
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
    from dalm.datasets.documents.make_passages import passages
    from dalm.datasets.qa_gen.question_answer_generation import qa_gen
    from dalm.datasets.reading_comprehension.make_reading_comprehension import (
        reading_comprehension,
    )
    from dalm.eval.compare_runs import compare
    from dalm.eval.eval_rag import eval_rag
    from dalm.eval.eval_retriever_only import eval_retriever
    from dalm.models.merge_adapter import merge
    from dalm.retrieval.mine_negatives import mine_negatives
    from dalm.training.generator_only.train_generator_only import train_generator_only
    from dalm.training.pretrain.pretrain import pretrain
    from dalm.training.rag_e2e.train_rage2e import train_rag_e2e
    from dalm.training.retriever_only.train_retriever_only import train_retriever_only

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
    "compare": "dalm.eval.compare_runs",
    "eval_rag": "dalm.eval.eval_rag",
    "eval_retriever": "dalm.eval.eval_retriever_only",
    "merge": "dalm.models.merge_adapter",
    "mine_negatives": "dalm.retrieval.mine_negatives",
    "passages": "dalm.datasets.documents.make_passages",
    "pretrain": "dalm.training.pretrain.pretrain",
    "qa_gen": "dalm.datasets.qa_gen.question_answer_generation",
    "reading_comprehension": ("dalm.datasets.reading_comprehension.make_reading_comprehension"),
    "train_generator_only": "dalm.training.generator_only.train_generator_only",
    "train_rag_e2e": "dalm.training.rag_e2e.train_rage2e",
    "train_retriever_only": "dalm.training.retriever_only.train_retriever_only",
}


def __getattr__(name: str) -> Any:
    """Import a public name when it is first asked for (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOMES[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
