"""Tokenise the texts for pretraining, and pack them into rows."""

import logging
from collections.abc import Sequence

import numpy as np

from dalm.config import Pretraining
from dalm.distributed import world_size
from dalm.models.generator import Generator
from dalm.models.prompt_frame import leading_token
from dalm.progress import track
from dalm.training.data.packing import PackedRows, replayed
from dalm.training.data.pretraining_texts import Corpus

logger = logging.getLogger(__name__)

CHUNK = 256
"""Texts that are tokenised at once."""


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
