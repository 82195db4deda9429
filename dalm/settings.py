"""Every option of every command, declared once.

A class is a panel of the help: its fields are the options, the line below a field is its help.
A command's options are a class that inherits the panels it needs, so that they are flat on the
command line, in a YAML config, and in Python: `RagEndToEnd(output_dir="out", learning_rate=2e-5)`.
Standard library and cyclopts only: `dalm --help` imports nothing heavier.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, TypeVar

from cyclopts import Parameter

T = TypeVar("T")


def panel(title: str) -> Callable[[type[T]], type[T]]:
    """Group the options of a class under `title` in the help."""

    def group(cls: type[T]) -> type[T]:
        hints = cls.__annotations__
        hints.update({name: Annotated[hint, Parameter(group=title)] for name, hint in hints.items()})
        return cls

    return group


@panel("Columns")
@dataclass(frozen=True, kw_only=True)
class Columns:
    """Names of a table's columns."""

    passage_column: Annotated[str, Parameter(alias="--dataset-passage-col-name")] = "Passage"
    """Column with the passage; `Abstract` and `Context` are recognised when it is missing."""
    query_column: Annotated[str, Parameter(alias="--dataset-query-col-name")] = "Query"
    """Column with the question; `Question` is recognised when it is missing."""
    answer_column: Annotated[str, Parameter(alias="--dataset-answer-col-name")] = "Answer"
    """Column with the answer."""
    title_column: str = "Title"
    """Column with the document's title; used if it is there."""
    prepend_title: bool = False
    """Put the title before the passage's text, for the retriever and the generator alike."""
