"""Spans that an answer is certainly taken from; traps in which a mark would be wrong."""

import pytest

from dalm.rag.support import Span, support_of

PUMP = (
    "The pump is in the cellar and is serviced by the house's own staff. Its oil is changed every "
    "500 operating hours, with oil of the kind that the table lists. Never open the valve of the "
    "boiler under pressure. The filter of the pump is washed each spring. The dose is 1.5 mg for "
    "each litre of the water. At −5 °C or below the line is emptied. Is the door of the cellar "
    "kept closed? The tank holds 1 500 litres of fresh water. The alarm of the tank is loud. "
    "The alarm of the tank is loud."
)


def marked(answer: str, passage: str = PUMP) -> list[str]:
    return [passage[start:end] for start, end in support_of(answer, passage)]


@pytest.mark.parametrize(
    ("answer", "right"),
    [
        ("every 500 operating hours", ["every 500 operating hours"]),
        ("Every 500 operating hours [1].", ["every 500 operating hours"]),
        ("The filter of the pump is washed each spring.",
         ["The filter of the pump is washed each spring"]),
        ("the FILTER of the  pump\nis washed each spring", []),  # lines are statements of their own
        ("the FILTER of the  pump is washed each spring!",
         ["The filter of the pump is washed each spring"]),
        ("It is old. The filter of the pump is washed each spring [1, 2]. Nobody knows why.",
         ["The filter of the pump is washed each spring"]),
        ("- every 500 operating hours\n- is serviced by the house's own staff",
         ["is serviced by the house's own staff", "every 500 operating hours"]),
        ("“is washed each spring”", []),  # the quotation marks aren't in the passage
    ],
)  # fmt: skip
def test_what_stands_there_word_for_word_is_marked(answer, right):
    assert marked(answer) == right


@pytest.mark.parametrize(
    "answer",
    [
        "",
        "[1]",
        "500",  # a number alone
        "the pump",  # a name alone
        "of the",  # nothing by itself
        "the filter of the pump",  # a name of several words
        "open the valve of the boiler under pressure",  # the passage says never
        "Open the valve of the boiler under pressure.",
        "5 mg for each litre of the water",  # it says 1.5
        "5 °C or below the line is emptied",  # it says −5
        "500 litres of fresh water",  # it says 1 500
        "the door of the cellar kept closed",  # it asks
        "The alarm of the tank is loud.",  # it says so twice
        "every 50 operating hours",
        "every 500 operating hour",  # a part of a word
        "Its oil is changed every 500 hours",  # not word for word
    ],
)
def test_what_is_not_certain_is_not_marked(answer):
    assert support_of(answer, PUMP) == []


@pytest.mark.parametrize(
    ("answer", "passage"),
    [
        ("102 litres of water in it", "There are 10² litres of water in it."),
        ("costs 5 euros for each", "The ticket costs 5 euros for each, and not more than that."),
        ("heated oil is led back", "The pre-heated oil is led back."),
        ("the oil of the pump is changed", "the oil of the pump is changed-over"),
        ("efter 500 timmar av drift",  # of no language whose negations are listed
         "Oljan i pumpen är inte ny, och den byts efter 500 timmar av drift som det är för andra."),
        ("20 mg of it a day", "Take < 20 mg of it a day, as the doctor and the chart say."),
        ("holds ab cd ef gh", "It holds ab cd ef gh/l of the salt and of the other salts in it."),
        ("mg of salt in it", "😀 It has mg of salt in it."),  # browsers count 😀 as two
        ("is it the pump of the house", "What is it the pump of the house?"),
        ("der Hahn wird geöffnet", "Nie ist es so, dass der Hahn wird geöffnet und der Kessel "
         "unter Druck ist, denn nicht ist das von der Firma so."),
    ],
)  # fmt: skip
def test_traps(answer, passage):
    assert support_of(answer, passage) == []


def test_other_scripts_and_signs():
    german = "Das Öl der Pumpe wird nach 500 Stunden gewechselt. Der Filter ist aus Stahl."
    assert marked("nach 500 Stunden gewechselt", german) == ["nach 500 Stunden gewechselt"]
    chinese = "每运行五百小时更换一次机油。阀门在压力下不得打开。"
    assert marked("每运行五百小时更换一次机油。", chinese) == ["每运行五百小时更换一次机油"]
    assert support_of("在压力下不得打开", chinese) == []  # a part of a sentence
    assert marked("It's the “house’s” own valve.", 'It’s the "house\'s" own valve.') == []
    assert marked("It's the house's own valve.", "It’s the house’s own valve.") == [
        "It’s the house’s own valve"
    ]
    soft = "The oper\u00adating hours are counted."
    assert marked("The operating hours are counted.", soft) == []


def test_spans_are_in_order_and_joined():
    passage = "Ada lives in Ulm. She keeps two cats. They sleep in the day."
    answer = "They sleep in the day. Ada lives in Ulm. She keeps two cats."
    assert support_of(answer, passage) == [Span(0, 16), Span(18, 36), Span(38, 59)]
    both = "Ada lives in Ulm. She keeps two cats."
    assert support_of(both, passage) == [Span(0, 36)]
