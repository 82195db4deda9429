import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalm.records import Passage
from dalm.synth.extractive import BLANK, extract


def asked(text: str, number: int = 3) -> list[tuple[str, str]]:
    return [(pair.query, pair.answer) for pair in extract(Passage.of(text), number)]


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "Mother-to-child transmission (MTCT) is the main cause of sickness in infants [1].",
            "What is Mother-to-child transmission?",
            "the main cause of sickness in infants",
        ),
        (
            "However, about 45% of untreated patients died within two weeks of admission.",
            "What percentage of untreated patients died within two weeks of admission?",
            "about 45%",
        ),
        (
            "In contrast, 197 infants were recruited in Harare, which was at peace.",
            "How many infants were recruited in Harare?",
            "197",
        ),
        (
            "The old bridge was closed to all traffic in March 1987.",
            "When was the old bridge closed to all traffic?",
            "March 1987",
        ),
        (
            "The pump is stopped every night because the keepers need sleep.",
            "Why is the pump stopped every night?",
            "the keepers need sleep",
        ),
        (
            "The virus spreads quickly due to crowded housing and cold weather.",
            "Why is it that the virus spreads quickly?",
            "crowded housing and cold weather",
        ),
        (
            "Old seals can be renewed by heating the rubber slowly.",
            "How can Old seals be renewed?",
            "by heating the rubber slowly",
        ),
        (
            "The skerrow at Dulmaven requires oil of the third grade.",
            "What requires oil of the third grade?",
            "The skerrow at Dulmaven",
        ),
        (
            "Patients with severe acute respiratory syndrome (SARS) came to us last winter.",
            "What does SARS stand for?",
            "severe acute respiratory syndrome",
        ),
    ],
)
def test_english_forms(sentence, question, answer):
    assert (question, answer) in asked(sentence, 9)


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "Die Stadt Ulm liegt an der Donau und hat etwa 128.000 Einwohner.",
            f"Die Stadt Ulm liegt an der Donau und hat etwa {BLANK} Einwohner",
            "128.000",
        ),
        (
            "Das „Ulmer Münster“ besitzt den höchsten aller Kirchtürme.",
            f"Das „{BLANK}“ besitzt den höchsten aller Kirchtürme",
            "Ulmer Münster",
        ),
        (
            "Dans le port de la ville on trouve des bateaux extraordinaires.",
            f"Dans le port de la ville on trouve des bateaux {BLANK}",
            "extraordinaires",
        ),
    ],
)
def test_a_cloze_in_any_language(sentence, question, answer):
    assert (question, answer) in asked(sentence, 9)


def test_pronouns_are_no_subjects_and_halves_no_sentences():
    cut = "which was the main cause of infection. It is the main cause of all infection in 1999"
    assert asked(cut) == []
    assert all(not q.startswith("What is it") for q, _ in asked("It is the main cause of pain."))


def test_a_heading_is_no_part_of_a_sentence():
    text = "# Pumps of Ulm\n\nThe pump is a machine for water."
    assert {pair.quote for pair in extract(Passage.of(text), 9)} == {text.split("\n\n")[1]}


def test_references_and_addresses_are_no_prose():
    text = "See https://example.org/a/b for the main results of 1999. Mail ulm@example.org in 1999."
    assert asked(text) == []


def test_sentences_come_before_second_questions_and_in_their_order():
    text = "The pump is a machine for water. The fan is a machine for air. "
    text += "The boiler is a vessel for steam."
    assert [q for q, _ in asked(text)] == [
        "What is the pump?",
        "What is the fan?",
        "What is the boiler?",
    ]
    assert len(asked(text, 1)) == 1
    assert len(set(asked(text, 9))) > 3


def test_quotes_and_answers_stand_in_the_passage():
    text = (
        "The pump (an old one) was built in Ulm in 1874 [3]. It was sold to “Meyer and Sons” later."
    )
    pairs = extract(Passage.of(text), 9)
    assert pairs
    assert all(pair.quote in text for pair in pairs)
    assert {pair.kind for pair in pairs} <= {"fact", "why", "how"}


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            "The pump is a big machine for water . ( ) [1] “ ” ; , because of 12 % in 1999 "
            "by heating SARS (SARS) two engines \n\n ? ! — 肺炎 。 È …".split(" ")
        )
        | st.text(max_size=6),
        max_size=40,
    ).map(" ".join)
)
def test_any_text_gives_questions_or_none(text):
    for pair in extract(Passage.of(text), 4):
        assert pair.query.strip()
        assert pair.answer.strip()
        assert pair.quote in text
    assert extract(Passage.of(text), 4) == extract(Passage.of(text), 4)


@pytest.mark.parametrize(
    "text",
    [
        "Später im Jahr gibt es ein Phänomen, das zum Hummeltod führt. So viel Nektar konnten die "
        "Pflanzen gar nicht produzieren. Die Linde was früher häufig in den Parks dieser Stadt.",
        "Die Software was früher nicht ohne Internet nutzbar, und der Import is heute möglich.",
        "Le moteur a une puissance de 12 kW can être utilisé dans les grandes installations.",
    ],
)
def test_a_text_in_another_language_gets_gaps_only(text):
    found = asked(text, 9)
    assert found
    assert all(BLANK in question for question, _ in found)


def test_a_foreign_sentence_in_an_english_text_gets_gaps_only():
    text = (
        "The bees of this park are in need of lime trees, and the trees are old. "
        "So viel Nektar can die Pflanze gar nicht für alle Hummeln produzieren. "
        "It is one of the reasons for the loss of so many of them."
    )
    foreign = [question for question, _ in asked(text, 20) if "Nektar" in question]
    assert all(BLANK in question for question in foreign)
