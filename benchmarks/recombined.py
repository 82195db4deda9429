"""Make a large collection of passages of the sentences of real ones."""

import random
import re
from collections.abc import Iterator

from passages import texts

NEAR = 0.1  # fraction of the passages that are an earlier one with some words replaced
LENGTH = 100  # words
_SENTENCE = re.compile(r"(?<=[.!?]) +")


def collection(count: int) -> list[str]:
    """Return the first `count` distinct passages of all tables; if there are fewer, made ones.

    A made passage is sentences drawn from all passages, up to 100 words, or an earlier one of
    which up to 15 words in a row are drawn anew.
    """
    real = [text for _, text in texts()]
    return real[:count] if count <= len(real) else list(_made(real, count))


def _made(real: list[str], count: int) -> Iterator[str]:
    rng = random.Random(0)
    sentences = [each for text in real for each in _SENTENCE.split(text) if each.count(" ") > 3]
    words = [word for sentence in sentences for word in sentence.split()]
    made: list[list[str]] = []
    while len(made) < count:
        if made and rng.random() < NEAR:
            one = list(rng.choice(made))
            start, changed = rng.randrange(len(one)), rng.randrange(16)
            one[start : start + changed] = rng.choices(words, k=len(one[start : start + changed]))
        else:
            one = []
            while len(one) < LENGTH:
                one += rng.choice(sentences).split()
        made.append(one[: 2 * LENGTH])
    return (" ".join(one) for one in made)
