"""Read the texts for pretraining, and hold some out for evaluation.

Nothing here imports torch, so that texts are refused before the seconds that it takes.
"""

import logging
from dataclasses import dataclass
from functools import partial

from dalm.config import Pretraining
from dalm.errors import UserError
from dalm.ingest.texts import hold_out, read_texts
from dalm.records import Passage

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Corpus:
    """Hold texts to train on and texts to evaluate on; no text is both."""

    domain: list[str]
    general: list[str]
    held_out_domain: list[str]
    held_out_general: list[str]

    def trained(self, ratio: float) -> list[str]:
        """Return the texts to train on, general ones included if any are replayed."""
        return [*self.domain, *(self.general if ratio else [])]


def read_corpus(source: str, settings: Pretraining) -> Corpus:
    """Read the texts, and hold some of them out.

    Raises:
        UserError: nothing to read, nothing to hold out, or nothing left to train on.
    """
    domain, held_out = _read(source, settings, settings.held_out)
    general: list[Passage] = []
    held_out_general: list[Passage] = []
    if settings.replay is not None:
        general, held_out_general = _read(settings.replay, settings, None)
    held = {text.id for text in (*held_out, *held_out_general)}
    return Corpus(
        _without(held, domain, source),
        _without(held, general, settings.replay),
        [text.text for text in held_out],
        [text.text for text in held_out_general],
    )


def _without(held: set[str], texts: list[Passage], name: str | None) -> list[str]:
    """Drop the held-out texts from the training texts, whichever source they are in."""
    left = [text.text for text in texts if text.id not in held]
    if len(left) < len(texts):
        logger.info("texts      %d of %s are held out for evaluation", len(texts) - len(left), name)
    if texts and not left:
        raise UserError(f"every text of {name} is held out; name others with --held-out")
    return left


def _read(
    source: str, settings: Pretraining, held_out: str | None
) -> tuple[list[Passage], list[Passage]]:
    read = partial(
        read_texts,
        text_column=settings.text_column,
        title_column=settings.title_column,
        encoding=settings.encoding,
        html=settings.html,
    )
    texts = read(source)
    if held_out is not None:
        return texts, read(held_out)
    return hold_out(texts, settings.held_out_share, settings.held_out_bytes, settings.seed)
