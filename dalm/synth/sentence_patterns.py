"""Recognise what English sentences have in common: their ends, links and references back."""

import re

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
CONTEXT_REFERENCE = re.compile(
    r"\b(?:th(?:is|ese|ose)|such|our|the (?:present|current|above|following|former|latter|same|"
    r"other|second|first)) (?:\w+ )?(?:study|studies|paper|work|article|review|report|research|"
    r"case|cases|method|methods|results?|findings?|data|section|approach|group|groups|patients?|"
    r"experiments?|analysis|model|example|effect|finding|question|ones?)\b"
    r"|\bthose\b(?! (?:\w+ )?(?:with|without|who|whose|of|that|which|in|at|on|from|where)\b)"
    r"|\b(?:these|thereof|herein|hereby|aforementioned)\b|\babove\b(?! \d)"
    r"|\b(?:figure|fig\.|table|section|appendix|chapter) (?:\d|(?-i:[A-Z])\b)",
    re.IGNORECASE,
)
"""What refers to a context that a question's reader hasn't seen: this study, above, table 2."""
_OPENING = re.compile(
    r"^(?:However|Moreover|Furthermore|In addition|Therefore|Thus|Hence|Also|Additionally|Finally|"
    r"Interestingly|Notably|In contrast|In particular|For example|For instance|Consequently|"
    r"Similarly|Indeed|In fact|Overall|Recently|Currently|Generally|Importantly|Specifically|"
    r"Nevertheless|Meanwhile|Accordingly|Subsequently|On the other hand|As a result),?\s+",
)


def without_opening(text: str) -> str:
    """Return a sentence without a word that links it to the one before it."""
    return _OPENING.sub("", text)


def is_whole(sentence: str, end: re.Pattern[str]) -> bool:
    """Return whether a sentence has its beginning and end: a passage may be cut within one."""
    return not sentence[0].islower() and bool(end.search(sentence))
