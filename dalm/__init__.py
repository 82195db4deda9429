"""DALM: adapt retrieval-augmented generation to a domain."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalm.eval.eval_rag import eval_rag
    from dalm.eval.eval_retriever_only import eval_retriever
    from dalm.settings import EvalRag, EvalRetriever, RagE2E, RetrieverOnly
    from dalm.training.rag_e2e.train_rage2e import train_rag_e2e
    from dalm.training.retriever_only.train_retriever_only import train_retriever_only

__version__ = "0.1.0"

__all__ = [
    "EvalRag",
    "EvalRetriever",
    "RagE2E",
    "RetrieverOnly",
    "__version__",
    "eval_rag",
    "eval_retriever",
    "train_rag_e2e",
    "train_retriever_only",
]

_HOMES = {
    "EvalRag": "dalm.settings",
    "EvalRetriever": "dalm.settings",
    "RagE2E": "dalm.settings",
    "RetrieverOnly": "dalm.settings",
    "eval_rag": "dalm.eval.eval_rag",
    "eval_retriever": "dalm.eval.eval_retriever_only",
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
