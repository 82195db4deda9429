"""Declare the options of every command once, for the command line, YAML files and Python.

A class is a panel of the help, a field is an option, and the string below a field is its help. The
options of a command are a class that inherits the panels it needs, so that they are flat on the
command line, in a YAML file and in Python: `RagE2E(output_dir="out", learning_rate=2e-5)`.
Imports the standard library and cyclopts only, so that `dalm --help` starts quickly.
"""

from dalm.config.adaptation import Adapt
from dalm.config.data import MineNegatives, Passages, ReadingComprehension
from dalm.config.evaluation import CompareRuns, EvalRag, EvalRetriever
from dalm.config.feedback_export import FeedbackExport
from dalm.config.generator_training import GeneratorOnly, Merge, Pretraining
from dalm.config.joint_training import RagE2E
from dalm.config.options import check, public
from dalm.config.questions import QaGen
from dalm.config.reranker_training import RerankerTraining
from dalm.config.retriever_training import RetrieverOnly
from dalm.config.serving import Ask, Export, Index, Search, Serve
from dalm.config.shared import (
    Columns,
    GeneratorLength,
    NegativesColumn,
    PairColumns,
    RetrieverLengths,
)
from dalm.config.teachers import ScoreCandidates
from dalm.config.training import (
    Demo,
    Optimisation,
    Run,
    Training,
)

COMMAND_OPTIONS = (
    "Adapt",
    "Ask",
    "CompareRuns",
    "Demo",
    "EvalRag",
    "EvalRetriever",
    "Export",
    "FeedbackExport",
    "GeneratorOnly",
    "Index",
    "Merge",
    "MineNegatives",
    "Passages",
    "Pretraining",
    "QaGen",
    "RagE2E",
    "ReadingComprehension",
    "RerankerTraining",
    "RetrieverOnly",
    "ScoreCandidates",
    "Search",
    "Serve",
)
"""The options classes of the commands, which `dalm` exports as well."""

__all__ = [
    "COMMAND_OPTIONS",
    "Adapt",
    "Ask",
    "Columns",
    "CompareRuns",
    "Demo",
    "EvalRag",
    "EvalRetriever",
    "Export",
    "FeedbackExport",
    "GeneratorLength",
    "GeneratorOnly",
    "Index",
    "Merge",
    "MineNegatives",
    "NegativesColumn",
    "Optimisation",
    "PairColumns",
    "Passages",
    "Pretraining",
    "QaGen",
    "RagE2E",
    "ReadingComprehension",
    "RerankerTraining",
    "RetrieverLengths",
    "RetrieverOnly",
    "Run",
    "ScoreCandidates",
    "Search",
    "Serve",
    "Training",
    "check",
    "public",
]
