"""Recognise the form of English sentences, and ask the question that the form answers for certain.

Better no question than a doubtful one: a statement is asked about only if its verb is known, its
subject can be identified without the text around it, and the rest is a whole answer.
"""

import re
from collections.abc import Iterator

from dalm.ingest.words import content_words
from dalm.synth.noun_phrases import is_plural, is_specific
from dalm.synth.question_texts import Question, ask, is_sound, tidy, without_opening
from dalm.synth.statement_forms import FORMS

CAUSAL = r"(?:because(?: of)?|due to|owing to|as a result of)"
"""Words between an effect and its cause, as a part of other patterns."""

_SHORT_FORM = re.compile(r"\b((?:[\w-]+ ){1,6}[\w-]+) \(([A-Z][A-Za-z0-9-]*[A-Z0-9])\)")
_LONG_FORM = re.compile(r"(?<![\w-])([A-Z][A-Za-z0-9-]*[A-Z0-9]) \(((?:[\w-]+ ){1,6}[\w-]+)\)")
_OTHER_NAME = re.compile(
    r"^(?P<s>[^,;:()]{2,60}?)(?:, | \()(?:also|sometimes|commonly|often) "
    r"(?:called|known as|referred to as) (?P<a>[^,;:()]{2,60}?)[,)]"
)
_COMMAND = (
    "use|run|type|click|press|select|choose|set|add|install|edit|execute|open|enter|create|call|"
    "specify|remove|pass|put|start|stop|turn|move|go|change|give|simply|you|just|do|make|issue|copy"
)
_PURPOSE = re.compile(
    rf"^(?:In order to|To|If you (?:want|wish|would like|need) to) (?P<r>[a-z]+ [^,;:]{{3,90}}?), "
    rf"(?P<a>(?:{_COMMAND})\b.+)$",
    re.DOTALL,
)
_NO_VERB = frozenset("the a an your be see date some what which true false all one do".split())
_USE = re.compile(
    r"^(?P<a>(?:Use|Run|Type|Press|Click|Select|Choose|Set|Add|Edit)\b (?!this|these|it\b|to\b)"
    r"[^,;:]{2,60}?) (?:in order )?to (?P<r>[a-z]+ [^,;:]{6,90})$",
    re.DOTALL,
)
_YOU_CAN = re.compile(
    r"^You (?:can|may) (?P<r>[a-z]+ [^,;:]{6,90}?) (?P<a>(?:by \w+ing|using|with the) .+)$",
    re.DOTALL,
)
_CONDITION = re.compile(
    r"^(?P<w>If|When) (?P<r>[^,;:]{8,110}?), (?:then )?(?P<a>(?!you\b|see\b|we\b|but\b|and\b).+)$",
    re.DOTALL,
)
_REASON = re.compile(
    r"^(?P<s>[^,;:]{2,90}?) (?P<v>is|are|was|were|can|cannot|may|should|must|will|has|have) "
    rf"(?P<r>[^,;:]{{3,90}}?),? {CAUSAL} (?P<a>.+)$",
    re.DOTALL,
)
_ACTING = re.compile(
    rf"^(?P<s>[^,;:]{{2,60}}?) (?P<v>[a-z]+s?) (?P<r>[^,;:]{{0,60}}?)\s?{CAUSAL} (?P<a>.+)$",
    re.DOTALL,
)
_ACTIONS = {
    "turns": "turn", "whistles": "whistle", "sails": "sail", "runs": "run", "spreads": "spread",
    "fails": "fail", "stops": "stop", "occurs": "occur", "happens": "happen", "remains": "remain",
    "differs": "differ", "varies": "vary", "increases": "increase", "decreases": "decrease",
    "carries": "carry", "requires": "require", "needs": "need", "uses": "use", "takes": "take",
}  # fmt: skip
_PRONOUN = re.compile(
    r"\b(?:this|that|these|those|it|its|they|them|their|he|she|we|our|such|so|there|one|ones|"
    r"above|below|former|latter|same|other|others|another|both)\b",
    re.IGNORECASE,
)


def questions_of(sentence: str) -> Iterator[Question]:
    """Yield the questions that an English sentence's form allows, often none."""
    bare = without_opening(sentence).rstrip(" .;:!")
    for form in (_stands_for, _other_name, _purpose, _reason, _condition, _statement):
        yield from (each for each in form(bare) if is_sound(each, sentence))


def _statement(sentence: str) -> Iterator[Question]:
    """Yield the question of the first form that a statement has."""
    for form in FORMS:
        found = [each for each in form.questions(sentence) if is_sound(each, sentence)]
        if found:
            yield from found
            return


def _purpose(sentence: str) -> Iterator[Question]:
    """Ask how something is done that a manual gives the way for."""
    for pattern in (_PURPOSE, _USE, _YOU_CAN):
        match = pattern.match(sentence)
        if match and not _PRONOUN.search(match["r"]) and len(content_words(match["r"])) >= 2:
            first = match["r"].split()[0]
            if not first.endswith(("ly", "ed", "ing")) and first not in _NO_VERB:
                yield Question(ask("How do you", match["r"]), match["a"], "how", 5)


def _condition(sentence: str) -> Iterator[Question]:
    """Ask what happens under a condition that names what it is about."""
    match = _CONDITION.match(sentence)
    if match is None or _PRONOUN.search(match["r"]) or re.match(r"[a-z]+ing\b", match["r"]):
        return
    clause = re.match(r"(?P<s>.+?) (?:is|are|has|have|does|do|[a-z]+s)\b ?", match["r"])
    subject = tidy(clause["s"]) if clause else ""
    if match["r"].startswith(("you are", "you’re", "you're")):
        return
    if subject.lower() == "you" or (subject and is_specific(subject, general=False)):
        text = ask(f"What happens {match['w'].lower()}", match["r"])
        if len(content_words(text)) >= 4 and not _PRONOUN.match(match["a"]):
            yield Question(text, match["a"], "fact", 32)


def _reason(sentence: str) -> Iterator[Question]:
    """Ask why something is so: with an auxiliary, or a verb that is known."""
    match = _REASON.match(sentence)
    if match and _is_named(match["s"], general=match["v"] not in ("was", "were")):
        if content_words(tidy(match["r"])) and not _PRONOUN.search(match["r"]):
            text = ask("Why", match["v"], tidy(match["s"]), match["r"])
            yield Question(text, match["a"], "why", 8)
        return
    match = _ACTING.match(sentence)
    if match is None or match["v"] not in _ACTIONS or _PRONOUN.search(match["r"]):
        return
    if _is_named(match["s"], general=True) and not is_plural(tidy(match["s"])):
        parts = (tidy(match["s"]), _ACTIONS[match["v"]], match["r"])
        yield Question(ask("Why does", *parts), match["a"], "why", 8)


def _is_named(subject: str, *, general: bool) -> bool:
    return is_specific(tidy(subject), general=general)


def _other_name(sentence: str) -> Iterator[Question]:
    """Ask for another name of something."""
    match = _OTHER_NAME.match(sentence)
    if match and is_specific(match["s"], general=True):
        text = ask("What is another name for", match["s"])
        yield Question(text, match["a"], "fact", 9)


def _stands_for(sentence: str) -> Iterator[Question]:
    """Ask for the long form of an abbreviation whose letters begin the words beside it."""
    pairs = [(match[1], match[2]) for match in _SHORT_FORM.finditer(sentence)]
    pairs += [(match[2], match[1]) for match in _LONG_FORM.finditer(sentence)]
    for long_form, short in pairs:
        if found := _spelled_out(long_form, short):
            yield Question(f"What does {short} stand for?", found, "fact", 40)


def _spelled_out(before: str, short: str) -> str | None:
    letters = [letter for letter in short.lower() if letter.isalpha()]
    found = before.replace("-", " - ").split()
    for count in range(len(found), 0, -1):
        taken = found[-count:]
        if len(letters) > 1 and [w[0].lower() for w in taken if w != "-"] == letters:
            spelled = " ".join(taken).replace(" - ", "-")
            return spelled if short not in spelled else None
    return None
