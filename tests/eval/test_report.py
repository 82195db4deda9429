import io
import json
import math
from dataclasses import replace

import pytest
from rich.console import Console

from dalm.errors import UserError
from dalm.eval.confidence import bootstrap_interval, paired_interval, sign_flip_p
from dalm.eval.report import Judged, Results, show, summarise, write
from dalm.records import Hit, Passage

GOLD, OTHER = Passage("g", "gold “text”"), Passage("o", "other")
HITS = (Hit(OTHER, 0.75), Hit(GOLD, 0.5))


def results(name="tuned", values=(1.0, 0.0, 1.0, 0.5), clusters=("a", "a", "b", "c")):
    queries = [
        Judged(query=f"question {i}", gold=(GOLD,), hits=HITS, answer="é", references=("e", "é"))
        for i in range(4)
    ]
    measures = {"R@10": list(values), "nDCG@10": [value / 2 for value in values]}
    return Results(name=name, queries=queries, measures=measures, clusters=clusters)


TUNED, BASE = results(), results("base", (0.0, 0.0, 0.5, 0.5))


def test_lines_hold_what_the_statistics_say():
    recall, ndcg = summarise(TUNED, BASE, seed=5)
    values, theirs = TUNED.measures["R@10"], BASE.measures["R@10"]
    assert (recall.measure, recall.mean, ndcg.mean) == ("R@10", 0.625, 0.3125)
    assert recall.interval == pytest.approx(bootstrap_interval(values, TUNED.clusters, seed=5))
    assert (recall.baseline.mean, recall.baseline.difference) == (0.25, 0.375)
    assert recall.baseline.interval == pytest.approx(
        paired_interval(values, theirs, TUNED.clusters, seed=5)
    )
    assert recall.baseline.p == sign_flip_p(values, theirs, TUNED.clusters, seed=5)
    assert all(line.baseline is None for line in summarise(TUNED))


def test_a_measure_the_baseline_lacks_stands_alone():
    base = replace(BASE, measures={"nDCG@10": BASE.measures["nDCG@10"]})
    recall, ndcg = summarise(TUNED, base)
    assert recall.baseline is None
    assert ndcg.baseline.mean == 0.125


def test_a_single_cluster_has_no_interval():
    (line, _) = summarise(replace(TUNED, clusters="aaaa"), BASE)
    assert line.interval is line.baseline.interval is None
    assert line.baseline.p == 1


def strict(text):
    def refuse(constant):
        raise AssertionError(constant)

    return json.loads(text, parse_constant=refuse)


def test_the_files_round_trip(tmp_path):
    lines = write(tmp_path / "new" / "folder", TUNED, BASE, seed=5)
    summary = strict((tmp_path / "new" / "folder" / "results.json").read_text("utf-8"))
    assert (summary["name"], summary["baseline"]) == ("tuned", "base")
    assert (summary["queries"], summary["clusters"], summary["seed"]) == (4, 3, 5)
    recall = summary["measures"][0]
    assert (recall["measure"], recall["words"], recall["mean"]) == ("R@10", "recall@10", 0.625)
    assert recall["interval"] == list(lines[0].interval)
    assert recall["baseline"] == {
        "mean": 0.25,
        "difference": 0.375,
        "interval": list(lines[0].baseline.interval),
        "p": lines[0].baseline.p,
    }
    text = (tmp_path / "new" / "folder" / "queries.jsonl").read_text("utf-8")
    records = [strict(line) for line in text.splitlines()]
    assert len(records) == 4
    assert records[2] == {
        "query": "question 2",
        "gold": [{"id": "g", "text": "gold “text”"}],
        "rank": 2,
        "hits": [{"id": "o", "score": 0.75}, {"id": "g", "score": 0.5}],
        "answer": "é",
        "references": ["e", "é"],
        "measures": {"R@10": 1.0, "nDCG@10": 0.5},
        "cluster": "b",
    }


def test_without_hits_or_baseline(tmp_path):
    bare = Results(name="x", queries=[Judged(query="q")], measures={"EM": [1.0]}, clusters=["a"])
    write(tmp_path, bare)
    summary = strict((tmp_path / "results.json").read_text())
    assert summary["baseline"] is None
    assert summary["measures"] == [
        {"words": "EM", "measure": "EM", "mean": 1.0, "interval": None, "baseline": None}
    ]
    record = strict((tmp_path / "queries.jsonl").read_text())
    assert (record["rank"], record["hits"], record["answer"]) == (None, [], None)


def printed(width, *arguments, **options):
    file = io.StringIO()
    show(*arguments, Console(file=file, width=width, **options))
    return file.getvalue()


def test_the_table_at_eighty_characters():
    text = printed(80, summarise(TUNED, BASE), "tuned [bold]model", "base")
    lines = text.splitlines()
    assert lines[0].strip() == "tuned [bold]model against base"
    assert lines[1].split() == [
        "measure",
        "value",
        "95",
        "%",
        "baseline",
        "difference",
        "95",
        "%",
        "p",
    ]
    assert len(lines) == 4
    assert lines[2].split()[:2] == ["recall@10", "0.625"]
    assert "0.250      +0.375" in lines[2]
    assert max(map(len, lines)) <= 80


@pytest.mark.parametrize("width", [10, 40, 200])
def test_no_number_is_cut_or_folded_at_any_width(width):
    lines = summarise(TUNED, BASE)
    assert printed(width, lines, "tuned", "base") == printed(80, lines, "tuned", "base")


def test_plain_text_away_from_a_terminal(capsys, monkeypatch):
    for name in ("FORCE_COLOR", "TTY_COMPATIBLE", "TTY_INTERACTIVE", "COLUMNS"):
        monkeypatch.delenv(name, raising=False)
    show(summarise(TUNED), "tuned")
    text = capsys.readouterr().out
    assert "\x1b" not in text
    assert text.isascii()
    assert text.splitlines()[1].split() == ["measure", "value", "95", "%"]
    assert "\x1b" in printed(80, summarise(TUNED), "tuned", None, force_terminal=True)


def test_what_does_not_fit_together_is_refused(tmp_path):
    with pytest.raises(ValueError, match="R@10: 3 for 4"):
        replace(TUNED, measures={"R@10": [1.0, 0.0, 1.0]})
    with pytest.raises(ValueError, match="clusters: 1 for 4"):
        replace(TUNED, clusters="a")
    with pytest.raises(ValueError, match="other queries"):
        summarise(TUNED, replace(BASE, queries=BASE.queries[::-1]))
    with pytest.raises(UserError, match="no queries"):
        Results(name="x", queries=[], measures={}, clusters=[])
    with pytest.raises(ValueError, match="finite"):
        write(tmp_path, replace(TUNED, measures={"F1": [math.nan] * 4}))
