import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dalm.records import Passage
from dalm.synth.extractive import extract
from dalm.synth.keywords import KeywordPicker
from dalm.synth.pairs import Pair
from dalm.synth.query_checks import BLANK
from dalm.synth.query_mix import Slot

ENGLISH = "It is one of the things that are in all of the texts, and that is what this is for. "
"""Enough function words for a text's language to be told."""


def extracted(text: str, number: int = 3, name: str = "question", **fields) -> list[Pair]:
    passage = Passage.of(text, **fields)
    return extract(passage, [Slot(name, "short")] * number, KeywordPicker([passage]))


def asked(text: str, number: int = 3) -> list[tuple[str, str]]:
    return [(pair.query, pair.answer) for pair in extracted(text, number)]


@pytest.mark.parametrize(
    ("sentence", "question", "answer"),
    [
        (
            "Mother-to-child transmission (MTCT) is the main cause of sickness in infants [1].",
            None,
            None,
        ),
        (
            "Mother-to-child transmission (MTCT) is a cause of sickness in infants [1].",
            "What is Mother-to-child transmission?",
            "a cause of sickness in infants [1]",
        ),
        (
            "The old bridge of Linz was closed to all traffic in March 1987.",
            "When was the old bridge of Linz closed to all traffic?",
            "March 1987",
        ),
        (
            "However, the Ulm pump is stopped every night because the keepers need sleep.",
            "Why is the Ulm pump stopped every night?",
            "the keepers need sleep",
        ),
        (
            "Old seals can be renewed by heating an old rubber slowly.",
            "How can old seals be renewed?",
            "by heating an old rubber slowly",
        ),
        (
            "The skerrow at Dulmaven requires oil of the third grade.",
            "What does the skerrow at Dulmaven require?",
            "oil of the third grade",
        ),
        (
            "Patients with severe acute respiratory syndrome (SARS) came to us last winter.",
            "What does SARS stand for?",
            "severe acute respiratory syndrome",
        ),
        (
            "The pump is run by a PLC (programmable logic controller) in the hall.",
            "What does PLC stand for?",
            "programmable logic controller",
        ),
        (
            "To remove a package with its settings, run apt purge and the name.",
            "How do you remove a package with its settings?",
            None,
        ),
        (
            "To remove a package from the disk, run apt remove and the name.",
            "How do you remove a package from the disk?",
            "run apt remove and the name",
        ),
        (
            "If the core.pager variable is empty, the output is not paged.",
            "What happens if the core.pager variable is empty?",
            "the output is not paged",
        ),
        (
            "The orchard of Linz has 220 trees and a wall.",
            "How many trees does the orchard of Linz have?",
            "220",
        ),
        (
            "A flow meter is used to measure the water in the pipes.",
            "What is a flow meter used for?",
            "to measure the water in the pipes",
        ),
        (
            "The GRUB 2 configuration is stored in a file of the boot partition.",
            "Where is the GRUB 2 configuration stored?",
            "in a file of the boot partition",
        ),
        (
            "The LVM layer allows you to resize the partitions later.",
            "What does the LVM layer allow you to do?",
            "resize the partitions later",
        ),
        (
            "Hemolytic anemia, also known as blood poverty, is seen in old dogs.",
            "What is another name for Hemolytic anemia?",
            "blood poverty",
        ),
    ],
)
def test_a_form_that_is_certain_is_asked_about(sentence, question, answer):
    found = dict(asked(ENGLISH + sentence, 9))
    if answer is None:
        assert question not in found
    else:
        assert found.get(question) == answer


@pytest.mark.parametrize(
    "sentence",
    [
        "The virus was allowed to absorb, and the surface was covered in wax.",
        "The same antibody was used in 2005 by Dorgham in order to screen the library.",
        "The present study is an attempt to find the cause of it all.",
        "Foreign antigens are shown as red spheres in the picture.",
        "The methods were carried out in accordance with the approved guidelines.",
        "Adult mice were kept in the Laboratory Animal Center of Wuhan in 2009.",
        "Text: response to the Ebola outbreak in the north of Guinea.",
        "The purpose of these codenames is to make the mirroring easier.",
        "A practical example is the use of a second pump.",
        "It is the main cause of pain in the neck of a swimmer.",
        "Header lines start with a hash and are added in response to arguments.",
        "Introduction to the pumps of Ulm . . . . . . . . . . . . . 12.",
        "Oxygenation was not maintained with conventional support in any of the patients.",
        "To date, use of the pump is a rare thing in the town of Ulm.",
        "Melanoma Antigen A1 (MAGE A1) is shown by the phages in the figure.",
    ],
)
def test_a_doubtful_form_is_not_asked_about(sentence):
    assert asked(ENGLISH + sentence, 9) == []


@pytest.mark.parametrize(
    ("text", "question", "answer"),
    [
        (
            "Die Stadt Ulm liegt an der Donau und hat etwa 128.000 Einwohner.",
            f"Die Stadt Ulm liegt an der Donau und hat etwa {BLANK} Einwohner",
            "128.000",
        ),
        (
            "Das „Ulmer Münster“ besitzt den höchsten aller Kirchtürme und ist sehr alt.",
            f"Das „{BLANK}“ besitzt den höchsten aller Kirchtürme und ist sehr alt",
            "Ulmer Münster",
        ),
    ],
)
def test_a_gap_in_another_language(text, question, answer):
    assert (question, answer) in asked(text, 9)


@pytest.mark.parametrize(
    "text",
    [
        "Die Pumpe in der Halle ist auf Seite 12 und auf Seite 14 beschrieben und ist sehr alt.",
        "Die Pumpen der Stadt und die Ventile . . . . . . . . . . . . . . . 1200.",
        "Dans le port de la ville on trouve des bateaux extraordinaires qui sont dans les rues.",
        "Chowell G, Castillo C, Fenimore PW, Kribs CM, Arriola L, Hyman JM 1234.",
    ],
)
def test_no_gap_of_a_page_number_a_common_word_or_a_reference(text):
    assert asked(text, 9) == []


def test_a_cut_passage_is_not_trusted_at_its_ends():
    cut = "Infection is the main cause of pain. " + ENGLISH + "A pump is a machine for water. It is"
    assert [question for question, _ in asked(cut, 9)] == ["What is a pump?"]
    whole = "Infection is a cause of pain. " + ENGLISH + "A pump is a machine for water."
    assert len(asked(whole, 9)) == 2


def test_a_heading_is_no_part_of_a_sentence():
    text = f"# Pumps of Ulm\n\nA pump is a machine for water. {ENGLISH}"
    assert {pair.quote for pair in extracted(text)} == {"A pump is a machine for water."}


def test_references_and_addresses_are_no_prose():
    text = "See https://example.org/a/b for the main results of 1999. Mail ulm@example.org in 1999."
    assert asked(text) == []


def test_sentences_come_before_second_questions_and_in_their_order():
    text = f"A pump is a machine for water. {ENGLISH} A fan is a machine for air. "
    text += "A boiler is a vessel for steam."
    assert [q for q, _ in asked(text)] == ["What is a pump?", "What is a fan?", "What is a boiler?"]
    assert len(asked(text, 1)) == 1


def test_quotes_and_answers_stand_in_the_passage():
    text = (
        f"{ENGLISH}The DF pump (an old one) is used to lift water [3]. PLC (programmable logic "
        "controller) panels are used for the valves."
    )
    pairs = extracted(text, 9)
    assert len(pairs) >= 2
    assert all(pair.answer in pair.quote and pair.quote in text for pair in pairs)
    assert {pair.kind for pair in pairs} <= {"fact", "why", "how"}


def test_short_forms_that_stand_in_many_passages_lead_to_none():
    text = f"{ENGLISH}The polymerase chain reaction (PCR) is slow."
    passage = Passage.of(text)
    others = [Passage.of(f"{number} PCR runs were done.") for number in range(20)]
    slots = [Slot("question", "short")]
    assert extract(passage, slots, KeywordPicker([passage, *others])) == []
    assert len(extract(passage, slots, KeywordPicker([passage]))) == 1


@settings(max_examples=150, deadline=None, database=None, derandomize=True)
@given(
    st.lists(
        st.sampled_from(
            "The pump is a big machine for water . ( ) [1] “ ” ; , because of 12 % in 1999 "
            "by heating SARS (SARS) two engines \n\n ? ! — 肺炎 。 È … To If run you".split(" ")
        )
        | st.text(max_size=6),
        max_size=40,
    ).map(" ".join)
)
def test_any_text_gives_queries_or_none(text):
    for name in ("question", "keywords", "title"):
        for pair in extracted(text, 4, name, title=text[:60]):
            assert pair.query.strip()
            assert pair.answer in pair.quote
            assert pair.quote in text
        assert extracted(text, 4, name) == extracted(text, 4, name)


@pytest.mark.parametrize(
    "text",
    [
        "Später im Jahr gibt es ein Phänomen, das zum „Hummeltod“ führt. So viel Nektar konnten "
        "die Pflanzen gar nicht produzieren. Die Linde was früher häufig in den Parks der Stadt.",
        "Die Software was früher nicht ohne 12 kg Papier nutzbar, und der Import is heute möglich.",
        "Le moteur a une masse de 12 kg can être utilisé dans les grandes installations.",
    ],
)
def test_a_text_in_another_language_gets_gaps_only(text):
    found = asked(text, 9)
    assert found
    assert all(BLANK in question for question, _ in found)


def test_a_foreign_sentence_in_an_english_text_gets_no_question():
    text = (
        "The bees of this park are in need of lime trees, and the trees are old. "
        "So viel Nektar can die Pflanze gar nicht für alle Hummeln produzieren. "
        "It is one of the reasons for the loss of so many of them."
    )
    assert not [question for question, _ in asked(text, 20) if "Nektar" in question]
