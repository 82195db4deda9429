from dalm.records import Passage
from dalm.synth.pairs import Pair, columns_of

KNOWN = Passage.of("The pump holds 12 bar.", "Pump", source="pump.pdf", page=3, headings=("Data",))
OTHER = Passage.of("Valves are red.", "Valves", document="v", extra={"team": "x", "Query": "no"})


def pair(passage: Passage) -> Pair:
    return Pair(passage, "What?", "12 bar", passage.text, "fact", "m", "1")


def test_a_table_has_the_provenance_of_its_passages():
    columns = columns_of([pair(KNOWN), pair(OTHER)])
    assert list(columns)[:4] == ["Title", "Passage", "Query", "Answer"]
    assert columns["source"] == ["pump.pdf", None]
    assert columns["headings"] == [["Data"], None]
    assert columns["page"] == [3, None]
    assert columns["document"] == [None, "v"]
    assert columns["team"] == [None, "x"]
    assert columns["Query"] == ["What?", "What?"], "a column of the table wins"
    assert not {"start", "end"} & set(columns)


def test_without_provenance_there_are_no_such_columns():
    columns = columns_of([pair(Passage.of("The pump holds 12 bar."))])
    assert list(columns)[-1] == "SecondQuote"
