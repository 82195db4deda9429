"""Options of the supervised tuning of a generator on passages and questions."""

from dataclasses import dataclass
from typing import Annotated, ClassVar

from cyclopts import Parameter

from dalm.settings.declaring import option, panel
from dalm.settings.shared import Columns, GeneratorLength
from dalm.settings.training import Training

SEARCHES = {"retriever_name_or_path": None}
"""What brings passages that were found."""


@panel("Reading")
@dataclass(frozen=True, kw_only=True)
class Reading:
    """What stands in the prompts."""

    reader_passages: int | None = option(None, least=1)
    """Passages in a prompt, in random order: the gold one and distractors. By default 4 with a
    retriever, else 1."""
    gold_probability: float | None = option(None, least=0, most=1)
    """Share of the rows whose gold passage is in the prompt, drawn anew in every epoch; the others
    have distractors alone. By default 0.8 with a retriever, else 1."""


@panel("Retriever")
@dataclass(frozen=True, kw_only=True)
class FoundDistractors:
    """What finds the distractors; without a retriever they are drawn from the table."""

    retriever_name_or_path: str | None = None
    """Embedding model whose best passages are the distractors, found once before the training."""
    passages: Annotated[list[str] | None, Parameter(consume_multiple=True, negative=())] = option(
        None, needs=SEARCHES
    )
    """More tables of passages to search besides the dataset's own: a whole knowledge base."""
    query_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Longest query, in the retriever's tokens; by default as it was trained, else 50."""
    passage_max_len: int | None = option(None, least=4, needs=SEARCHES)
    """Longest passage, in the retriever's tokens; by default as it was trained, else 128."""
    query_prompt: str | None = option(None, needs=SEARCHES)
    """Text before every query; by default the model's own, or what its family was trained with."""
    passage_prompt: str | None = option(None, needs=SEARCHES)
    """Text before every passage; likewise."""
    cache: bool = option(True, needs=SEARCHES)
    """--no-cache: encode all passages, also when a run goes on, and keep nothing."""
    cache_dir: str | None = option(None, needs=SEARCHES)
    """Folder for the passages' vectors; by default in the user's cache."""


@dataclass(frozen=True, kw_only=True)
class GeneratorOnly(FoundDistractors, Reading, Columns, GeneratorLength, Training):
    """Options of `dalm train-generator-only`."""

    command: ClassVar[str] = "train-generator-only"

    per_device_train_batch_size: Annotated[
        int, Parameter(alias="--batch-size", group="Optimisation")
    ] = option(32, least=1)
    """Questions per batch and device."""
    gradient_accumulation_steps: Annotated[int, Parameter(group="Optimisation")] = option(
        1, least=1
    )
    """Batches per update."""
    use_peft: Annotated[bool, Parameter(group="LoRA")] = False
    """Train LoRA adapters on frozen weights."""
    use_bnb: Annotated[bool, Parameter(group="LoRA")] = False
    """Hold the frozen weights in 4 bits; needs --use-peft, an NVIDIA GPU and bitsandbytes."""

    def reads(self) -> int:
        """Return the number of passages in a prompt."""
        return self.reader_passages or (4 if self.retriever_name_or_path else 1)

    def gold_share(self) -> float:
        """Return the share of the rows whose gold passage is in the prompt."""
        if self.gold_probability is not None:
            return self.gold_probability
        return 0.8 if self.retriever_name_or_path else 1.0
