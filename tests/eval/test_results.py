import json
import math
from dataclasses import replace

import pytest

from dalm.errors import UserError
from dalm.eval.results import Results, load, save
from dalm.io.trec import read_qrels, read_run
from dalm.records import Hit, JudgedQuery, Passage
from tests.eval.example_results import GOLD, TUNED, results


def test_a_run_is_loaded_as_it_was_saved(tmp_path):
    facts = {"seed": 3, "seconds": {"searching": 1.5}}
    reranked = [(Hit(Passage("r", "third"), 9.0), Hit(GOLD, 0.5))] * 4
    held = results(values=(1.0, None, 0.25, 0.0), facts=facts, reranked=reranked)
    save(tmp_path / "new" / "run", held, {"seed": 3})
    loaded = load(tmp_path / "new" / "run")
    assert loaded.queries == held.queries
    assert loaded.measures == held.measures
    assert loaded.answers == held.answers
    assert [list(hits) for hits in loaded.hits] == [list(hits) for hits in held.hits]
    assert list(map(tuple, loaded.reranked)) == reranked
    assert loaded.facts == held.facts
    assert loaded.gold == held.gold


def test_the_files_say_what_was_measured(tmp_path):
    save(tmp_path, TUNED, {"seed": 3})
    summary = json.loads((tmp_path / "results.json").read_text("utf-8"))
    assert (summary["name"], summary["queries"], summary["seed"]) == ("tuned", 4, 3)
    record = json.loads((tmp_path / "queries.jsonl").read_text("utf-8").splitlines()[2])
    assert record == {
        "id": "q2",
        "query": "question 2",
        "relevant": {"g": 1},
        "references": ["e", "é"],
        "answerable": None,
        "group": "b",
        "rank": 2,
        "hits": [{"id": "o", "score": 0.75}, {"id": "g", "score": 0.5}],
        "answers": {"found": "é"},
        "measures": {"R@10": 1.0, "nDCG@10": 0.5},
    }
    assert read_run(tmp_path / "run.trec")["q2"] == {"o": 0.75, "g": 0.5}
    assert read_qrels(tmp_path / "qrels.trec")["q2"] == {"g": 1}


def test_hits_stand_in_the_order_in_which_they_were_measured(tmp_path):
    backwards = replace(TUNED, hits=[hits[::-1] for hits in TUNED.hits])
    save(tmp_path, backwards, {})
    assert [hit.passage.id for hit in load(tmp_path).hits[0]] == ["o", "g"]
    assert backwards.rank(0) == 2


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match="R@10: 3 for 4"):
        replace(TUNED, measures={"R@10": [1.0, 0.0, 1.0]})
    with pytest.raises(ValueError, match="hits: 1 for 4"):
        replace(TUNED, hits=[()])
    with pytest.raises(UserError, match="no queries"):
        Results(name="x", queries=[], hits=[], measures={})
    with pytest.raises(ValueError, match="JSON"):
        save(tmp_path, replace(TUNED, measures={"F1": [math.nan] * 4}), {})


def test_the_group_of_a_query_without_one_is_itself():
    alone = Results(name="x", queries=[JudgedQuery(id="7", query="q")], hits=[()], measures={})
    assert (alone.groups, alone.rank(0)) == (["7"], None)


def broken(folder, file, change):
    save(folder, replace(TUNED, verdicts=[{"query": "q0", "asked": "correctness"}]), {})
    path = folder / file
    path.write_text(change(path.read_text("utf-8")), "utf-8")


@pytest.mark.parametrize(
    ("file", "change", "said"),
    [
        ("results.json", lambda text: text[:20], r"results\.json is damaged"),
        ("results.json", lambda _: "[]", r"results\.json is damaged"),
        ("queries.jsonl", lambda text: text[:-30], r"queries\.jsonl, line 4 is damaged"),
        ("queries.jsonl", lambda _: "", "is empty"),
        ("queries.jsonl", lambda text: text + text, "on two lines"),
        ("queries.jsonl", lambda t: t.replace("0.75", "NaN", 1), r"line 1 .*not a finite number"),
        (
            "queries.jsonl",
            lambda t: t.replace('"R@10": 1.0', '"R@10": Infinity'),
            "line 1 .*finite",
        ),
        ("queries.jsonl", lambda t: t.replace('"id": "g"', '"id": "o"', 1), "line 1 .*twice"),
        ("queries.jsonl", lambda t: t.replace('"hits"', '"hit"', 1), "line 1 is damaged"),
        ("passages.jsonl", lambda t: t.replace("text", "body"), r"passages\.jsonl, line 1"),
        ("verdicts.jsonl", lambda text: text[:-9], r"verdicts\.jsonl, line 1 is damaged"),
    ],
)
def test_a_broken_run_is_named_with_its_line(tmp_path, file, change, said):
    broken(tmp_path, file, change)
    with pytest.raises(UserError, match=said):
        load(tmp_path)


@pytest.mark.parametrize("file", ["results.json", "queries.jsonl", "passages.jsonl"])
def test_a_folder_that_is_no_run_is_refused(tmp_path, file):
    save(tmp_path, TUNED, {})
    (tmp_path / file).unlink()
    with pytest.raises(UserError, match=f"has no {file}"):
        load(tmp_path)


def test_provenance_outlasts_the_folder(tmp_path):
    known = Passage(
        *("p", "text", "Manual"),
        document="d1",
        source="manual.pdf",
        headings=("Boats", "Ferries"),
        page=12,
        start=7,
        end=11,
        extra={"language": "en"},
    )
    unknown = Passage("g", "gold")
    held = results(hits=[(Hit(known, 0.75), Hit(unknown, 0.5))] * 4, gold={"g": unknown})
    save(tmp_path, held, {})
    record = json.loads((tmp_path / "queries.jsonl").read_text("utf-8").splitlines()[0])
    assert record["hits"] == [
        {"id": "p", "score": 0.75, "source": "manual.pdf", "page": 12},
        {"id": "g", "score": 0.5},
    ]
    passage = load(tmp_path).hits[0][0].passage
    assert passage.place == "manual.pdf, page 12"
    assert passage.to_dict() == known.to_dict()
    assert passage.headings == known.headings


def test_the_manifest_is_written_last_and_lists_the_runs_own_files(tmp_path, monkeypatch):
    (tmp_path / "judge.jsonl").write_text("a journal that grows\n")
    save(tmp_path, TUNED, {})
    listed = json.loads((tmp_path / "manifest.json").read_text("utf-8"))["files"]
    names = {"results.json", "queries.jsonl", "passages.jsonl", "run.trec", "qrels.trec"}
    assert set(listed) == names
    monkeypatch.setattr("dalm.eval.results.write_run", lambda *_: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        save(tmp_path, TUNED, {})
    assert not (tmp_path / "manifest.json").exists()
    with pytest.raises(UserError, match=r"has no results\.json"):
        load(tmp_path)


def test_a_file_that_lost_whole_lines_is_named(tmp_path):
    save(tmp_path, TUNED, {})
    lines = (tmp_path / "queries.jsonl").read_text("utf-8").splitlines(keepends=True)
    (tmp_path / "queries.jsonl").write_text("".join(lines[:-1]), "utf-8")
    with pytest.raises(UserError, match=r"queries\.jsonl has \d+ bytes of \d+; evaluate again"):
        load(tmp_path)
    (tmp_path / "manifest.json").unlink()  # as in the folders of earlier versions
    assert len(load(tmp_path).queries) == 3
