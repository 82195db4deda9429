import pytest

from dalm.records import Passage
from dalm.synth.exercise_texts import TEMPLATES
from dalm.synth.exercises import KINDS, Exercise, mine, sentences_of, split_for_completion

FIRST = "The pump runs at full speed."


def mined(text: str, *, title: str = "", domain: tuple[str, ...] = ()) -> list[Exercise]:
    return mine(Passage.of(text, title), frozenset(domain))


@pytest.mark.parametrize(
    ("link", "kind"),
    [
        ("Therefore,", "entailment"),
        ("This shows that", "entailment"),
        ("However,", "contradiction"),
        ("In addition,", "neutral"),
        ("As a result,", "effect"),
        ("In other words,", "paraphrase"),
        ("That is,", "paraphrase"),
        ("By contrast,", "difference"),
    ],
)
def test_connectives_link_two_sentences(link, kind):
    found = mined(f"{FIRST} {link} the tank is soon empty.")
    assert found == [Exercise(kind, FIRST, "The tank is soon empty.")]


@pytest.mark.parametrize(
    "text",
    [
        "Therefore the tank is soon empty.",  # nothing before it
        "of a sentence cut within. Therefore, the tank is soon empty.",
        f"{FIRST} Therefore, the tank is soon",  # cut within
        f"{FIRST} That is why the tank is empty.",
        f"{FIRST} Therefore, no.",
        f"{FIRST} The tank is soon empty.",
    ],
)
def test_what_is_no_pair_of_whole_statements_is_left_alone(text):
    assert mined(text) == []


@pytest.mark.parametrize(
    ("sentence", "exercise"),
    [
        (
            "The old pump stopped because the seal was worn out.",
            Exercise("cause", "The old pump stopped.", "The seal was worn out."),
        ),
        (
            "The pump at Ulm stopped due to a worn seal.",
            Exercise("cause", "The pump at Ulm stopped.", "A worn seal."),
        ),
        (
            "A worn seal inside can often lead to a loss of oil.",
            Exercise("effect", "A worn seal inside.", "A loss of oil."),
        ),
        (
            "A relay is a type of switch that a current moves.",
            Exercise("definition", "relay", "A relay is a type of switch that a current moves."),
        ),
        (
            "Wet rot refers to a decay of timber by fungi.",
            Exercise("definition", "Wet rot", "Wet rot refers to a decay of timber by fungi."),
        ),
    ],
)
def test_a_sentence_by_itself(sentence, exercise):
    assert mined(sentence) == [exercise]


@pytest.mark.parametrize(
    "sentence",
    [
        "This is due to a worn seal in it.",
        "It leads to a loss of oil and more.",
        "The pump has a part which leads to a loss of oil.",
        "This is a type of switch that a current moves.",
    ],
)
def test_what_points_back_is_not_asked(sentence):
    assert mined(sentence) == []


def test_titles_and_words_of_the_domain():
    text = "The flange seals the manifold at its gasket. The flange is red and not blue."
    assert mined(text, title="Pumps", domain=("flange", "gasket", "manifold")) == [
        Exercise("title", "", "Pumps"),
        Exercise(
            "word-to-text",
            "flange, manifold, gasket",
            "The flange seals the manifold at its gasket.",
        ),
    ]


def test_a_completion_parts_a_text_near_its_middle():
    text = f"{FIRST} It does so all day long. {FIRST}\n\nThe tank is empty by the evening. {FIRST}"
    beginning, end = split_for_completion(text)
    assert beginning.endswith(FIRST)
    assert end.startswith("The tank")
    assert (beginning + end).split() == (text.replace("\n\n", "")).split()
    assert split_for_completion("One. Two.") is None
    assert split_for_completion("no end") is None


def test_sentences_lose_no_word():
    text = "One two.\nThree  four! Five"
    assert sentences_of(text) == ["One two.", "Three four!", "Five"]


def test_every_kind_has_a_wording_that_holds_its_texts():
    assert set(TEMPLATES) == set(KINDS)
    for kind, ways in TEMPLATES.items():
        for question, answer in ways:
            both = question + answer
            assert "{wanted}" in both, kind
            assert ("{given}" in both) == (kind not in ("title", "completion")), both


def test_english_connectives_are_looked_for_in_english_texts_only():
    text = (
        "Die Pumpe ist alt und wird nicht mehr benutzt. However, sie kann leicht zu Lecks führen."
    )
    assert mined(text, title="Pumpe") == [Exercise("title", "", "Pumpe")]
