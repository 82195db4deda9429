"""The page as text: what is on it, and that it needs nothing else."""

import json
import re
import shlex
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from dalm.eval.comparison import compare
from dalm.eval.quality_gates import Gate
from dalm.eval.report.page import Report, render, training_logs, write_page, write_verdict_page
from dalm.eval.report.sections import Section
from dalm.eval.verdict import GENERATED, GUARD, HUMAN, Part, verdict_of
from tests.eval.example_results import BASE, TUNED, results

VOID = {"meta", "link", "input", "br", "wbr"}
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
    section = Section(systems=[tuned], measures=[compare(tuned, BASE, seed=1)], baseline=BASE)
    return Report(
        sections=[section],
        gates=[Gate("recall@10 is 0.6", True), Gate("<b>guard</b>", False)],
        training={"run": [{"step": 1, "loss": 2.0}, {"step": 2, "loss": 1.0}]},
    )


def test_it_tells_figures_gates_and_how_it_was_made(report):
    text = " ".join(Tags(render(report)).text.split())
    for said in (
        "tuned against base",
        "Not shown to be better recall@10 is 0.625, baseline 0.250, not statistically significant",
        "too few to show any difference (p is at least 0.25).",
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
    page = render(Report(sections=[Section(systems=[alone], measures=[compare(alone)])]))
    assert "baseline" not in Tags(page).text
    assert "Answers by passages read" in page
    cells = "".join(f"<td>{cell}</td>" for cell in ("1.000", "1.000", "", "0.000"))
    assert f'<th scope="row">EM</th>{cells}' in page


def test_several_systems_have_a_section_each():
    third = results("third")
    page = render(
        Report(
            sections=[
                Section(
                    systems=[TUNED, third],
                    measures=[compare(TUNED, BASE), compare(third, BASE)],
                    baseline=BASE,
                )
            ]
        )
    )
    assert "<h2>tuned</h2>" in page
    assert "<h2>third</h2>" in page


def test_runs_without_texts_or_hits_have_a_page_too():
    bare = results(hits=[()] * 4, gold={}, answers={}, measures={"R@10": [0.0] * 4})
    assert "Recall over k" not in render(
        Report(sections=[Section(systems=[bare], measures=[compare(bare)])])
    )


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
    section = replace(report.sections[0], findings=[["2 of 4 answers are empty (50%)"]])
    noted = replace(report, sections=[section])
    text = " ".join(Tags(render(noted)).text.split())
    assert "Note 2 of 4 answers are empty (50%)." in text
    assert "95 % intervals over 4 queries of 3 documents." in text
    cells = re.findall(r"<td[^>]*>(.*?)</td>", render(report))
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
    section = Section(systems=pair[:1], measures=[compare(*pair)], baseline=pair[1])
    page = render(Report(sections=[section]))
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
    plain = Section(systems=[TUNED], measures=[compare(TUNED)])
    assert "Stages of the search" not in render(Report(sections=[plain]))


def test_null_settings_and_long_figures_are_left_out(report):
    facts = FACTS | {"settings": {"top_k": 10, "guard": None, "sizes": {"most": None}, "list": []}}
    facts |= {"seconds": {"searching": 0.123456789}}
    section = report.sections[0]
    section = replace(section, systems=[replace(section.systems[0], facts=facts)])
    page = render(replace(report, sections=[section]))
    assert "top_k: 10" in page
    assert "searching: 0.1235" in page
    assert not re.search(
        r"guard: |sizes|most: |list: |null", page.partition("<main>")[2].partition("<script")[0]
    )


def test_a_long_command_stands_in_lines_that_can_be_typed_again(report):
    command = "dalm eval-rag 'a table.csv' --top-k 10 --retriever-name-or-path " + "long/" * 9 + "x"
    page = render(replace(report, command=command))
    shown = unescape(re.search(r'<pre class="command">(.*?)</pre>', page, re.DOTALL)[1])
    assert shown.count("\\\n") == 2
    assert shlex.split(shown.replace("\\\n", "")) == shlex.split(command)


def test_each_part_has_a_section_and_a_row_of_the_overview(tmp_path):
    parts = [
        Part(name=name, results=TUNED, baseline=BASE, measures=compare(TUNED, BASE, seed=1))
        for name in (HUMAN, GENERATED, GUARD)
    ]
    file = tmp_path / "verdict.html"
    write_verdict_page(
        file,
        verdict_of(parts),
        parts,
        cost={"time": "42 minutes", "requests": "1,204"},
        command="dalm adapt documents/ --questions real.csv",
        stages={"training": {"num_train_epochs": 3, "precision": None}},
    )
    page = file.read_text()
    text = " ".join(Tags(page).text.split())
    for said in (
        "Not shown to be better human questions: recall@10 is 0.625, baseline 0.250",
        "time 42 minutes requests 1,204",
        "dalm adapt documents/ --questions real.csv",
        "Settings of training num_train_epochs: 3 ",
    ):
        assert said in text
    assert re.findall(r'<h2 class="part">(.*?)</h2>', page) == [
        "Human questions",
        "Generated questions",
        "General questions",
    ]
    overview = page.partition('aria-label="All parts"')[2].partition("</table>")[0]
    assert re.findall(r'<th scope="row">(.*?)</th>', overview) == [HUMAN, GENERATED, GUARD]
    assert "precision" not in page.partition("<main>")[2].partition("application/json")[0]
