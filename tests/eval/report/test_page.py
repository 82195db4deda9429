"""The page as text: what is on it, and that it needs nothing else."""

import json
import re
from dataclasses import replace
from html.parser import HTMLParser

import pytest

from dalm.eval.comparison import compare
from dalm.eval.quality_gates import Gate
from dalm.eval.report.page import Report, render, training_logs, write_page
from tests.eval.example_results import BASE, TUNED, results

VOID = {"meta", "link", "input", "br"}
FACTS = {
    "command": "dalm eval-retriever a.csv --baseline 'b c'",
    "dataset": "a.csv",
    "passages": 1234,
    "queries_unjudged": 2,
    "settings": {"top_k": 10, "seed": 42},
    "versions": {"torch": "2.13.0"},
}


class Tags(HTMLParser):
    """Collect tags and texts, and see that every element ends."""

    def __init__(self, page):
        super().__init__()
        self.open, self.found, self.text = [], [], ""
        self.feed(page)
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if not {"script", "style"} & set(self.open):
            self.text += data


@pytest.fixture
def report():
    tuned = replace(TUNED, facts=FACTS)
    return Report(
        systems=[tuned],
        measures=[compare(tuned, BASE, seed=1)],
        baseline=BASE,
        gates=[Gate("recall@10 is 0.6", True), Gate("<b>guard</b>", False)],
        training={"run": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]},
    )


def test_it_tells_figures_gates_and_how_it_was_made(report):
    text = " ".join(Tags(render(report)).text.split())
    for said in (
        "tuned against base",
        "a.csv · 4 questions · 1,234 passages",
        "2 questions have no relevant passage",
        "passed recall@10 is 0.6",
        "failed <b>guard</b>",
        "recall@10 is 0.625, baseline 0.250, not statistically significant",
        "dalm eval-retriever a.csv --baseline 'b c'",
        "top_k: 10",
        "torch: 2.13.0",
    ):
        assert said in text


def test_it_loads_nothing(report):
    page = render(report)
    for tag, attributes in Tags(page).found:
        for name in ("src", "href", "action"):
            assert attributes.get(name, "data:,").startswith("data:"), tag
    assert not re.search(r"@import|url\(|https?:", page)
    assert "default-src 'none'" in page


def test_a_single_system_and_bounds():
    bounds = {"EM": [1.0] * 4, "EM[gold]": [1.0] * 4, "EM[none]": [0.0] * 4}
    alone = results(measures=dict(TUNED.measures) | bounds)
    page = render(Report(systems=[alone], measures=[compare(alone)]))
    assert "baseline" not in Tags(page).text
    assert "Answers by passages read" in page
    cells = "".join(f"<td>{cell}</td>" for cell in ("1.000", "1.000", "", "0.000"))
    assert f'<th scope="row">EM</th>{cells}' in page


def test_several_systems_have_a_section_each():
    third = results("third")
    page = render(
        Report(
            systems=[TUNED, third],
            measures=[compare(TUNED, BASE), compare(third, BASE)],
            baseline=BASE,
        )
    )
    assert "<h2>tuned</h2>" in page
    assert "<h2>third</h2>" in page


def test_runs_without_texts_or_hits_have_a_page_too():
    bare = results(hits=[()] * 4, gold={}, answers={}, measures={"R@10": [0.0] * 4})
    assert "Recall over k" not in render(Report(systems=[bare], measures=[compare(bare)]))


def test_it_is_written_whole_or_not_at_all(tmp_path, report, monkeypatch):
    file = tmp_path / "new" / "page.html"
    write_page(file, report)
    assert file.read_text("utf-8") == render(report)
    monkeypatch.setattr("dalm.eval.report.page.render", lambda _: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_page(file, report)
    assert [each.name for each in file.parent.iterdir()] == ["page.html"]
    assert file.stat().st_size > 1000


@pytest.fixture
def model(tmp_path):
    folder = tmp_path / "run" / "retriever"
    folder.mkdir(parents=True)
    return folder


def test_the_log_of_the_run_that_trained_a_model_is_found(model):
    lines = [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]
    text = "".join(json.dumps(line) + "\n" for line in lines)
    (model.parent / "metrics.jsonl").write_text(text + '{"step": 3, "lo')
    found = training_logs((str(model), str(model.parent / "nowhere"), "some/model", None))
    assert found == {str(model.parent): lines}


def test_a_damaged_log_is_left_out_of_the_report(model, caplog):
    (model.parent / "metrics.jsonl").write_text('{"step": 1}\nnonsense\n')
    assert training_logs((str(model),)) == {}
    assert "metrics.jsonl, line 2 is damaged" in caplog.text
    assert "the report leaves it out" in caplog.text


def test_units_and_findings_are_on_the_page(report):
    noted = replace(report, findings=[["2 of 4 answers are empty (50%)"]])
    text = " ".join(Tags(render(noted)).text.split())
    assert "Note 2 of 4 answers are empty (50%)." in text
    assert "95 % intervals over 4 queries of 3 documents." in text
    cells = re.findall(r"<td>(.*?)</td>", render(report))
    assert "4 / 3" in cells


def test_the_stages_of_the_search_have_a_table_of_their_own():
    groups = [str(i) for i in range(12)]
    values = {"R@10[BM25]": 0.5, "R@10": 1.0, "R@10[fused]": 0.75}
    pair = [
        results(
            name,
            groups=groups,
            values=[0.0] * 12,
            measures={k: [each(v)] * 12 for k, v in values.items()},
        )
        for name, each in (("tuned", lambda v: v), ("base", lambda v: v if v == 0.5 else 0.25))
    ]
    page = render(Report(systems=pair[:1], measures=[compare(*pair)], baseline=pair[1]))
    table = page.partition("Stages of the search")[2].partition("</table>")[0]
    rows = re.findall(
        r'<th scope="row">(.*?)</th>.*?<td class="(even|better|worse)">(.*?)</td>', table
    )
    assert rows == [
        ("BM25", "even", "0.500"),
        ("alone, baseline", "even", "0.250"),
        ("alone", "better", "1.000"),
        ("fused with BM25, baseline", "even", "0.250"),
        ("fused with BM25", "better", "0.750"),
    ]
    assert "Stages of the search" not in render(Report(systems=[TUNED], measures=[compare(TUNED)]))
