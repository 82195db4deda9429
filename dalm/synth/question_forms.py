"""Recognise the form of English sentences, and turn them into wh-questions by it."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dalm.config.data import Kind
from dalm.ingest.words import content_words, words

ENGLISH_END = re.compile(r"[.!?][\"”’)\]]*$")
ANY_END = re.compile(r"[.!?…。！？][\"'”’»)\]」』）]*$")
"""How a sentence ends, in English and in any language."""
CAUSAL = r"(?:because(?: of)?|due to|owing to|as a result of)"
"""Words between an effect and its cause, as a part of other patterns."""

_REFERRING = "this that these those it they he she which there".split()
BACK_REFERENCE = re.compile(rf"(?:{'|'.join(_REFERRING)})\b", re.IGNORECASE)
"""A phrase that begins with such a word refers to what was said before."""
NOT_A_SUBJECT = frozenset(_REFERRING) | frozenset(
    """
    we i you here such our their his her its my your who both each some many all one other another
    as if when while although though because since after before during for in on at by with from to
    of and but or however none most figure table what how why
    """.split()
)
"""Words that begin no subject that could be asked about."""
_OPENING = re.compile(
    r"^(?:However|Moreover|Furthermore|In addition|Therefore|Thus|Hence|Also|Additionally|Finally|"
    r"Interestingly|Notably|In contrast|In particular|For example|For instance|Consequently|"
    r"Similarly|Indeed|In fact|Overall|Recently|Currently|Generally|Importantly|Specifically|"
    r"Nevertheless|Meanwhile|Accordingly|Subsequently|On the other hand|As a result),?\s+",
)


@dataclass(frozen=True, slots=True)
class Question:
    """A question with the words of the sentence that answer it; a lower rank is a better form."""

    text: str
    answer: str
    kind: Kind
    rank: int


@dataclass(frozen=True, slots=True)
class Clause:
    """A sentence as subject, verb and the rest."""

    subject: str
    verb: str
    rest: str

    @property
    def inverts(self) -> bool:
        """The verb goes before the subject in a question: is, can, had ..."""
        return self.verb.lower() in AUXILIARIES


AUXILIARIES = frozenset(
    "is are was were has have had can could may might must should will would".split()
)
VERBS = AUXILIARIES | frozenset(
    """
    causes cause caused includes include included contains contain contained consists consist
    requires require required induces induce induced leads lead led provides provide provided plays
    play played binds bind bound inhibits inhibit inhibited increases increase increased decreases
    decrease decreased reduces reduce reduced produces produce produced affects affect affected
    occurs occur occurred remains remain remained becomes become became belongs belong belonged uses
    use used allows allow allowed enables enable enabled forms form formed results result resulted
    represents represent represented encodes encode encoded infects infect infected promotes promote
    promoted prevents prevent prevented protects protect protected regulates regulate regulated
    activates activate activated mediates mediate mediated involves involve involved depends depend
    depended develops develop developed spreads spread appears appear appeared exists exist existed
    begins begin began holds hold held keeps keep kept takes take took needs need needed runs run
    ran makes make made gives give gave stands stand stood describes describe described treats treat
    treated covers cover covered supports support supported serves serve served shows show showed
    means mean meant refers refer referred helps help helped changes change changed lives live lived
    works work worked dies die died offers offer offered applies apply applied follows follow
    followed
    """.split()
)
_CITATION = re.compile(r"\s*\[\s*\d[\d\s,;–-]*\]")
_BRACKET = re.compile(r"\s*\((?:[^()]|\([^()]*\))*\)")
_REASON = re.compile(rf"\s{CAUSAL}\s", re.IGNORECASE)
_MEANS = re.compile(r"\s(?=by (?:\w+ly )?\w+ing\b)")
_COUNT = re.compile(
    r"^(?P<number>(?:about |approximately |nearly |over |almost )?"
    r"(?:\d[\d.,]*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve))\s+(?P<noun>[a-z].*s)$",
    re.I,
)
_FRACTION = re.compile(
    r"^(?P<number>(?:about |approximately |nearly |over |almost |up to )?\d[\d.,]*\s?"
    r"(?:%|percent|per cent)) of (?P<noun>.+)$",
    re.I,
)
_SHORT_FORM = re.compile(r"\b((?:[\w-]+ ){1,6}[\w-]+) \(([A-Z][A-Za-z0-9-]*[A-Z0-9])\)")
_YEAR = re.compile(r"\sin ((?:[A-Z][a-z]+ )?(?:1[5-9]|20)\d\d)$")
_DEFINING = re.compile(r"^(?:an?|the|one|any|defined|known|called|referred|named)\b", re.I)


def without_opening(text: str) -> str:
    """Return a sentence without a word that links it to the one before it."""
    return _OPENING.sub("", text)


def is_whole(sentence: str, end: re.Pattern[str]) -> bool:
    """Return whether a sentence has its beginning and end: a passage may be cut within one."""
    return not sentence[0].islower() and bool(end.search(sentence))


def questions_of(sentence: str) -> Iterator[Question]:
    """Yield the questions that a sentence's form allows; none for most other languages."""
    yield from _short_form(sentence)
    bare = without_opening(_CITATION.sub("", sentence)).rstrip(" .;:!")
    clause = _clause(bare)
    if clause is None:
        return
    yield from _counting(clause)
    yield from _reasons(clause)
    yield from _defining(clause)
    yield from _of_the_subject(clause)


def tidy(text: str) -> str:
    """Return a text as a question may have it: no citations, no brackets, single blanks."""
    text = _BRACKET.sub("", _CITATION.sub("", text))
    return re.sub(r"\s+([,.;?])", r"\1", " ".join(text.split()))


def _clause(sentence: str) -> Clause | None:
    """Split a sentence at its verb, if what precedes it can be a subject."""
    plain = _BRACKET.sub(lambda match: "\0" * len(match[0]), sentence)  # no verb in brackets
    for count, match in enumerate(re.finditer(r"[^\s\0]+", plain)):
        if count > 12 or (match[0].endswith((",", ";", ":")) and count):
            return None
        if count and match[0].lower() in VERBS:
            subject, rest = sentence[: match.start()].strip(), sentence[match.end() :].strip()
            fine = rest and _can_be_subject(subject)
            return Clause(subject, match[0], rest) if fine else None
    return None


def _can_be_subject(text: str) -> bool:
    found = tidy(text).lower().split()
    relative = {"that", "which", "who", "to", "not"} & set(found)
    if not found or found[0] in NOT_A_SUBJECT or relative:
        return False
    return bool(content_words(text))


def _question(start: str, *parts: str) -> str:
    return f"{start} {tidy(' '.join(parts))}".rstrip(" ,;.") + "?"


def _subject(clause: Clause) -> str:
    """Return the subject as within a sentence: a leading article loses its capital."""
    return re.sub(r"^(The|An?|Some|Most)\b", lambda match: match[0].lower(), clause.subject)


def _counting(clause: Clause) -> Iterator[Question]:
    rest = _main_part(clause.rest)
    if match := _FRACTION.match(clause.subject):
        text = _question("What percentage of", match["noun"], clause.verb, rest)
        yield Question(text, match["number"], "fact", 10)
    elif match := _COUNT.match(clause.subject):
        text = _question("How many", match["noun"], clause.verb, rest)
        yield Question(text, match["number"], "fact", 11)
    if clause.inverts and (match := _YEAR.search(clause.rest)):
        text = _question("When", clause.verb, _subject(clause), clause.rest[: match.start()])
        yield Question(text, match[1], "fact", 12)


def _reasons(clause: Clause) -> Iterator[Question]:
    for pattern, word, kind, rank in ((_REASON, "Why", "why", 20), (_MEANS, "How", "how", 25)):
        match = pattern.search(f" {clause.rest}")
        if not match:
            continue
        effect = clause.rest[: max(match.start() - 1, 0)]
        answer = clause.rest[match.end() - 1 :]
        if len(content_words(answer)) < 2 or (word == "How" and not content_words(effect)):
            continue
        if clause.inverts:
            text = _question(word, clause.verb, _subject(clause), effect)
        else:
            text = _question(f"{word} is it that", _subject(clause), clause.verb, effect)
        yield Question(text, answer, kind, rank)  # type: ignore[arg-type]


def _defining(clause: Clause) -> Iterator[Question]:
    if clause.verb not in ("is", "are", "was", "were") or not _DEFINING.match(clause.rest):
        return
    if len(words(clause.subject)) <= 10:
        yield Question(_question(f"What {clause.verb}", _subject(clause)), clause.rest, "fact", 30)


def _of_the_subject(clause: Clause) -> Iterator[Question]:
    rest = _main_part(clause.rest)
    if len(content_words(rest)) >= 2 and len(words(clause.subject)) <= 10:
        yield Question(_question(f"What {clause.verb}", rest), clause.subject, "fact", 40)


def _main_part(rest: str) -> str:
    """Cut what follows a main clause, if enough is left."""
    for match in re.finditer(r",? (?:which|because|but|whereas|while|although)\b|[;:]|, ", rest):
        if len(words(rest[: match.start()])) >= 3:
            return rest[: match.start()]
    return rest


def _short_form(sentence: str) -> Iterator[Question]:
    """Ask for the long form of an abbreviation whose letters begin the words before it."""
    for match in _SHORT_FORM.finditer(sentence):
        letters = [letter for letter in match[2].lower() if letter.isalpha()]
        before = match[1].replace("-", " - ").split()
        for count in range(len(before), 0, -1):
            taken = before[-count:]
            initials = [word[0].lower() for word in taken if word != "-"]
            if initials == letters:
                long_form = " ".join(taken).replace(" - ", "-")
                yield Question(f"What does {match[2]} stand for?", long_form, "fact", 50)
                break
