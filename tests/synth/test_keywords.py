import pytest

from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.keywords import KeywordPicker, title_of
from dalm.synth.query_mix import Slot

TEXT = (
    "The relief valve of the skerrow is stuck in frost. A skerrow is usually started with the hand "
    "crank, which is kept in the engine house."
)
OTHERS = [Passage.of(f"The engine of hall {n} is started and kept in a house.") for n in range(30)]


def queries(passage: Passage, name: str, number: int = 2) -> list[tuple[str, str]]:
    found = extract(passage, [Slot(name, "long")] * number, KeywordPicker([passage, *OTHERS]))
    return [(pair.query, pair.answer) for pair in found]


def test_keywords_are_the_subject_and_the_rarest_phrases_of_a_sentence():
    first, second = TEXT.split(". ")
    assert queries(Passage.of(TEXT), "keywords") == [
        ("skerrow relief valve", f"{first}."),
        ("skerrow hand crank", second),
    ]


def test_sentences_without_a_telling_phrase_give_none():
    assert queries(OTHERS[3], "keywords") == []
    assert queries(Passage.of("泵在乌尔姆。它在十二巴时自动关闭。"), "keywords") == []


@pytest.mark.parametrize(
    ("title", "headings", "found"),
    [
        ("7.2. Common Procedures", ("7.2.3. Asking for Help",), "Asking for Help"),
        ("git-push(1)", ("git-push(1) Manual Page", "OPTIONS"), "git-push: options"),
        ("Pumps", (), "Pumps"),
        ("Pumps of Ulm", ("Pumps",), "Pumps"),
        ("", ("Old seals and valves",), "Old seals and valves"),
        ("", ("Seals",), "Seals"),
    ],
)
def test_a_short_heading_has_the_title_before_it(title, headings, found):
    assert title_of(Passage.of("x", title, headings=headings)) == found


def test_only_the_first_passage_under_a_heading_has_it_as_a_query():
    texts = (TEXT, f"Later on. {TEXT}", "What is a skerrow?")
    passages = [Passage.of(text, "Manual", headings=("Starting a skerrow",)) for text in texts]
    picker = KeywordPicker(passages)
    slots = [Slot("title", "long")]
    found = [extract(passage, slots, picker) for passage in passages]
    assert [[pair.query for pair in each] for each in found] == [["Starting a skerrow"], [], []]
    assert found[0][0].answer == TEXT.split(". ", maxsplit=1)[0] + "."


@pytest.mark.parametrize("title", ["article 630", "Pumps", "7.", ""])
def test_a_title_that_says_too_little_is_no_query(title):
    assert queries(Passage.of(TEXT, title), "title") == []
