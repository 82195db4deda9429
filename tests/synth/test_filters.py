import pytest

from dalm.records import Passage
from dalm.synth.filters import apply_filters, find_quote
from dalm.synth.pairs import Pair

TEXT = (
    "The pump at Ulm, built in 1874, holds 12 bar. It's called the “Iron Maid”\nby the keepers — "
    "because it never sleeps."
)
QUOTE = "The pump at Ulm, built in 1874, holds 12 bar."


def pair(**changes) -> Pair:
    given = {
        "passage": Passage.of(TEXT),
        "query": "What pressure does the pump at Ulm hold?",
        "answer": "12 bar",
        "quote": QUOTE,
        "kind": "fact",
        "generator": "m",
        "prompt_version": "1",
    }
    return Pair(**given | changes)


def verdict(**changes) -> tuple[str, str] | None:
    rejections = []
    passed = apply_filters([pair(**changes)], rejections)
    assert len(passed) + len(rejections) == 1
    return (rejections[0].filter, rejections[0].reason) if rejections else None


def test_a_good_question_passes_and_knows_its_quote():
    [passed] = apply_filters([pair()], [])
    assert TEXT[passed.start : passed.end] == QUOTE == passed.quote


@pytest.mark.parametrize(
    ("gate", "changes"),
    [
        ("shape", {"query": "The pressure of the pump at Ulm"}),
        ("shape", {"query": "Ulm pump?"}),
        ("shape", {"query": "Is the pump at Ulm " + "really " * 80 + "old?"}),
        ("shape", {"answer": "—"}),
        ("shape", {"answer": "12 bar " * 300}),
        ("shape", {"answer": "This is not mentioned."}),
        (
            "no mention of the passage",
            {"query": "According to the text, what holds 12 bar at Ulm?"},
        ),
        ("no mention of the passage", {"query": "What does the passage say of the pump at Ulm?"}),
        ("no mention of the passage", {"query": "What pump is described in this study of Ulm?"}),
        ("no mention of the passage", {"query": "Welche Pumpe steht laut dem Text in Ulm?"}),
        ("shape", {"query": "Who built the Iron Maid pump?", "answer": "built the Iron Maid pump"}),
        ("quote in the passage", {"quote": ""}),
        ("quote in the passage", {"quote": "The pump at Bern holds 12 bar."}),
        ("quote in the passage", {"other": Passage.of("Else."), "other_quote": "nowhere"}),
        ("answer in the quote", {"answer": "13 bar"}),
        ("answer in the quote", {"answer": "a high pressure of steam"}),
        ("answer in the quote", {"quote": "because it never sleeps", "answer": "12 bar"}),
        ("shape", {"query_type": "keywords", "query": "What is the pump of Ulm?"}),
        ("shape", {"query_type": "keywords", "query": "the pump that is in Ulm"}),
        ("shape", {"query_type": "keywords", "query": "pump"}),
        ("shape", {"query_type": "title", "query": "The pump at Ulm is old."}),
        ("shape", {"query_type": "claim", "query": "Does the pump at Ulm hold 12 bar?"}),
        ("shape", {"query_type": "claim", "query": "Ulm pump holds"}),
        ("shape", {"query_type": "how-to", "query": "start pump"}),
        ("shape", {"query_type": "follow-up", "query": "And where is the pump at Ulm?"}),
        ("shape", {"answer_type": "unanswerable", "query": "Pump of Ulm"}),
        ("question stands alone", {"answer_type": "unanswerable", "query": "Who built it there?"}),
        ("question stands alone", {"query": "What does it hold in this case?"}),
        ("question stands alone", {"query": "What pressure did they choose?"}),
        ("question stands alone", {"query": "What pressure do the pumps of our study hold?"}),
        ("question stands alone", {"query": "What is the pressure of the pump in Figure 3?"}),
        ("question stands alone", {"query": "What is held?"}),
        ("question stands alone", {"query": "When was it built in Ulm?"}),
        ("question stands alone", {"query": "Which pumps are those?"}),
        ("question stands alone", {"query": "What pump is shown in section B of the house?"}),
    ],
)
def test_each_gate(gate, changes):
    assert verdict(**changes)[0] == gate


@pytest.mark.parametrize(
    "changes",
    [
        {"query": "Wie hoch ist der Druck der Pumpe in Ulm?", "answer": "12 bar"},
        {"query": "乌尔姆的泵压力是多少？"},
        {"query": "The pump at Ulm holds ____"},
        {"query": "Does the pump at Ulm hold 12 bar?", "answer": "Yes"},
        {"query": "Why does a keeper say that the pump never sleeps when it runs?"},
        {"query": "In which text did Goethe mention the pump at Ulm?"},
        {"answer": "12 bars"},
        {"query": "Does the pump at Ulm hold 12 bar or 30 bar?", "answer": "12 bar"},
        {"query": "When was the pump at Ulm built?", "answer": "1874"},
        {"answer": "Ja, 12 bar"},
        {"query_type": "keywords", "query": "Ulm pump pressure"},
        {"query_type": "title", "query": "The pump at Ulm"},
        {"query_type": "claim", "query": "The pump at Ulm holds 20 bar", "answer": "No, 12 bar"},
        {"query_type": "how-to", "query": "how to start the pump at Ulm"},
        {"query_type": "symptom", "query": "pump at Ulm stops after a minute"},
        {"query_type": "follow-up", "query": "What is the Iron Maid? And what does it hold?"},
        {
            "answer_type": "unanswerable",
            "query": "Who sold the pump at Ulm?",
            "answer": "unanswerable",
            "quote": "",
        },
        {"query": "What does COVID-19 mean?"},
        {"query": "What is asthma?"},
        {"query": "In the US, who builds pumps?"},
        {"query": "How long does it take for new pumps to hold 12 bar?"},
        {"query": "Is it safe to run a pump at night?"},
        {"query": "Do old pumps hold more than those with new seals?"},
        {"query": "Who cut a section open?"},
    ],
)
def test_what_passes(changes):
    assert verdict(**changes) is None


@pytest.mark.parametrize(
    ("quote", "answer", "passes"),
    [
        ("Inoviruses were once infused in humans [158] .", "158", False),
        ("The pump holds well (21) (22) .", "21.", False),
        ("Both holds were tried [3, 14–16].", "14", False),
        ("The pump holds 158 bar [158].", "158", True),
        ("Dogs (14) and cats (7) were treated.", "14 dogs", True),
    ],
)
def test_the_number_of_a_reference_is_no_answer(quote, answer, passes):
    changes = {"passage": Passage.of(quote), "quote": quote, "answer": answer}
    found = verdict(**changes)
    assert (found is None) == passes
    assert passes or found == ("answer in the quote", "it is the number of a reference")


@pytest.mark.parametrize(
    ("quote", "found"),
    [
        (QUOTE, QUOTE),
        ('"the PUMP at  Ulm,\nbuilt in 1874"', "The pump at Ulm, built in 1874"),
        ('It’s called the "Iron Maid" by', "It's called the “Iron Maid”\nby"),
        ("by the keepers - because", "by the keepers — because"),
        ("it never sleeps...", "it never sleeps"),
        ("holds 13 bar", None),
        ("  ", None),
        ("...", None),
        (".*", None),
    ],
)
def test_a_quote_is_found_to_the_letter_or_nearly_so(quote, found):
    span = find_quote(quote, TEXT)
    assert (span and TEXT[slice(*span)]) == found
