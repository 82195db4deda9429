"""Read the texts for pretraining, hold some out for evaluation, and tokenise and pack them."""

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from dalm.config import Pretraining
from dalm.distributed import world_size
from dalm.errors import UserError
from dalm.ingest.texts import hold_out, read_texts
from dalm.models.generator import Generator
from dalm.models.prompt_frame import leading_token
from dalm.progress import track
from dalm.records import Passage
from dalm.training.data.packing import PackedRows, replayed

logger = logging.getLogger(__name__)

CHUNK = 256
"""Texts that are tokenised at once."""


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


def documents(generator: Generator, texts: Sequence[str], *, ends: bool) -> list[np.ndarray]:
    """Return each text in tokens after a start token; with `ends`, followed by an end token.

    The start is BOS where the tokenizer adds it, else EOS, which separated documents when the model
    was first trained. So a text's first token has something to be predicted from.
    """
    tokenizer = generator.tokenizer
    end = tokenizer.eos_token_id
    end = generator.frame.end if end is None else end
    bos = leading_token(tokenizer)
    start = end if bos is None else bos
    last = [end] if ends else []
    found: list[np.ndarray] = []
    chunks = (list(texts[first : first + CHUNK]) for first in range(0, len(texts), CHUNK))
    for chunk in track(chunks, len(texts), "reading tokens", "texts", len):
        for ids in generator.text_tokenizer.arrays(chunk):
            found.append(np.concatenate([[start], ids, last], dtype=np.int32, casting="unsafe"))
    return found


def training_rows(generator: Generator, corpus: Corpus, settings: Pretraining) -> PackedRows:
    """Return the domain's texts packed into rows, mixed with `replay_ratio` of general ones.

    The ratio is of scored tokens and exact to the token: the last general text is cut.
    """
    found = documents(generator, corpus.domain, ends=True)
    ratio = settings.replay_ratio
    if corpus.general and ratio:
        replay = documents(generator, corpus.general, ends=True)
        tokens = round(_scored(found) * ratio / (1 - ratio))
        logger.info("replay     %s tokens out of %s", f"{tokens:,}", f"{_scored(replay):,}")
        found += replayed(replay, tokens, settings.seed)
    return PackedRows(
        found,
        settings.sequence_length,
        pad_token=generator.pad_token,
        ranks=world_size(),
    )


def _scored(found: Sequence[np.ndarray]) -> int:
    return sum(len(document) - 1 for document in found)
