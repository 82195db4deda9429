"""Group the settings of published training methods into presets, with their sources."""

from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any, Literal, TypeVar

T = TypeVar("T")

Preset = Literal["dalm", "rag-end2end", "atlas", "replug", "ra-dit", "independent", "two-phase"]

PRESETS: Mapping[str, Mapping[str, Any]] = {
    # The original toolkit's loss: contrast, and supervised tuning on the gold passage.
    "dalm": {"objective": "dalm", "candidates": "in-batch"},
    # Siriwardhana et al. 2023, TACL (arXiv:2210.02627): an index, both encoders, statements.
    "rag-end2end": {
        "objective": "rag_token",
        "candidates": "index",
        "num_candidates": 5,
        "train_encoders": "both",
        "contrastive_weight": 0.0,
        "reconstruction_weight": 1.0,
    },
    # Izacard et al. 2022 (arXiv:2208.03299): perplexity distillation, a reader of many passages.
    "atlas": {
        "objective": "pdist",
        "candidates": "index",
        "num_candidates": 8,
        "reader_passages": 4,
        "contrastive_weight": 0.0,
    },
    # Shi et al. 2023 (arXiv:2301.12652): the language model scores passages and is frozen.
    "replug": {
        "objective": "lsr",
        "candidates": "index",
        "num_candidates": 8,
        "target_temperature": 0.1,
        "marginal_temperature": 0.1,
        "train_generator": False,
        "contrastive_weight": 0.0,
    },
    # Lin et al. 2023 (arXiv:2310.01352): both tuned, of the retriever only the query encoder.
    "ra-dit": {
        "objective": "lsr",
        "candidates": "index",
        "num_candidates": 8,
        "train_encoders": "query",
        "contrastive_weight": 0.0,
    },
    # No link between the two: contrast, and supervised tuning on the gold passage.
    "independent": {"objective": "rag_token", "num_candidates": 1},
    # The generator is warmed up with a frozen retriever first.
    "two-phase": {"objective": "rag_token", "reader_warmup": 0.3},
}


def defaults_from(
    choose: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Callable[[type[T]], type[T]]:
    """Let given options choose the defaults of others in a dataclass; what is given wins."""

    def wrap(cls: type[T]) -> type[T]:
        plain = cls.__init__

        @wraps(plain)
        def init(self: T, **given: Any) -> None:
            plain(self, **{**choose(given), **given})

        cls.__init__ = init  # type: ignore[assignment, method-assign]
        return cls

    return wrap


def preset_defaults(given: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings of the preset that is given, if any."""
    return PRESETS.get(given.get("preset") or "", {})
