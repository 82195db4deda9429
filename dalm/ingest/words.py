"""Words as they are compared: text in, words out."""

import re

# Scripts that put no blanks between words: each of their characters counts as a word.
_UNSPACED = "\u0e00-\u0eff\u1000-\u109f\u1780-\u17ff\u3040-\u30ff\u3400-\u4dbf\u4e00-\u9fff"
_WORD = re.compile(rf"[{_UNSPACED}]|[^\W_{_UNSPACED}]+")

FUNCTION_WORDS = frozenset(
    """
    a an the this that these those such some any each every both all no not nor neither either other
    another same own and or but if then than so as of in on at by for from to into onto with without
    within about over under between among through during before after since until against per via
    is are was were be been being am has have had having do does did done doing can could may might
    must shall should will would it its itself he him his she her hers they them their theirs we us
    our ours you your yours i me my mine one ones there here what which who whom whose when where
    why how many much more most less least very too also only just often usually s t
    """.split()
)


def words(text: str) -> list[str]:
    """Return the runs of letters and digits, case folded.

    >>> words("Mother-to-child, 2.5 mg")
    ['mother', 'to', 'child', '2', '5', 'mg']
    """
    return _WORD.findall(text.casefold())


def content_words(text: str) -> list[str]:
    """Return the words that carry a meaning of their own: all but English function words."""
    return [word for word in words(text) if word not in FUNCTION_WORDS]
