"""Take search keywords and titles from passages: words that few passages hold, and headings."""

import itertools
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from math import log

from dalm.ingest.languages import FUNCTION_WORDS_OF
from dalm.ingest.words import words
from dalm.records import Passage
from dalm.synth.noun_phrases import NAME
from dalm.synth.query_checks import FORMS, stem

MOST = 6  # words of a query of keywords
PHRASE, PHRASES = 3, 3  # words of a phrase, and phrases, at most
KNOWN = 0.02  # of the passages, above which a short form leads to no passage
RARE = 0.2  # of the passages may hold a keyword at most

_GLUE = frozenset().union(*FUNCTION_WORDS_OF.values())
_VERBS = frozenset(
    f"{verb}{end}"
    for verb in """
    use show give make find base include contain provide require perform describe obtain observe
    report compare follow call know need allow become want get set take see consider associate
    relate add try return come suggest reside represent involve combat help support start stop
    begin end keep hold run work live serve mean refer apply appear occur happen remain exist
    depend consist belong lead cause increase reduce affect induce produce prevent ensure enable
    define specify determine indicate display generate create remove change move send receive read
    write open close look go put let say ask tell think believe expect seem tend choose select
    decide offer lack discard supply verify exceed differ vary rely receive accept combine explain
    represent develop assess examine investigate demonstrate identify confirm reveal emerge
    """.split()
    for end in ("", "s", "es", "d", "ed")
) | frozenset(
    """
    made taken seen given shown found known chosen written supplies varies relies applies verifies
    tries does similar different various several important possible available new first second
    third however therefore thus moreover furthermore instead respectively al et fig figure table
    well even still though although while because since due rather without within whether suitable
    wide wider slight slightest key inherent supplementary certain whole own e g i
    """.split()
)
_SECTION = re.compile(r"(?<=\w)\(\d\w*\)|\s*\bManual Page$")
_TOKEN = re.compile(r"[^\W_][\w.+/-]*[^\W_]|[^\W_]")
_VERBAL = re.compile(r"^[a-z]+(?:ly|ed|ing)$")  # hardly a noun
_VAGUE_WORDS = frozenset(
    """
    result results advantage advantages number case cases example way ways time times study studies
    work data method methods use order group groups level levels type types addition contrast
    effect effects total range part parts set high low higher lower good best better many few
    significant significantly large small mean early late recent previous current main major
    following respectively option options default value values file files line lines
    """.split()
)
_WRITTEN = re.compile(r"[^\W\d_][a-zß-öø-ÿ]*(?![\w-])")
_NUMBERED = re.compile(
    r"^(?:chapter|section|part|appendix)?\s*(?:\d+(?:\.\d+)*\.?|[A-Z]\.)\s+", re.I
)


class KeywordPicker:
    """Pick the keywords and the title that lead to a passage among all of a table."""

    def __init__(self, passages: Sequence[Passage]) -> None:
        self.number = len(passages)
        self.holding = Counter(word for each in passages for word in set(words(each.text)))
        written = Counter(word for each in passages for word in _WRITTEN.findall(each.text))
        self.common = {word for word in written if written[word] >= written[word.capitalize()]}
        """Words that are written without a capital at least as often as with one: no names."""
        self.first: dict[str, str] = {}
        """The id of the first passage under a title: the others go on from there."""
        for passage in passages:
            self.first.setdefault(title_of(passage), passage.id)

    def keywords(self, text: str, sentences: Sequence[str]) -> Iterator[tuple[str, str]]:
        """Yield keywords and the sentence that they lead to, the most telling ones first.

        The passage's subject, which is the rarest phrase that it repeats, and what a sentence says
        of it.
        """
        repeated = Counter(phrase.lower() for phrase, _, _ in self._phrases(text))
        subjects = [
            (weight * repeated[phrase.lower()], phrase)
            for phrase, weight, _ in self._phrases(text)
            if repeated[phrase.lower()] > 1 and self._is_subject(phrase)
        ]
        subject = max(subjects)[1] if subjects else ""
        found = self._found(sentences, subject, repeated, plain=False)
        found = found or self._found(sentences, subject, repeated, plain=True)
        for _, _, query, sentence in sorted(found):
            yield query, sentence

    def _found(
        self, sentences: Sequence[str], subject: str, repeated: Counter[str], *, plain: bool
    ) -> list[tuple[float, int, str, str]]:
        """Return the sentences' queries, with what they are ordered by before them."""
        found = []
        for place, sentence in enumerate(sentences):
            query = self._query(sentence, subject, repeated, plain=plain)
            if query and FORMS["keywords"](query) is None:
                weights = [self._weight(word) for word in words(query)]
                found.append((-sum(weights), place, query, sentence))
        return found

    def _query(self, sentence: str, subject: str, repeated: Counter[str], *, plain: bool) -> str:
        """Return the subject and the two best phrases of a sentence, of six words in all.

        Names, phrases of several words and repeated ones; `plain` words of few passages as well,
        which may be of any kind.
        """
        phrases = []
        for phrase, weight, at in self._phrases(sentence):
            named = " " in phrase or bool(NAME.search(phrase[1:])) or (at > 0 and phrase.istitle())
            if named or repeated[phrase.lower()] > 1 or (plain and self._is_subject(phrase)):
                phrases.append((named, weight, at, phrase))
        taken = [(-1, subject)] if subject else []
        for _, _, at, phrase in sorted(phrases, reverse=True):
            known = [word for _, each in taken for word in words(each)]
            fits = len(known) + len(words(phrase)) <= MOST and len(taken) < PHRASES
            if fits and not set(map(stem, known)) & set(map(stem, words(phrase))):
                taken.append((at, phrase))
        return " ".join(phrase for _, phrase in sorted(taken)) if len(taken) > 1 else ""

    def is_known(self, short: str) -> bool:
        """Return whether a short form is in so many passages that it leads to none of them."""
        return self.holding[short.lower()] > max(KNOWN * self.number, 3)

    def title(self, passage: Passage) -> str:
        """Return the title of the first passage under it, empty for one that says too little."""
        title = title_of(passage)
        telling = [word for word in words(title) if word not in _GLUE and not word.isdigit()]
        fits = len(telling) >= 2 and FORMS["title"](title) is None
        return title if fits and self.first[title] == passage.id else ""

    def _is_subject(self, phrase: str) -> bool:
        """Return whether a phrase that a passage repeats is what it is about: hardly a plain word.

        A name, two words, or a word of few passages.
        """
        rare = all(self.holding[word] <= max(KNOWN * self.number, 3) for word in words(phrase))
        return rare or " " in phrase or bool(NAME.search(phrase[1:]))

    def _phrases(self, sentence: str) -> Iterator[tuple[str, float, int]]:
        """Yield the runs of telling words, with their mean weight and their place."""
        run: list[re.Match[str]] = []
        for match in itertools.chain(_TOKEN.finditer(sentence), (None,)):
            joined = match and (not run or sentence[run[-1].end() : match.start()] == " ")
            if match and joined and self._tells(match[0]):
                run.append(match)
                continue
            if run:
                kept = run[-PHRASE:]
                text = sentence[kept[0].start() : kept[-1].end()]
                parts = words(text)
                weight = sum(map(self._weight, parts)) / max(len(parts), 1)
                yield text, weight, kept[0].start()
            run = [match] if match and self._tells(match[0]) else []

    def _tells(self, word: str) -> bool:
        low = word.lower()
        if low in _GLUE or low in _VERBS or len(low) < 2 or low in _VAGUE_WORDS:
            return False
        if _VERBAL.search(word):
            return False
        if low.isdigit() or not any(map(str.isalpha, low)):
            return False
        return any(self.holding[part] <= max(RARE * self.number, 3) for part in words(word))

    def _weight(self, word: str) -> float:
        return log((self.number + 1) / (self.holding[word] + 0.5))


def title_of(passage: Passage) -> str:
    """Return the heading right above a passage, without its number; below a short one the title."""
    bare = _plain(passage.headings[-1] if passage.headings else passage.title)
    title = _plain(passage.title)
    if (
        len([word for word in words(bare) if word not in _GLUE]) >= 2
        or bare.lower() in title.lower()
    ):
        return bare
    return f"{title}: {bare}" if title else bare


def _plain(heading: str) -> str:
    """Return a heading without number, marks and a manual's section; capitals alone are lowered."""
    bare = _SECTION.sub("", _NUMBERED.sub("", heading)).strip(" #*:.…")
    return bare.lower() if bare.isupper() and len(bare) > 4 else bare
