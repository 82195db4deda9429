"""Options of every command, declared once: a command line, YAML or Python in, one dataclass out.

A class is a panel of the help: its fields are the options, the line below a field is its help.
A command's options are a class that inherits the panels it needs, so that they are flat on the
command line, in a YAML config, and in Python: `RagE2E(output_dir="out", learning_rate=2e-5)`.
Standard library and cyclopts only: `dalm --help` imports nothing heavier.
"""

from dalm.config.data import MineNegatives, Passages, QaGen, ReadingComprehension
from dalm.config.evaluation import CompareRuns, EvalRag, EvalRetriever
from dalm.config.generator_training import GeneratorOnly, Merge, Pretraining
from dalm.config.options import check, check_output_dir, public
from dalm.config.shared import (
    Columns,
    GeneratorLength,
    Machine,
    NegativesColumn,
    PairColumns,
    Prompt,
    RetrieverKind,
    RetrieverLengths,
    VectorCache,
)
from dalm.config.training import (
    Contrast,
    Demo,
    Lora,
    Optimisation,
    Part,
    RagE2E,
    RetrieverOnly,
    Run,
    Training,
)

COMMAND_OPTIONS = (
    "CompareRuns",
    "Demo",
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
)
"""The classes that hold all options of a command; `dalm` offers them too."""

__all__ = [
    "COMMAND_OPTIONS",
    "Columns",
    "CompareRuns",
    "Contrast",
    "Demo",
    "EvalRag",
    "EvalRetriever",
    "GeneratorLength",
    "GeneratorOnly",
    "Lora",
    "Machine",
    "Merge",
    "MineNegatives",
    "NegativesColumn",
    "Optimisation",
    "PairColumns",
    "Part",
    "Passages",
    "Pretraining",
    "Prompt",
    "QaGen",
    "RagE2E",
    "ReadingComprehension",
    "RetrieverKind",
    "RetrieverLengths",
    "RetrieverOnly",
    "Run",
    "Training",
    "VectorCache",
    "check",
    "check_output_dir",
    "public",
]
