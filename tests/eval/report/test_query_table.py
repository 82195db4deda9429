import json
from dataclasses import replace

from dalm.eval.report import query_table
from dalm.eval.report.query_table import as_script, table_data
from dalm.records import Hit, JudgedQuery, Passage
from tests.eval.example_results import BASE, GOLD, OTHER, TUNED, results


def test_every_system_is_told_in_the_first_ones_order():
    turned = replace(
        BASE,
        queries=BASE.queries[::-1],
        hits=[[Hit(GOLD, 2.0)], *BASE.hits[1:]],
        measures={name: column[::-1] for name, column in BASE.measures.items()},
        answers={"found": ["last", "c", "b", "a"]},
    )
    data = table_data([TUNED], turned)
    base, tuned = data["systems"]
    assert [query["id"] for query in data["queries"]] == ["q0", "q1", "q2", "q3"]
    assert base["answers"]["found"] == ["a", "b", "c", "last"]
    assert base["measures"]["R@10"] == list(BASE.measures["R@10"])
    assert base["ranks"] == [2, 2, 2, 1]
    assert base["hits"][3] == [[1, "g", 2.0]]
    assert tuned["hits"][0] == [[1, "o", 0.75], [2, "g", 0.5]]
    assert data["passages"] == {
        "o": ["title", "other", "", None],
        "g": ["", "gold “text”", "", None],
    }
    assert data["baseline"] is True


def test_bounds_and_measures_a_system_lacks_are_left_out():
    mine = results(measures={"EM": [1.0, 0.0, None, 0.3333333], "EM[gold]": [1.0] * 4})
    data = table_data([mine], replace(BASE, measures={}))
    assert data["measures"] == {
        "EM": {"label": "EM", "higher_is_better": True, "failures": "answered wrongly"}
    }
    assert data["systems"][1]["measures"] == {"EM": [1.0, 0.0, None, 0.3333]}
    assert data["systems"][0]["measures"] == {}


def test_hits_far_down_are_shown_if_they_are_relevant():
    passages = [Passage(f"p{i}", f"text {i}") for i in range(20)]
    hits = [Hit(p, 1 - rank / 50) for rank, p in enumerate(passages)]
    query = JudgedQuery(id="q", query="?", relevant={"p13": 1, "p0": 0, "lost": 1})
    mine = results(groups="a", queries=[query], hits=[hits], measures={}, answers={}, gold={})
    (system,) = table_data([mine], None)["systems"]
    assert [rank for rank, _, _ in system["hits"][0]] == [1, 2, 3, 4, 5, 14]


def test_a_passage_comes_with_its_source_and_page():
    passage = Passage("p", "text", "Manual", source="manual.pdf", page=12)
    data = table_data([results(hits=[[Hit(passage, 1.0)]] * 4, gold={})], None)
    assert data["passages"] == {"p": ["Manual", "text", "manual.pdf", 12]}


def test_where_there_is_no_room_the_questions_that_moved_keep_their_passages(monkeypatch):
    far = [[Hit(Passage(f"p{i}", f"passage {i} " * 9), 1.0)] for i in range(4)]
    mine = results(values=(0.5, 0.5, 0.5, 1.0), hits=far, gold={})
    base = replace(mine, name="base", measures={"R@10": [0.5, 0.0, 0.5, 0.9]})
    assert list(table_data([mine], base, room=200)["passages"]) == ["p1", "p3"]
    monkeypatch.setattr(query_table, "LONGEST_TEXT", 9)
    assert table_data([mine], base)["passages"]["p1"] == ["", "passage 1 …", "", None]


def test_a_judges_verdicts_stand_with_their_query():
    verdict = {"asked": "correctness", "first": {"word": "yes", "reason": "it <b>is</b>"}}
    both = verdict | {"query": "q2", "value": 0.5, "swapped": {"word": "no", "reason": "other"}}
    none = verdict | {"query": "q1", "value": None, "first": None, "swapped": None}
    (system,) = table_data([results(verdicts=[both, none])], None)["systems"]
    assert system["verdicts"] == {
        "q2": [["correctness", 0.5, "yes / no", "it <b>is</b>"]],
        "q1": [["correctness", None, "", ""]],
    }


def test_no_text_can_end_the_script_element():
    data = {"text": "</script><!-- & \u2028 “é”"}
    text = as_script(data)
    assert "<" not in text
    assert "&" not in text
    assert "\u2028" not in text
    assert "é" in text
    assert json.loads(text) == data
    assert OTHER.title == "title"
