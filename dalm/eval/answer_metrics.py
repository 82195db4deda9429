"""Compute metrics of one answer: against references, by passages, abstention, citations.

Exact match and token F1 are those of SQuAD's official script: Rajpurkar et al., 2016
(arXiv:1606.05250) and 2018 (1806.03822), with the second's rule for empty answers. With several
references the best one counts. `dalm.eval.metrics` lists the metrics.

In scripts without blanks between words a token is a character, as in the official scripts of
CMRC 2018 (Cui et al., 2019, arXiv:1810.07366) and MLQA (Lewis et al., 2020, arXiv:1910.07475) for
Chinese and in JaQuAD (So et al., 2022, arXiv:2202.01764) for Japanese; in Thai, Lao, Burmese and
Khmer one with its vowel signs and tone marks. Words in other scripts beside them stay words.
"""

import re
import string
import unicodedata
from collections import Counter
from collections.abc import Callable, Sequence

from dalm.analyser import CHARACTER, UNSPACED, WORD
from dalm.rag.citations import cited
from dalm.records import Hit

PUNCTUATION = str.maketrans("", "", string.punctuation)  # ASCII only, as in the official script
ARTICLES = re.compile(r"\b(a|an|the)\b")
_UNSPACED_TEXT = re.compile(rf"[{UNSPACED}\u3000-\u303f\uff00-\uffef]")  # or full-width signs
_TOKEN = re.compile(rf"{CHARACTER}|[^\s{UNSPACED}]+")
ABSTENTION = re.compile(
    r"\b(do(es)? not|don[’']?t|doesn[’']?t|did not|didn[’']?t|is not|isn[’']?t|are not|aren[’']?t"
    r"|cannot|can not|can[’']?t|could not|couldn[’']?t) "
    r"(know|say|tell|answer|contain|provide|mention|state|specify|give|enough|be (answered"
    r"|determined|found)|mentioned|stated|specified|provided|given|found|included)\b"
    r"|\b(un|not )answerable\b|\bno (answer|information|mention)\b|\bunknown\b"
    r"|\binsufficient (information|context)\b|\bunable to (answer|find|determine)\b",
    re.IGNORECASE,
)
"""Phrases with which models decline to answer; English."""
LONGEST_ABSTENTION = 40
"""Maximum number of words of an abstention: a longer answer has some content."""


def normalise_answer(text: str) -> str:
    """Return the text in lower case, without punctuation, articles and superfluous white space.

    With a letter of a script without blanks, or a full-width sign, its tokens are joined by blanks,
    after NFKC and without any of Unicode's punctuation: `北京。` and `北 京` are both `北 京`.
    """
    if text.isascii() or not _UNSPACED_TEXT.search(text):
        return " ".join(ARTICLES.sub(" ", text.lower().translate(PUNCTUATION)).split())
    plain = unicodedata.normalize("NFKC", text).lower().translate(PUNCTUATION)
    kept = "".join(filter(_is_no_punctuation, plain))
    return " ".join(_TOKEN.findall(ARTICLES.sub(" ", kept)))


def _is_no_punctuation(character: str) -> bool:
    """Return whether a character counts; the zero-width ones between words of Thai don't, too."""
    category = unicodedata.category(character)
    return category[0] != "P" and category != "Cf"


def exact_match(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the prediction equals a reference, both normalised, else 0."""
    return _best(lambda mine, gold: float(mine == gold), prediction, references)


def token_f1(prediction: str, references: Sequence[str]) -> float:
    """Return F1 = 2PR / (P + R) over the normalised tokens, each counted as often as it occurs.

    If either side has no token left, 1 if both have none, else 0.
    """
    return _best(_f1, prediction, references)


def containment(prediction: str, references: Sequence[str]) -> float:
    """Return 1 if the normalised prediction contains a normalised reference, else 0.

    Whole tokens are compared: `start` doesn't contain `art`. Only an empty prediction contains an
    empty reference.
    """
    return _best(_contains, prediction, references)


def rouge_l(prediction: str, references: Sequence[str]) -> float:
    """Return ROUGE-L: F1 of the longest common subsequence of words, in lower case, unstemmed.

    Words are runs of letters and digits, or characters in scripts without blanks.

    F = 2 LCS / (words of the prediction + words of the reference). Lin, 2004, ACL W04-1013, at
    β = 1. If either side has no word, 1 if both have none, else 0.
    """
    return max(_rouge_l(prediction, each) for each in _several(references))


def grounding(prediction: str, passages: Sequence[str]) -> float | None:
    """Return the fraction of the answer's words that occur in the passages; None without words.

    Normalised as for exact match. It shows where an answer's words come from, not whether it is
    right.
    """
    words = normalise_answer(prediction).split()
    known = set(normalise_answer(" ".join(passages)).split())
    return sum(word in known for word in words) / len(words) if words else None


def abstains(prediction: str) -> bool:
    """Return whether an answer is empty or declines to answer."""
    words = prediction.split()
    return not words or (
        len(words) <= LONGEST_ABSTENTION and ABSTENTION.search(" ".join(words)) is not None
    )


def _best(
    measure: Callable[[str, str], float], prediction: str, references: Sequence[str]
) -> float:
    references = _several(references)
    if not prediction.strip() and all(each.strip() for each in references):
        return 0.0  # SQuAD's rules make nothing of the answer `A`, and nothing equals it
    mine = normalise_answer(prediction)
    return max(measure(mine, normalise_answer(each)) for each in references)


def _several(references: Sequence[str]) -> Sequence[str]:
    if isinstance(references, str) or not references:
        raise ValueError(f"an answer needs a list of one reference or more, not {references!r}")
    return references


def _f1(mine: str, gold: str) -> float:
    predicted, expected = mine.split(), gold.split()
    if not predicted or not expected:
        return float(predicted == expected)
    shared = (Counter(predicted) & Counter(expected)).total()
    return 2 * shared / (len(predicted) + len(expected))


def _contains(mine: str, gold: str) -> float:
    return float(f" {gold} " in f" {mine} " if gold else not mine)


def _rouge_l(prediction: str, reference: str) -> float:
    mine, gold = _words(prediction), _words(reference)
    if not mine or not gold:
        return float(mine == gold)
    return 2 * _common(mine, gold) / (len(mine) + len(gold))


def _words(text: str) -> list[str]:
    if _UNSPACED_TEXT.search(text):
        text = unicodedata.normalize("NFKC", text)
    return WORD.findall(text.lower())


def _common(mine: Sequence[str], gold: Sequence[str]) -> int:
    """Return the length of the longest common subsequence, row by row of the usual table."""
    row = [0] * (len(gold) + 1)
    for word in mine:
        diagonal = 0
        for column, other in enumerate(gold, start=1):
            above = row[column]
            row[column] = diagonal + 1 if word == other else max(above, row[column - 1])
            diagonal = above
    return row[-1]


# Citations


def citation_precision(answer: str, read: Sequence[Hit], gold: Sequence[str]) -> float | None:
    """Return the fraction of the cited numbers that name a relevant passage of the prompt.

    A number counts once, and one without a passage is wrong. None if nothing is cited, or no
    passage is known to be relevant. Whether a passage supports the sentence that cites it is not
    checked.
    """
    numbers = cited(answer)
    if not numbers or not gold:
        return None
    return len(numbers & _relevant(read, gold)) / len(numbers)


def citation_recall(answer: str, read: Sequence[Hit], gold: Sequence[str]) -> float | None:
    """Return the fraction of the prompt's relevant passages that are cited; None if it has none."""
    relevant = _relevant(read, gold)
    return len(cited(answer) & relevant) / len(relevant) if relevant else None


def _relevant(read: Sequence[Hit], gold: Sequence[str]) -> set[int]:
    return {number for number, hit in enumerate(read, start=1) if hit.passage.id in set(gold)}
