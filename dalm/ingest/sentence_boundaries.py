"""Find the sentences and paragraphs of a text, in any script.

Every script's own marks end a sentence (Unicode's property Sentence_Terminal). Where Unicode's
default rules (UAX #29) end one after each full stop before a capital, what stands around it
decides here: abbreviations, initials, ordinals, numbers of lists, marks of citations.
"""

import re
from collections.abc import Iterator

ENDS = (".", "!", "?", ":", "。")
"""What a line of text ends with, and a label or a title doesn't."""
PARAGRAPH_END = re.compile(r"\n[^\S\n]*\n\s*")

# What may follow a stop within its sentence, and what may precede the next one's first letter
_CLOSING = r"""(?:["'”’“‘»«›)\]*_]|\s»)*"""
_CITATION = (
    r"(?:\s?\[(?:\d[\d,;\s–-]*|[a-z]|(?:note|nb|N|Note|Anm\.) ?\d+|citation needed)\]"
    r"|\(\d{1,3}\)|[\u2070\u00b9\u00b2\u00b3\u2074-\u2079][⁰¹²³⁴-⁹⁻,–]*)*"
)
"""Such as `[12]`, `[13][14]`, `[a]`, `(12)` and raised numbers."""
_PLAIN_CITATION = r"(?:(?<=[a-z]{3}\.)\d{1,3}(?:[,–-]\d{1,3})*)?"
"""A raised number that became a plain one: `... of the lung.12 The`."""
_OPENING = r"""(?:["'“„‘»‹(\[¿¡*_`]|«\s?)*"""
_NO_BLANK = "。！？｡।॥။។៕"
"""Marks after which no blank need stand."""

SENTENCE_END = re.compile(
    # A word in lower case doesn't begin a sentence, unless it is one like mRNA or pH.
    rf"[.!?…‼⁇⁈⁉؟۔։።፧\u037e]+{_CLOSING}{_PLAIN_CITATION}{_CITATION}"
    rf"\s+(?={_OPENING}(?:[^\W_a-z]|[$€£§]|[a-z]{{1,3}}[A-Z]))"
    # Not between 「…。」 and と, which make one sentence; not between the digits of ３．５.
    rf"|(?:[{_NO_BLANK}]|．(?!\d))++(?:[”’」』）》】]++(?!と|って|、|，))?(?![”’」』）》】])(?:\[\d+\])*\s*"
    r"|\n\s*(?=(?:[-*•+–◦▪‣·●○■]|\d{1,3}(?:\.\d{1,3})*[.)]|\(?\w\))\s)"  # a list item
)
PAUSE = re.compile(r"(?<=[\u0e00-\u0eff]) +(?=[\u0e00-\u0eff])")
"""Thai and Lao have no mark for a sentence's end: a blank stands there, and between clauses."""
_THAI_OR_LAO = re.compile(r"[\u0e00-\u0eff]")

# What a full stop belongs to, in lower case

_ABBREVIATIONS = frozenset(
    """
    dr mr mrs ms prof st hon rev capt sgt messrs vs cf approx viz figs eq eqs refs nos vol pp univ
    dept ed eds fig ref incl excl
    bzw vgl ca abb abschn anm aufl ausg bd bspw dipl ing einschl entspr evtl exkl fa geb gest ggf
    ggfs hr hrsg inkl insb jh kap lfd lt nr od röm sog tel usf verf zit zzgl ziff bes
    betr dt med phil rer nat jur engl frz lat griech ehem urspr allg
    mme mmes mlle env chap éd tél réf av apr ex
    sra srta dra ud uds pág págs núm aprox ej avda gral
    sig dott avv pag pagg cfr
    d.lgs bijv blz ir dhr mevr drs zgn evt afb hfst
    см рис стр гл ул проф им тыс
    """.split()
) | {"ad es", "per es"}
"""They don't end a sentence."""
_CAPITALS = frozenset({"EE", "MM"})
"""Abbreviations of capitals with a full stop at their end; MS and ILL are none."""
_NUMBERED = frozenset("no sec ch art abs col cap eq tab".split())
"""They don't end a sentence before a number; some are words as well."""
_NUMBER = re.compile(r"[(#]?(?:\d|[A-Z]{1,4}-?\d|[IVX]{2,}\b|[B-Z]\b)")
_SOMETIMES_LAST = frozenset(
    """
    al inc ltd co corp jr sr jan feb mar apr jun jul aug sep sept oct okt nov dec dez gen lt
    max min std sek str chr mio mrd resp gem mind uu
    """.split()
)
"""They end a sentence only before a word that often begins one, or in lower case after a number."""
_FIRST_WORDS = frozenset(
    """
    The This These That Those It Its In On At By For From To If When While As After Before During
    However Therefore Thus Moreover Furthermore Additionally Although Because Since We They There
    Here Each All Both Some Many Most Such Our Their His What Why How Who Which Where A Der Die Das
    Ein Eine Es Er Sie Wir Im Bei Nach Mit Für Dies Diese Dieser Dieses Dabei Danach Dann Daher
    Auch Auf Aus Wenn Ist Sind Bitte Nur Seit Les Il Ils Elle Elles Ce Cette Ces Dans Pour Une Un
    Los Las Una Este Esta Por Para Se Gli Questo Questa Nel Nella Per Os Uma Het Dit Dat Deze
    """.split()
)
"""Words with which sentences often begin, and names hardly ever do."""
_PRONOUNS = frozenset("He She So You I My An Le La El Lo De".split())
"""Words with which sentences begin, and surnames, too."""
_QUOTES = '"”’»“'
_BEFORE_ORDINAL = frozenset(
    """
    am im der die das dem den des vom zum zur beim ins ans ab jeder jede jedes jeden ihr ihre ihren
    sein seine seinen ein eine einen einem
    """.split()
)
"""German words before an ordinal: am 3. Sonntag, im 19. Jahrhundert."""
_AFTER_ORDINAL = re.compile(
    r"(?:Jan|Feb|Mär|Apr|Mai|Juni|Juli|Aug|Sept|Okt|Nov|Dez|Jänner)[a-zä]*\b"
    r"|Jahrhundert|Jahrtausend|Jh\b|Auflage|Aufl\b|Weltkrieg|Lebensjahr|Klasse|Kapitel|Platz|Tag\b"
    r"|\d{1,2}\.\s?\d{2,4}\b"  # a date
)
_WORD = re.compile(rf"{_OPENING}([^\W_]+)(\.?)")
_BRACKETS = "([{\"'“„‘«‹*_`¿¡"
_ROMAN = re.compile(r"[IVX]{2,}")
_LETTER_OR_NUMBER = re.compile(r"[(#]?\d|[^\W\d_]\.")
_DOTTED = re.compile(r"(?:[^\W\d_]{1,2}\.[-‑\s]?)+[^\W\d_]{1,2}")
_NUMBER_OF_ITEM = re.compile(
    r"\s*[(*_]*(?:(?:Step|Chapter|Section|Part|Appendix|Article|Figure|Fig\.|Table|Note|Example|Item"
    r"|Schritt|Kapitel|Abschnitt|Teil|Artikel|Abbildung|Abb\.|Tabelle|Tab\.|Étape|Chapitre|Tableau"
    r"|Paso|Capítulo|Figura|Tabla|Passo|Capitolo|Tabella|Stap|Hoofdstuk|Afbeelding|Tabel|No\.|Nr\.)"
    r"\s)?(?:\d{1,3}(?:\.\d{1,3})*|[A-Za-z]|[ivxIVX]{1,4})"
)
"""What numbers an item, a step or a figure, and is no sentence."""
_FIRST_ITEM = frozenset({": 1", ":\n1", ": a", ": A", ": I"})
BEFORE = 40  # characters before a full stop that are looked at
LONG = 5  # letters of a long abbreviation
_LONG_ENDINGS = frozenset(
    word[-LONG:] for word in _ABBREVIATIONS | _SOMETIMES_LAST if len(word) >= LONG
)


def paragraph_starts(text: str) -> Iterator[int]:
    """Yield the offsets at which a paragraph begins, except the first; empty lines separate."""
    return (match.end() for match in PARAGRAPH_END.finditer(text))


def sentence_starts(text: str) -> Iterator[int]:
    """Yield the offsets at which a sentence begins, except the first.

    A sentence ends in a full stop, exclamation or question mark, with closing quotation marks,
    brackets and citations (`.[12]`) after it, before white space and no lower-case letter. It
    doesn't end after an abbreviation (English, German, French, Spanish, Italian, Portuguese,
    Dutch), an initial, a German ordinal, or the number of a list item. Where a script has other
    marks (。 । ؟ ۔ ። ։ ။ ។), these end it; in Thai and Lao blanks do. A list item begins one.
    """
    if not text.isascii() and _THAI_OR_LAO.search(text):
        pauses = (match.end() for match in PAUSE.finditer(text))
        yield from sorted({*_marked_starts(text), *pauses})
    else:
        yield from _marked_starts(text)


def _marked_starts(text: str) -> Iterator[int]:
    """Yield where sentences begin after a mark that ends one."""
    last = 0
    for match in SENTENCE_END.finditer(text):
        start, end = match.span()
        if _is_boundary(text, last, start, end):
            yield end
            last = end


def _is_boundary(text: str, last: int, start: int, end: int) -> bool:
    """Return whether a stop at `start`, after the boundary at `last`, ends a sentence at `end`."""
    if end == len(text) or text[start] in _NO_BLANK or text[start] == "\n":
        return end < len(text)
    if not text[end].isascii() and _is_low(text, end):
        return False  # the pattern has left out ASCII's
    if text[start] != "." or text.startswith("..", start):
        return text[max(start - 1, 0)] not in "[("  # [...] stands for what is left out
    ending = text[max(start - LONG, 0) : start]
    plain = len(ending) == LONG and ending.isalpha() and ending.casefold() not in _LONG_ENDINGS
    if plain or text[start + 1] in _QUOTES:
        return True  # nothing to look up
    if _NUMBER_OF_ITEM.fullmatch(text, last, start) or text[start - 3 : start] in _FIRST_ITEM:
        return False
    word = _WORD.match(text, end)
    first = bool(word and not word[2] and word[1] in _FIRST_WORDS)
    if word and word[1] in _PRONOUNS:
        first = not text[max(start - 2, 0)].isspace()  # Acme Inc. She, but not J. So
    return _ends_sentence(text[max(0, start - BEFORE) : start].split(), text[end : end + 20], first)


def _is_low(text: str, at: int) -> bool:
    """Return whether a word begins in lower case; a Greek letter is a symbol."""
    word = _WORD.match(text, at)
    return bool(word and word[1][:4].islower() and not "α" <= word[1] <= "ω")


def _ends_sentence(before: list[str], after: str, first: bool) -> bool:
    """Return whether the full stop between two texts ends a sentence.

    `before` are the last words, without the full stop; `first` tells whether what comes after it
    begins with a word that often begins a sentence.
    """
    previous, word = (each.lstrip(_BRACKETS) for each in ["", "", *before][-2:])
    low = re.split(r"[-/'’]", word.casefold())[-1]
    if word.isdecimal() or _ROMAN.fullmatch(word):
        return first or not _is_ordinal(previous, word, after)
    if _DOTTED.fullmatch(word):
        return first and (word[0].isupper() or low in ("a.m", "p.m"))
    if len(low) == 1 and low != low.upper():
        return _letter_ends_sentence(previous, word, after, first)
    if low in _NUMBERED:
        return not _NUMBER.match(after)
    if low in _SOMETIMES_LAST:
        return first or (word.islower() and previous[-1:] in tuple("0123456789/"))
    known = {low, f"{previous.casefold()} {low}"} & _ABBREVIATIONS
    return word not in _CAPITALS if word.isupper() else not known


def _letter_ends_sentence(previous: str, letter: str, after: str, first: bool) -> bool:
    """Return whether a sentence ends in a letter, which isn't an initial or short for a word."""
    if previous.endswith(".") and len(previous) == 2:  # z. B., J. R.
        return False
    if first or letter.isupper():
        return first
    is_unit = previous[-1:].isdigit() and letter not in "vn"  # 5 m., but 50 v. Chr.
    return is_unit or (letter not in "vspnzut" and not _LETTER_OR_NUMBER.match(after))


def _is_ordinal(previous: str, word: str, after: str) -> bool:
    """Return whether a number with a full stop is an ordinal, as in German, or part of a date."""
    if len(word) > 3 and word.isdecimal():
        return False
    in_date = previous.endswith(".") and previous[:-1].isdecimal() and after[:1].isdigit()
    return in_date or previous.casefold() in _BEFORE_ORDINAL or bool(_AFTER_ORDINAL.match(after))
