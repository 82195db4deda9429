"""A domain's own words: passages and a general vocabulary in, the words that it lacks out."""

from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from dalm.errors import UserError
from dalm.synth.exercises import plain_words

SHORTEST = 5  # letters
PASSAGES = 3  # that hold the word
MARKS = "Ġ▁ "


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
        if count >= PASSAGES and len(word) >= SHORTEST and word not in general
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
    whole = (token.lstrip(MARKS).lower() for token in tokens if not token.startswith("##"))
    return frozenset(word for word in whole if word)
