"""Tell which English noun phrases can be asked about without the text around them."""

import re
from collections.abc import Sequence

from dalm.ingest.words import content_words

_REFERRING = "this that these those it they he she which there such".split()
BACK_REFERENCE = re.compile(rf"(?:{'|'.join(_REFERRING)})\b", re.IGNORECASE)
"""A phrase that begins with such a word refers to what was said before."""
NAME = re.compile(
    r"(?<![\w-])(?:\w*[^\W\d_a-zß-öø-ÿ][\w.+-]*|\w+[_/.]\w[\w/.-]*|-{1,2}\w[\w-]*|\w*\d[\w-]*)"
)
"""A word with a capital or a digit, an option, a path, a compound: something that has a name."""
MOST_WORDS = 9  # of a subject

_NO_START = frozenset(_REFERRING) | frozenset(
    """
    we i you here our their his her its my your who both each some many several few all one two
    three other another as if when while although though because since after before during for in
    on at by with from to of and but or however none most figure fig table what how why whether
    where then thus also only even not no any every more less much further same first second third
    last next latter former previous following above overall finally text abstract note see use
    it's there's that's let please do does did don't be been is are was were unless until once
    either neither nor so yet whenever wherever according based given using instead rather like
    unlike despite
    """.split()
)
"""Words that begin no phrase that could be asked about."""
_NO_END = frozenset(
    """
    of in on at by with from to and or but the a an for as that which who than not also only still
    always often usually now then thus currently already itself themselves themself mainly mostly
    who's be been being do does did can could may might must should will would has have had is are
    was were it they we you i he she this these those
    """.split()
)
_WITHIN = frozenset(
    """
    that which who whom whose where when while if because although this these those it its they
    their them we our us he she his her you your i my not above below following preceding previous
    present current same such other latter former aforementioned said respective is are was were
    be been can could may might must should will would has have had did does do et al vs via
    however therefore i.e e.g new similar different certain given particular various
    """.split()
)
_VAGUE = frozenset(
    """
    way ways example examples point thing things reason reasons problem problems question questions
    step steps approach approaches method methods idea case cases number kind type types part
    result results set option options value values purpose aim goal objective hypothesis finding
    findings study studies data analysis analyses group groups sample samples patient patients
    participants subjects authors author paper article review section chapter figure table model
    models experiment experiments method procedure procedures process technique system effect
    effects difference differences change changes factor factors limitation limitations advantage
    advantages disadvantage conclusion condition conditions situation information text list line
    lines name names people person user users someone others everything something anything nothing
    behaviour behavior default output input command commands file files page pages score rate
    rates level levels percentage proportion majority rest remainder side end beginning use choice
    answer solution issue issues fact evidence mice animals specimens sera cohort controls
    material materials control feature features practice survey trial intervention interventions
    test tests assay assays
    """.split()
)
"""Heads of phrases that say too little without a name beside them."""
_ADVERB = re.compile(r"[a-z]{2,}(?<!fami)(?<!assemb)(?<!anoma)(?<!rep)(?<!supp)ly")


def is_specific(phrase: str, *, general: bool) -> bool:
    """Return whether a phrase without brackets names something that its reader can identify.

    It does with a name in it. A statement in the present tense can be `general`: then *a firewall*,
    *old seals*, *the cause of rabies* will do, but not *the virus*.
    """
    found = phrase.split()
    low = [word.strip(",.;:()\"'“”‘’").lower() for word in found]
    if not _is_phrase(phrase, low):
        return False
    has_article = low[0] in ("the", "a", "an")
    bare = low[1:] if has_article else low
    if not bare or bare[0] in _NO_START or not content_words(" ".join(bare)):
        return False
    if any(re.search(r"[^\W\d_]{2}", name) for name in _names(phrase)):
        return not set(bare) <= _VAGUE
    head = bare[: bare.index("of")] if "of" in bare else bare
    if not general or not head or _VAGUE & {bare[-1], head[-1]}:
        return False
    if low[0] == "the":  # of what? A name would say; a phrase without an article may
        rest = bare[len(head) + 1 :]
        return bool(rest) and rest[0] != "the"
    return len(found) > 1 or len(bare[0]) > 3


def _is_phrase(phrase: str, low: Sequence[str]) -> bool:
    """Return whether a phrase seems to be one noun phrase, which nothing in it refers from."""
    if not low or len(low) > MOST_WORDS or low[0] in _NO_START or low[-1] in _NO_END:
        return False
    if re.search(r"[,;:!?…=|<>{}\[\]—\n]|\s[-–]\s|\.\s", phrase) or _WITHIN & set(low):
        return False
    return not any(_ADVERB.fullmatch(word) for word in (low[0], low[-1]))


def _names(phrase: str) -> list[str]:
    """Return the names in a phrase; a capital at its beginning makes none."""
    first = phrase.split(maxsplit=1)[0]
    return [m[0] for m in NAME.finditer(phrase) if m.start() or not first.istitle()]


def is_plural(phrase: str) -> bool:
    """Return whether a phrase's head seems to be plural: it ends in s, or joins two."""
    head = re.split(r"\s(?:of|in|on|with|for|from|to|at|by)\s", phrase)[0]
    last = head.split()[-1].lower()
    return " and " in phrase or (last.endswith("s") and not last.endswith(("ss", "us", "is")))
