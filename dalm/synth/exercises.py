"""Mine reading comprehension exercises from a passage's own sentences.

Connectives tell how two statements are related, after the kinds of task of Cheng et al., 2023
(arXiv:2309.09530, table 2). They are English: of other texts only the title, a completion and
sentences from words are asked. Words that a general vocabulary lacks are the domain's.
"""

import itertools
import logging
import re
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, get_args

from dalm.errors import UserError, reason_of
from dalm.file_reading import user_path
from dalm.ingest.languages import is_english
from dalm.ingest.sentence_boundaries import sentence_starts
from dalm.ingest.words import split_words
from dalm.records import Passage
from dalm.synth.noun_phrases import BACK_REFERENCE
from dalm.synth.question_forms import CAUSAL
from dalm.synth.question_texts import ENGLISH_END, is_whole

logger = logging.getLogger(__name__)

Kind = Literal[
    "title",
    "completion",
    "entailment",
    "contradiction",
    "neutral",
    "cause",
    "effect",
    "paraphrase",
    "difference",
    "definition",
    "word-to-text",
    "question",
]
KINDS: tuple[Kind, ...] = get_args(Kind)
MIN_WORDS, MAX_WORDS = 4, 60  # of a statement that is worth asking about
MIN_DOMAIN_WORDS = 3  # in a sentence to be written from them
MIN_LETTERS = 5  # of a domain word
MIN_PASSAGES = 3  # that hold a domain word


@dataclass(frozen=True, slots=True)
class Exercise:
    """A kind of task, and the two texts that its template puts into a question and an answer."""

    kind: Kind
    given: str
    wanted: str


# Openings that say how a sentence is related to the one before it.
_LINKING: tuple[tuple[Kind, str], ...] = (
    (
        "entailment",
        r"Therefore|Thus|Hence|Accordingly|It follows that|This (?:shows|means) that",
    ),
    ("contradiction", r"However|On the contrary|Nevertheless|Nonetheless|Yet|Conversely"),
    ("neutral", r"Moreover|Furthermore|Additionally|In addition"),
    ("effect", r"As a (?:result|consequence)|Consequently|For (?:this|that) reason"),
    ("paraphrase", r"In other words|That is(?: to say)?(?=,)|Put differently|To put it simply"),
    ("difference", r"In contrast|By contrast|On the other hand|Unlike this"),
)
LINKS = tuple(
    (kind, re.compile(rf"(?:{words}),?\s+(?P<rest>.+)", re.DOTALL)) for kind, words in _LINKING
)
# Relations within a sentence.
CAUSES = re.compile(rf"(?P<effect>.+?),?\s+{CAUSAL}\s+(?P<cause>.+)", re.DOTALL)
EFFECTS = re.compile(
    r"(?P<cause>.+?)\s+(?:(?:can|may|might|could|will|would|often|usually|also)\s+)*"
    r"(?:leads? to|results? in|gives? rise to|brings? about)\s+(?P<effect>.+)",
    re.DOTALL,
)
DEFINITION = re.compile(
    r"(?P<term>(?:An?\s+|The\s+)?[\w-]+(?:\s+[\w-]+){0,3}(?:\s+\([^)]{1,40}\))?)\s+"
    r"(?:is|are)\s+(?:defined\s+as|an?\s+(?:type|kind|form|group|class)\s+of|known\s+as|called)\s+"
    r"(?P<rest>.+)",
    re.DOTALL,
)
REFERS = re.compile(
    r"[\"“]?(?P<term>[\w-]+(?:\s+[\w-]+){0,3})[\"”]?\s+refers?\s+to\s+.+", re.DOTALL
)
HANGING = re.compile(r"\b(?:which|that|who|and|or|to|not|only|mostly|mainly)$")


def sentences_of(text: str) -> list[str]:
    """Return a text's sentences, white space as single blanks."""
    cuts = [0, *sentence_starts(text), len(text)]
    found = (" ".join(text[a:b].split()) for a, b in itertools.pairwise(cuts))
    return [sentence for sentence in found if sentence]


def mine(passage: Passage, domain: Collection[str]) -> list[Exercise]:
    """Return all exercises that a passage's sentences give, by kind, except the completion."""
    sentences = sentences_of(passage.text)
    found = [Exercise("title", "", passage.title)] if passage.title else []
    if is_english(passage.text):
        for miner in (_linked, _causes, _definitions):
            found += miner(sentences)
    found += _from_words(sentences, domain)
    return found


def split_for_completion(text: str) -> tuple[str, str] | None:
    """Return a text's beginning and end, split between the sentences nearest the middle."""
    starts = [at for at in sentence_starts(text) if 0 < at < len(text)]
    if not starts:
        return None
    cut = min(starts, key=lambda at: abs(2 * at - len(text)))
    beginning, end = text[:cut].rstrip(), text[cut:].strip()
    enough = all(len(split_words(part)) >= 2 * MIN_WORDS for part in (beginning, end))
    return (beginning, end) if enough else None


def _linked(sentences: Sequence[str]) -> Iterator[Exercise]:
    for before, sentence in itertools.pairwise(sentences):
        for kind, pattern in LINKS:
            match = pattern.fullmatch(sentence)
            if match and _whole(before) and _whole(sentence) and _fit(match["rest"]):
                yield Exercise(kind, before, _capital(match["rest"]))


def _causes(sentences: Sequence[str]) -> Iterator[Exercise]:
    for sentence in sentences:
        kinds: tuple[tuple[Kind, re.Pattern[str], str, str], ...] = (
            ("cause", CAUSES, "effect", "cause"),
            ("effect", EFFECTS, "cause", "effect"),
        )
        for kind, pattern, given, wanted in kinds:
            match = pattern.fullmatch(sentence)
            if not match or BACK_REFERENCE.match(match[given]) or not _whole(sentence):
                continue
            if HANGING.search(match[given]):
                continue
            if _fit(match[given]) and _fit(match[wanted], 2):
                yield Exercise(kind, _as_sentence(match[given]), _as_sentence(match[wanted]))


def _definitions(sentences: Sequence[str]) -> Iterator[Exercise]:
    for sentence in sentences:
        match = DEFINITION.fullmatch(sentence) or REFERS.fullmatch(sentence)
        if match and _whole(sentence) and not BACK_REFERENCE.match(match["term"]):
            term = re.sub(r"^(?:An?|The)\s+", "", match["term"])
            yield Exercise("definition", term, sentence)


def _from_words(sentences: Sequence[str], domain: Collection[str]) -> Iterator[Exercise]:
    """Yield sentences with three and more words of the domain's vocabulary."""
    if not domain:
        return
    for sentence in sentences:
        words = dict.fromkeys(word for word in plain_words(sentence) if word in domain)
        if len(words) >= MIN_DOMAIN_WORDS and _whole(sentence):
            yield Exercise("word-to-text", ", ".join(words), sentence)


def plain_words(text: str) -> list[str]:
    """Return the words of letters and hyphens, in lower case."""
    return [word.lower() for word in re.findall(r"[^\W\d_]+(?:-[^\W\d_]+)*", text)]


def _fit(text: str, fewest: int = MIN_WORDS) -> bool:
    return fewest <= len(text.split()) <= MAX_WORDS


def _whole(sentence: str) -> bool:
    return _fit(sentence) and is_whole(sentence, ENGLISH_END)


def _capital(text: str) -> str:
    return text[:1].upper() + text[1:]


def _as_sentence(text: str) -> str:
    """Return part of a sentence as a sentence."""
    text = _capital(text.strip(" ,;"))
    return text if text.endswith((".", "!", "?")) else f"{text}."


def domain_vocabulary(
    source: str | None, passages: Sequence[Passage], *, trust_remote_code: bool = False
) -> frozenset[str]:
    """Return the words of five letters and more, of three passages and more, that `source` lacks.

    None without a general vocabulary. Cheng et al., 2023, compare the vocabulary of a tokenizer
    trained on the domain with that of the general model: a word that the general one has no token
    for is the domain's own.

    Raises:
        UserError: `source` is neither a file nor a tokenizer.
    """
    if source is None:
        logger.info("vocabulary none to compare with: no sentences from words of the domain")
        return frozenset()
    general = _general_words(source, trust_remote_code)
    counts = Counter(word for each in passages for word in set(plain_words(each.text)))
    found = frozenset(
        word
        for word, count in counts.items()
        if count >= MIN_PASSAGES and len(word) >= MIN_LETTERS and word not in general
    )
    logger.info("vocabulary %d words that %s lacks", len(found), source)
    return found


def _general_words(source: str, trust_remote_code: bool) -> frozenset[str]:
    """Read a text file's words, or those that a tokenizer of this name has a token for.

    Raises:
        UserError: neither a file nor a tokenizer.
    """
    path = user_path(source)
    if path.is_file():
        try:
            return frozenset(plain_words(path.read_text(encoding="utf-8")))
        except (OSError, UnicodeDecodeError) as error:
            raise UserError(f"--general-vocabulary {source}: no text in UTF-8 ({error})") from error
    from transformers import AutoTokenizer

    try:
        tokenizer = AutoTokenizer.from_pretrained(source, trust_remote_code=trust_remote_code)
        tokens = tokenizer.get_vocab()
    except Exception as error:  # network, name, a broken folder …
        if "trust_remote_code" in str(error):
            raise UserError(
                f"--general-vocabulary {source} brings code of its own, which isn't run unless "
                "you ask for it: read it, then add --trust-remote-code"
            ) from error
        raise UserError(
            f"--general-vocabulary {source} could not be loaded: {reason_of(error)}; name a "
            "file of words, or a tokenizer by folder or hub name"
        ) from error
    # A piece that only continues words (##ing) is no word.
    whole = (token.lstrip("Ġ▁ ").lower() for token in tokens if not token.startswith("##"))
    return frozenset(word for word in whole if word)
