"""Find a domain's own words: those that its passages have and a general vocabulary lacks."""

import logging
from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from dalm.errors import UserError
from dalm.records import Passage
from dalm.synth.exercises import plain_words

logger = logging.getLogger(__name__)

MIN_LETTERS = 5
MIN_PASSAGES = 3  # that hold the word
WORD_MARKS = "Ġ▁ "


def domain_vocabulary(source: str | None, passages: Sequence[Passage]) -> frozenset[str]:
    """Return the passages' own words that a general vocabulary lacks; none without one.

    Raises:
        UserError: `source` is neither a file nor a tokenizer.
    """
    if source is None:
        logger.info("vocabulary none to compare with: no sentences from words of the domain")
        return frozenset()
    found = domain_words((passage.text for passage in passages), general_words(source))
    logger.info("vocabulary %d words that %s lacks", len(found), source)
    return found


def domain_words(texts: Iterable[str], general: frozenset[str]) -> frozenset[str]:
    """Return the words of five letters and more, of three passages and more, that `general` lacks.

    Cheng et al., 2023, compare the vocabulary of a tokenizer trained on the domain with that of
    the general model: a word that the general one has no token for is the domain's own.
    """
    counts: Counter[str] = Counter()
    for text in texts:
        counts.update(set(plain_words(text)))
    return frozenset(
        word
        for word, count in counts.items()
        if count >= MIN_PASSAGES and len(word) >= MIN_LETTERS and word not in general
    )


def general_words(source: str) -> frozenset[str]:
    """Read a text file's words, or those that a tokenizer of this name has a token for.

    Raises:
        UserError: neither a file nor a tokenizer.
    """
    path = Path(source).expanduser()
    if path.is_file():
        try:
            return frozenset(plain_words(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--general-vocabulary {source}: no text in UTF-8 ({error})") from error
    from transformers import AutoTokenizer

    try:
        tokens = AutoTokenizer.from_pretrained(source).get_vocab()
    except Exception as error:  # network, name, a broken folder …
        reason = " ".join(str(error).split())[:200]
        raise UserError(
            f"--general-vocabulary {source} could not be loaded: {reason}; name a file of words, "
            "or a tokenizer by folder or hub name"
        ) from error
    # A piece that only continues words (##ing) is no word.
    whole = (token.lstrip(WORD_MARKS).lower() for token in tokens if not token.startswith("##"))
    return frozenset(word for word in whole if word)
