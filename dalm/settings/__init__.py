"""Options of every command, declared once: a command line, YAML or Python in, one dataclass out.

A class is a panel of the help: its fields are the options, the line below a field is its help.
A command's options are a class that inherits the panels it needs, so that they are flat on the
command line, in a YAML config, and in Python: `RagE2E(output_dir="out", learning_rate=2e-5)`.
Standard library and cyclopts only: `dalm --help` imports nothing heavier.
"""

from dalm.settings.checks import check, check_output_dir, public
from dalm.settings.evaluation import CompareRuns, EvalRag, EvalRetriever
from dalm.settings.generator_only import GeneratorOnly
from dalm.settings.merging import Merge
from dalm.settings.mining import MineNegatives
from dalm.settings.passages import Passages
from dalm.settings.pretraining import Pretraining
from dalm.settings.qa_gen import QaGen
from dalm.settings.reading_comprehension import ReadingComprehension
from dalm.settings.shared import (
    Columns,
    GeneratorLength,
    Machine,
    NegativesColumn,
    PairColumns,
    RetrieverKind,
    RetrieverLengths,
    VectorCache,
)
from dalm.settings.training import (
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

__all__ = [
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
