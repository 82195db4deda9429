"""Detect the language of a text by its script and its function words.

Rules for one language (questions, exercises) ask here first, so that they leave other texts alone.
"""

import logging
import re
import unicodedata
from collections import Counter, defaultdict
from collections.abc import Sequence

from dalm.records import Passage

logger = logging.getLogger(__name__)

ENGLISH = "English"
UNKNOWN = "unknown"
"""A text too short to tell, in two languages, or in one without a list of function words."""

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
"""The function words of English."""

_LISTED = {
    "German": """der die das den dem des ein eine einen einem einer eines und oder aber nicht auch
        ist sind war waren wird werden wurde wurden hat haben hatte kann können muss müssen soll
        sollte von vom zu zum zur mit bei nach aus auf für über unter durch gegen ohne um am im in
        an als wie wenn dass daß vor darf dürfen hier wurde weil ob sich es er sie wir ihr ihre
        sein seine diese dieser dieses noch nur schon sehr mehr so dann bis sowie keine kein man
        was ich zwischen""",
    "French": """le la les l un une des du de d et ou mais ne pas est sont était étaient été être a
        ont avait peut peuvent doit doivent dans en sur sous par pour avec sans entre vers chez au
        aux ce cet cette ces il elle ils elles on nous vous se s qui que qu dont où si comme plus
        moins très aussi son sa ses leur leurs lors ainsi n je y c j""",
    "Spanish": """el la los las un una unos unas y o pero no es son era eran fue fueron ser está
        están ha han había puede pueden debe deben de del en por para con sin sobre entre hasta
        desde hacia a al que qué se su sus lo le les este esta estos estas ese esa como cuando
        donde más menos muy también si ya yo nos""",
    "Italian": """il lo la i gli le l un uno una e ed o ma non è sono era erano stato stata essere
        ha hanno aveva può possono deve devono di del dello della dei degli delle d da dal dalla
        dalle in nel nella nei nelle a al alla ai alle con su sul sulla per tra fra che chi cui si
        se come quando dove più meno molto anche questo questa questi queste suo sua""",
    "Portuguese": """o a os as um uma uns umas e ou mas não é são era eram foi foram ser está estão
        tem têm tinha pode podem deve devem de do da dos das em no na nos nas por pelo pela para
        com sem sobre entre até ao à aos às que se seu sua seus suas este esta isso como quando
        onde mais menos muito também já""",
    "Dutch": """de het een en of maar niet ook is zijn was waren wordt worden werd werden heeft
        hebben had mag mogen kan kunnen moet moeten zal van voor met bij naar uit op over onder
        door tegen zonder om aan in te tot als dan dat die dit deze er ze hij zij we wij ik je uw
        hun haar nog alleen al zeer meer zo geen men wat tussen""",
    # Neighbours, so that they are not taken for one of the above
    "Danish": """og i at det en et den til er som på de med af der ikke har for fra blev kan jeg
        efter""",
    "Norwegian": "og i at det en et den til er som på de med av ikke har for fra ble kan jeg etter",
    "Swedish": "och i att det en ett den till är som på de med av inte har för från kan jag efter",
    "Finnish": "ja on ei se että oli ovat myös kun tai joka mutta sekä niin kuin hän voi ole jos",
    "Polish": """i w na z do nie się że jest to o jak po od za ale są przez dla oraz był może lub
        ich""",
    "Czech": "a v na je se že s z do o jako po od za ale jsou pro nebo byl byla které který při k",
    "Hungarian": "a az és egy hogy nem is van volt meg ez de mint csak vagy el még ha lehet már",
    "Romanian": "și în de la cu un o pe din că nu este sunt care mai pentru sau fost prin al ale",
    "Turkish": "ve bir bu da de için ile olarak gibi daha çok en olan ne ya ki kadar sonra göre",
    "Indonesian": "yang dan di dengan untuk ini itu dari dalam pada tidak adalah ke atau oleh akan",
    "Catalan": "el la els les un una i o però no és són de del dels en per amb que es com més va",
    "Vietnamese": "và của là có trong được cho các với không một những này khi từ đã ở để người",
}

FUNCTION_WORDS_OF = {ENGLISH: FUNCTION_WORDS} | {
    language: frozenset(listed.split()) for language, listed in _LISTED.items()
}
"""Function words by language, the short list of a neighbour included."""

_LANGUAGES_OF: defaultdict[str, list[str]] = defaultdict(list)
for _language, _words in FUNCTION_WORDS_OF.items():
    for _word in _words:
        _LANGUAGES_OF[_word].append(_language)

SAMPLE = 4000  # characters of a text that are looked at
LETTERS = 400  # of these, letters whose script is looked up
SHARE = 0.12  # of the words that are function words, at least
LEAD = 1.6  # of the best language over the second
_WORD = re.compile(r"[^\W\d_]+")
_KANA = frozenset({"HIRAGANA", "KATAKANA", "KATAKANA-HIRAGANA"})
_NAMES = {"CJK": "Chinese", "KANA": "Japanese", "HANGUL": "Korean", "MYANMAR": "Burmese"}
"""Of languages whose script is theirs, where the script's name is another."""


def language_of(text: str) -> str:
    """Return a text's language by its English name, or its script's name, or `UNKNOWN`.

    Languages in Latin letters are told by their function words: English, German, French, Spanish,
    Italian, Portuguese, Dutch, and some that could be taken for these. They have to be 0.12 of the
    words, and to weigh 1.6 times what those of any other language do; a word that is one in n
    languages weighs 1/n. Otherwise the answer is the script of most letters: Chinese, Japanese,
    Korean, Thai, Cyrillic, Arabic, Devanagari ...
    """
    sample = text[:SAMPLE]
    script = "LATIN" if sample.isascii() else _script_of(sample)
    return _by_function_words(sample) if script == "LATIN" else _NAMES.get(script, script.title())


def is_english(text: str) -> bool:
    """Return whether a text is English, as far as can be told."""
    return language_of(text) == ENGLISH


def log_other_languages(passages: Sequence[Passage], consequence: str) -> None:
    """Log how many passages are not English, and what that means for them."""
    languages = Counter(language_of(passage.text) for passage in passages)
    english = languages.pop(ENGLISH, 0)
    if others := languages.total():
        listed = ", ".join(f"{count} {language}" for language, count in languages.most_common(3))
        logger.info(
            "language   %d of %d passages %s not English (%s): %s",
            *(others, english + others, "is" if others == 1 else "are", listed, consequence),
        )


def _script_of(sample: str) -> str:
    """Return the script of most letters, as Unicode names it; Han letters with kana are KANA."""
    letters = "".join(_WORD.findall(sample))
    found = Counter(_script(letter) for letter in letters[:: 1 + len(letters) // LETTERS])
    if found["KANA"] and found["CJK"] <= 20 * found["KANA"]:
        found["KANA"] += found.pop("CJK", 0)
    return max(found, key=lambda name: found[name], default="LATIN")


def _script(letter: str) -> str:
    name = unicodedata.name(letter, "LATIN").partition(" ")[0]
    return "KANA" if name in _KANA else name


def _by_function_words(sample: str) -> str:
    weights: defaultdict[str, float] = defaultdict(float)
    hits = Counter[str]()
    words = _WORD.findall(sample.lower())
    for word in words:
        languages = _LANGUAGES_OF.get(word, ())
        hits.update(languages)
        for language in languages:
            weights[language] += 1 / len(languages)
    best, second, *_ = [*sorted(weights, key=lambda name: -weights[name]), UNKNOWN, UNKNOWN]
    clear = hits[best] >= SHARE * len(words) and weights[best] >= LEAD * weights[second]
    return best if clear and words else UNKNOWN
