"""DALM: adapt retrieval-augmented generation to a domain."""

import copy
import inspect
import os
from collections.abc import Callable
from dataclasses import fields, is_dataclass
from functools import wraps
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dalm.commands.adapt import adapt as adapt
    from dalm.commands.ask import ask as ask
    from dalm.commands.compare import compare as compare
    from dalm.commands.demo import demo as demo
    from dalm.commands.eval_rag import eval_rag as eval_rag
    from dalm.commands.eval_retriever import eval_retriever as eval_retriever
    from dalm.commands.export import export as export
    from dalm.commands.feedback import feedback as feedback
    from dalm.commands.index import index as index
    from dalm.commands.merge import merge as merge
    from dalm.commands.mine_negatives import mine_negatives as mine_negatives
    from dalm.commands.passages import passages as passages
    from dalm.commands.pretrain import pretrain as pretrain
    from dalm.commands.qa_gen import qa_gen as qa_gen
    from dalm.commands.reading_comprehension import reading_comprehension as reading_comprehension
    from dalm.commands.score_candidates import score_candidates as score_candidates
    from dalm.commands.search import search as search
    from dalm.commands.serve import serve as serve
    from dalm.commands.train_generator import train_generator_only as train_generator_only
    from dalm.commands.train_rag import train_rag_e2e as train_rag_e2e
    from dalm.commands.train_reranker import train_reranker as train_reranker
    from dalm.commands.train_retriever import train_retriever_only as train_retriever_only
    from dalm.config import Adapt as Adapt
    from dalm.config import Ask as Ask
    from dalm.config import CompareRuns as CompareRuns
    from dalm.config import Demo as Demo
    from dalm.config import EvalRag as EvalRag
    from dalm.config import EvalRetriever as EvalRetriever
    from dalm.config import Export as Export
    from dalm.config import FeedbackExport as FeedbackExport
    from dalm.config import GeneratorOnly as GeneratorOnly
    from dalm.config import Index as Index
    from dalm.config import Merge as Merge
    from dalm.config import MineNegatives as MineNegatives
    from dalm.config import Passages as Passages
    from dalm.config import Pretraining as Pretraining
    from dalm.config import QaGen as QaGen
    from dalm.config import RagE2E as RagE2E
    from dalm.config import ReadingComprehension as ReadingComprehension
    from dalm.config import RerankerTraining as RerankerTraining
    from dalm.config import RetrieverOnly as RetrieverOnly
    from dalm.config import ScoreCandidates as ScoreCandidates
    from dalm.config import Search as Search
    from dalm.config import Serve as Serve

__version__ = "0.1.0"

COMMANDS = {
    "passages": "dalm.commands.passages:passages",
    "qa-gen": "dalm.commands.qa_gen:qa_gen",
    "reading-comprehension": "dalm.commands.reading_comprehension:reading_comprehension",
    "mine-negatives": "dalm.commands.mine_negatives:mine_negatives",
    "score-candidates": "dalm.commands.score_candidates:score_candidates",
    "train-retriever-only": "dalm.commands.train_retriever:train_retriever_only",
    "train-reranker": "dalm.commands.train_reranker:train_reranker",
    "train-rag-e2e": "dalm.commands.train_rag:train_rag_e2e",
    "train-generator-only": "dalm.commands.train_generator:train_generator_only",
    "pretrain": "dalm.commands.pretrain:pretrain",
    "merge": "dalm.commands.merge:merge",
    "eval-retriever": "dalm.commands.eval_retriever:eval_retriever",
    "eval-rag": "dalm.commands.eval_rag:eval_rag",
    "compare": "dalm.commands.compare:compare",
    "index": "dalm.commands.index:index",
    "search": "dalm.commands.search:search",
    "ask": "dalm.commands.ask:ask",
    "serve": "dalm.commands.serve:serve",
    "feedback": "dalm.commands.feedback:feedback",
    "export": "dalm.commands.export:export",
    "adapt": "dalm.commands.adapt:adapt",
    "demo": "dalm.commands.demo:demo",
}
"""Every command by name, in the order of the help. The command line, the functions of this package
(`dalm.qa_gen`), the command reference and the tests are made from it."""

_FUNCTIONS = {path.partition(":")[2]: name for name, path in COMMANDS.items()}


def command(name: str) -> Callable[..., None]:
    """Return the function of a command, by its name on the command line."""
    module, _, function = COMMANDS[name].partition(":")
    found: Callable[..., None] = getattr(import_module(module), function)
    return found


def _taking_paths(function: Callable[..., None]) -> Callable[..., None]:
    """Let a command take a `Path` wherever a path is text, and one path in place of a list."""
    signature = inspect.signature(function)
    lists = {key for key, each in signature.parameters.items() if "list[str]" in str(each)}

    @wraps(function)
    def call(*arguments: object, **options: object) -> None:
        bound = signature.bind(*arguments, **options)
        for key, value in bound.arguments.items():
            plain = _without_paths(value)
            bound.arguments[key] = [plain] if key in lists and isinstance(plain, str) else plain
        function(*bound.args, **bound.kwargs)

    return call


def _without_paths(value: Any) -> Any:
    """Return a value with every `Path` in it as text; options are copied."""
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, list | tuple):
        return type(value)(map(_without_paths, value))
    if isinstance(value, dict):
        return {key: _without_paths(each) for key, each in value.items()}
    if is_dataclass(value):
        value = copy.copy(value)
        for each in fields(value):
            object.__setattr__(value, each.name, _without_paths(getattr(value, each.name)))
    return value


def __getattr__(name: str) -> Any:
    """Import a command's function, or its options' class, when it is first asked for (PEP 562)."""
    if name in _FUNCTIONS:
        return _taking_paths(command(_FUNCTIONS[name]))
    config = import_module("dalm.config")
    if name in config.COMMAND_OPTIONS:
        return getattr(config, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_FUNCTIONS, *import_module("dalm.config").COMMAND_OPTIONS})
