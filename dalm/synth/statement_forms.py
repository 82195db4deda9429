"""Turn English statements into questions: what something is, does, is used for, is caused by."""

import re
from collections.abc import Iterator
from dataclasses import dataclass

from dalm.config.questions import Kind
from dalm.synth.noun_phrases import is_plural, is_specific
from dalm.synth.question_texts import Question, ask, tidy

_SUBJECT = r"^(?P<s>[^,;:]{2,90}?)"
_ADVERB = r"(?:(?:also|usually|often|typically|generally|mainly|commonly|normally|primarily) )?"
_UNSAID = (
    r"(?!(?:good|bad|common|possible|useful|important|simple|matter|lot|bit|must|problem|result|"
    r"case|same|following|first|second|third|only|one|other|latter|former|reason|way|example|few|"
    r"number|very|more|most|time|part|member|hypothesis|key|major|main|critical|crucial|real|great|"
    r"new|significant|potential|so-called|challenge|concern|issue|need|list|name|value|default)\b)"
)
"""What a definition doesn't begin with: *a common practice*, *the same*."""
_DONE = (
    "founded|built|created|established|introduced|released|launched|published|invented|discovered|"
    "first identified|first isolated|first described|first reported|first detected|identified|"
    "isolated|approved|opened|adopted|developed|restored|planted|closed"
)
_BY_WHICH = (
    "transmitted|spread|treated|diagnosed|detected|prevented|controlled|activated|enabled|disabled|"
    "configured|installed|removed|created|changed|updated|produced|generated|measured|defined|"
    "started|stopped|encoded|regulated|mediated|inhibited|acquired|replaced|converted|renewed|"
    "caused|heated|avoided|reduced|modified|specified|selected|managed|built"
)
_PLACED = "located|stored|kept|installed|situated|documented|found|defined|saved"
_COMPLEMENTS = (
    "caused by|based on|composed of|made up of|associated with|responsible for|characterized by|"
    "characterised by|derived from|equivalent to|due to|called|intended for|similar to"
)
_NUMBER = r"\d[\d,]*|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve"

# Verbs that are not nouns in the plural as well: what precedes one is the subject. As the question
# has them after "does".
_VERBS = {
    **{
        f"{verb}s": verb
        for verb in (
            "contain include require produce encode inhibit induce prevent describe "
            "determine indicate represent define reduce involve promote regulate activate mediate "
            "infect protect generate replace ensure affect mean comprise disable receive accept"
        ).split()
    },
    **{"specifies": "specify", "carries": "carry", "modifies": "modify"},
    **{
        f"{first}s {last}": f"{first} {last}"
        for first, last in (
            *(("consist", "of"), ("depend", "on"), ("lead", "to"), ("refer", "to")),
            *(("belong", "to"), ("correspond", "to"), ("rely", "on"), ("bind", "to")),
            *(("result", "in"), ("contribute", "to")),
        )
    },
}
_NOUNS_AS_WELL = {
    f"{verb}s": verb
    for verb in (
        "support control return show store set run cause increase decrease limit display list "
        "record start stop block target form name mark note check handle"
    ).split()
}
"""Verbs that may be plural nouns: an article or the like has to follow."""
_BASE_FORMS = (
    "contain include require encode inhibit induce prevent infect comprise involve mediate "
    "consist+of depend+on lead+to refer+to belong+to rely+on result+in contribute+to"
).split()
_BASES = {**_VERBS, **_NOUNS_AS_WELL, "allows": "allow", "enables": "enable", "lets": "allow"}
_OBJECT = (
    r"(?P<a>(?!(?:that|it|them|this|these|those|us|if|when|and|or|only|not|in|on|at|by|for|from|"
    r"with|as|such|to)\b)\S.+)"
)


@dataclass(frozen=True, slots=True)
class Form:
    """A pattern of statements, and the question that its groups answer.

    The groups are s, the subject; v, the verb; r, what else the question takes; a, the answer. What
    was once the case is no general statement: with `past` the subject needs a name.
    """

    pattern: re.Pattern[str]
    question: str
    kind: Kind
    rank: int
    past: bool = False

    def questions(self, sentence: str) -> Iterator[Question]:
        """Yield the question of a sentence that has the form, if its subject can be identified."""
        match = self.pattern.match(sentence)
        if match is None:
            return
        groups = {name: value or "" for name, value in match.groupdict().items()}
        verb, subject = groups.get("v", ""), tidy(match["s"])
        if is_specific(subject, general=not self.past) and _agree(subject, verb):
            groups |= {"s": subject, "do": "do" if is_plural(subject) else "does"}
            groups["base"] = _BASES.get(verb, verb)
            text = ask(self.question.format_map(groups))
            yield Question(text, match["a"].rstrip(" ,;"), self.kind, self.rank)


def _agree(subject: str, verb: str) -> bool:
    """Return whether a subject has the number of its verb; else one of them is something else."""
    if verb in ("is", "was", "has") or verb in _BASES:
        return not is_plural(subject) or "'" in subject or _ends_like_a_name(subject)
    return verb in ("can", "may", "must", "should") or is_plural(subject)


def _ends_like_a_name(subject: str) -> bool:
    """Return whether a phrase ends in a name, which may end in s: SARS, AIDS, Postfix, Windows."""
    return subject.rsplit(maxsplit=1)[-1][:1].isupper() and " and " not in subject


def _form(pattern: str, question: str, kind: Kind, rank: int, *, past: bool = False) -> Form:
    return Form(re.compile(f"{_SUBJECT} {pattern}$", re.DOTALL), question, kind, rank, past)


FORMS = (
    Form(
        re.compile(
            r"^(?P<s>(?!\w+ing\b)[^,;:]{2,90}?) (?P<v>is|are) "
            rf"(?P<a>(?:an? |the |any ){_UNSAID}.+)$",
            re.DOTALL,
        ),
        "What {v} {s}",
        "fact",
        10,
    ),
    _form(
        rf"(?P<v>is|are|was|were) {_ADVERB}(?P<r>(?:{_DONE})(?: (?!in\b)[^,;:]{{1,60}}?)?) in "
        r"(?P<a>(?:[A-Z][a-z]+ )?(?:1[5-9]|20)\d\d)(?: .*|,.*)?",
        "When {v} {s} {r}",
        "fact",
        12,
        past=True,
    ),
    Form(
        re.compile(
            r"^(?P<a>(?P<s>[^,;:]{2,90}?)) (?P<v>is|are) (?P<r>the (?:most [a-z]+|main|primary|"
            r"leading|largest|smallest|oldest|standard|default|official|preferred|recommended) "
            r"[a-z][^,;:]{8,80})$"
        ),
        "What {v} {r}",
        "fact",
        16,
    ),
    _form(
        rf"(?P<v>has|have) (?P<a>{_NUMBER}) (?P<r>[a-z]+s)(?: (?:of|and|that|which|in)\b.*|,.*)?",
        "How many {r} {do} {s} have",
        "fact",
        14,
    ),
    _form(
        rf"(?P<v>is|are) {_ADVERB}used (?P<a>(?:to|for) .+)", "What {v} {s} used for", "fact", 20
    ),
    _form(
        rf"(?P<v>is|are) {_ADVERB}(?P<r>{_BY_WHICH}) (?P<a>(?:by|through|via|using) .+)",
        "How {v} {s} {r}",
        "how",
        22,
    ),
    _form(
        rf"(?P<v>can|may|must|should) {_ADVERB}be (?P<r>{_BY_WHICH}) "
        r"(?P<a>(?:by|through|via|using|with) .+)",
        "How {v} {s} be {r}",
        "how",
        22,
    ),
    _form(
        rf"(?P<v>is|are) {_ADVERB}(?P<r>{_PLACED}) (?P<a>(?:in|at|on|under|within) .+)",
        "Where {v} {s} {r}",
        "fact",
        24,
    ),
    _form(
        rf"(?P<v>is|are) {_ADVERB}(?P<r>{_COMPLEMENTS}) (?P<a>.+)", "What {v} {s} {r}", "fact", 26
    ),
    _form(
        r"(?P<v>allows|enables|lets) (?P<r>you|users|the user|administrators|one|developers) "
        r"(?:to )?(?P<a>[a-z]+ .+)",
        "What does {s} {base} {r} to do",
        "fact",
        28,
    ),
    _form(rf"{_ADVERB}(?P<v>{'|'.join(_VERBS)}) {_OBJECT}", "What does {s} {base}", "fact", 30),
    _form(
        rf"{_ADVERB}(?P<v>{'|'.join(_NOUNS_AS_WELL)}) "
        r"(?P<a>(?:an?|the|all|any|each|both|two|three|several|many|only|your) \S.+)",
        "What does {s} {base}",
        "fact",
        34,
    ),
    _form(
        rf"{_ADVERB}(?P<v>{'|'.join(each.replace('+', ' ') for each in _BASE_FORMS)}) {_OBJECT}",
        "What do {s} {base}",
        "fact",
        30,
    ),
)
"""The forms of statements, the likelier to give a good question first."""
