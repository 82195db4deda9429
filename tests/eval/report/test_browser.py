"""The page in a real browser: no error, no request; it sorts, filters, opens, fits a phone."""

import pytest

from dalm.cli import app, run
from dalm.eval.comparison import compare
from dalm.eval.report.page import Report, write_page
from dalm.models.tiny import build_encoder
from dalm.records import Hit, JudgedQuery, Passage
from tests.eval.example_results import results

HOSTILE = "<img src=x onerror=alert(1)></script><b>bold</b>"
COUNT = 120


@pytest.fixture(scope="module")
def page(tmp_path_factory):
    """A page of 120 questions whose first 60 got worse, the first ones most."""
    passages = [
        Passage(f"p{i}", f"passage {i} {HOSTILE}", f"title {i}", source=f"{HOSTILE}.pdf", page=i)
        for i in range(COUNT)
    ]
    queries = [
        JudgedQuery(
            id=f"q{i}", query=f"question {i} {HOSTILE}", relevant={f"p{i}": 1}, group=f"d{i % 9}"
        )
        for i in range(COUNT)
    ]

    def system(name, values, ranks):
        hits = []
        for place, rank in enumerate(ranks):
            others = (passages[place + 1 :] + passages[:place])[:9]
            row = [*others[: rank - 1], passages[place], *others[rank - 1 :]]
            hits.append([Hit(p, 1 - k / 100) for k, p in enumerate(row)])
        fields = {"queries": queries, "hits": hits, "gold": {p.id: p for p in passages}}
        answers = {"found": [f"answer {HOSTILE}"] * COUNT}
        right = [float(i % 4 == 0) for i in range(COUNT)]
        measures = {"RR@10": values, "NLL": [1 - v for v in values], "EM": right}
        fields["reranked"] = [row[::-1] for row in hits] if name == "tuned" else []
        fields["verdicts"] = [
            {
                **{"query": "q0", "asked": "faithfulness", "value": 0.5},
                **{"first": {"word": "yes", "reason": f"as {HOSTILE} says"}, "swapped": None},
            }
        ]
        return results(name, measures=measures, answers=answers, **fields)

    worse = [round(-(60 - i) / 100, 2) for i in range(60)]
    gains = worse + [round(i / 100, 2) for i in range(60)]
    base = system("base", [0.6] * COUNT, [2] * COUNT)
    tuned = system("tuned", [0.6 + g for g in gains], [i % 10 + 1 for i in range(COUNT)])
    file = tmp_path_factory.mktemp("page") / "report.html"
    measures = [compare(tuned, base, seed=1)]
    log = [{"step": step, "loss": 1 / step} for step in range(1, 9)]
    write_page(
        file, Report(systems=[tuned], measures=measures, baseline=base, training={"run": log})
    )
    return file


def column(browser, place):
    script = "return [...document.querySelectorAll('#table tbody tr')]"
    return browser.run(f"{script}.map(row => row.cells[{place}].textContent)")


def click(browser, selector):
    browser.run("document.querySelector(arguments[0]).click()", selector)


def choose(browser, name, value):
    browser.run(
        "const s = document.getElementById(arguments[0]); s.value = arguments[1]; s.onchange()",
        *(name, value),
    )


def search(browser, text):
    browser.run(
        "const s = document.getElementById('search'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        text,
    )


def test_it_opens_without_errors_or_requests(browser, page):
    browser.open(page)
    assert browser.run("return document.querySelectorAll('#table tbody tr').length") == 50
    assert browser.run("return document.querySelectorAll('svg').length") == 2 + 3 + 1
    assert browser.complaints() == []
    assert browser.requests() == [f"file://{page}"]


def test_texts_never_become_markup(browser, page):
    browser.open(page)
    click(browser, "#table .open")
    assert browser.run("return document.querySelectorAll('img, b, main script').length") == 0
    assert HOSTILE in browser.run("return document.querySelector('.hit p').textContent")
    judged = browser.run("return document.querySelector('.inside p').textContent")
    assert judged == f"judge on faithfulness of base: yes. as {HOSTILE} says"
    assert browser.complaints() == []


def test_the_worst_come_first_and_a_heading_sorts(browser, page):
    browser.open(page)
    assert column(browser, 0)[:3] == ["1", "2", "3"]
    assert column(browser, 5)[0] == "-0.600"
    click(browser, "#table th.change button")
    assert column(browser, 0)[:2] == ["120", "119"]
    header = "return document.querySelector('#table th.change').getAttribute('aria-sort')"
    assert browser.run(header) == "descending"
    click(browser, "#table th.rank button")
    assert [int(rank) for rank in column(browser, 3)] == sorted(map(int, column(browser, 3)))
    click(browser, "#table th.text button")
    assert column(browser, 1) == sorted(column(browser, 1))


def test_filters_searches_and_pages(browser, page):
    browser.open(page)
    told = "return document.getElementById('count').textContent"
    choose(browser, "show", "better")
    assert browser.run(told) == "1 to 50 of 59 questions"
    click(browser, "#next")
    assert browser.run(told) == "51 to 59 of 59 questions"
    assert browser.run("return document.getElementById('next').disabled") is True
    choose(browser, "show", "EM")
    assert browser.run(told) == "1 to 50 of 90 questions"
    names = "return [...document.getElementById('show').options].map(each => each.textContent)"
    assert "answered wrongly" in browser.run(names)
    assert "unanswerable" not in browser.run(names)
    choose(browser, "show", "all")
    search(browser, "question 11")
    assert browser.run(told) == "1 to 11 of 11 questions"
    search(browser, "QUESTION q117")
    assert column(browser, 0) == ["118"]
    search(browser, "nowhere")
    assert browser.run(told) == "no matching question"
    assert browser.complaints() == []


def test_a_smaller_nll_is_a_better_one(browser, page):
    browser.open(page)
    choose(browser, "measure", "NLL")
    assert column(browser, 0)[0] == "1"
    assert (column(browser, 4)[0], column(browser, 5)[0]) == ("1.000", "-0.600")


def test_a_question_opens_with_both_systems_passages_side_by_side(browser, page):
    browser.open(page)
    click(browser, "#table .open")
    sides = browser.run(
        "return [...document.querySelectorAll('.sides > div')].map(side =>"
        "[side.querySelector('h4').textContent, side.querySelector('.relevant .head').textContent])"
    )
    assert sides == [
        ["base", "2. score 0.99 · relevant · title 0"],
        ["tuned", "1. score 1 · relevant · title 0"],
    ]
    orders = browser.run(
        "return [...document.querySelectorAll('.sides > div')].map(side =>"
        "[...side.querySelectorAll('h4, .head')].map(each => each.textContent))"
    )
    assert [len(order) for order in orders] == [1 + 5, 1 + 5 + 1 + 6]
    assert orders[1][6] == "reranked"
    assert orders[1][-1].startswith("10. score 1 · relevant")
    origin = browser.run("return document.querySelector('.hit.relevant .origin').textContent")
    assert origin == f"{HOSTILE}.pdf, page 0"
    script = "return [...document.querySelectorAll('.sides > div')].map(side => side.offsetLeft)"
    places = browser.run(script)
    assert places[0] < places[1]
    assert browser.run("return document.activeElement.className") == "open"
    click(browser, "#table .open")
    assert browser.run("return document.querySelector('.detail')") is None


@pytest.mark.parametrize("width", [360, 800])
def test_it_fits_a_narrow_screen(browser, page, width):
    browser.open(page)
    browser.size(width, 800, mobile=True)
    click(browser, "#table .open")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(wide) == 0
    hit = browser.run("return document.querySelector('.hit').getBoundingClientRect().right")
    assert hit <= width


def test_it_is_dark_where_the_reader_is(browser, page):
    colours = {}
    for scheme in ("light", "dark"):
        feature = {"name": "prefers-color-scheme", "value": scheme}
        browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
        browser.open(page)
        style = "const s = getComputedStyle(document.body); return [s.backgroundColor, s.color]"
        colours[scheme] = browser.run(style)
    assert colours["light"][0] == "rgb(255, 255, 255)"
    assert all(light != dark for light, dark in zip(*colours.values(), strict=True))


def test_the_command_writes_a_page_that_opens(
    browser, tmp_path, tiny_table, tiny_rows, tiny_models
):
    texts = [text for row in tiny_rows for text in row.values()]
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 200, "max_length": 128}
    other = build_encoder(texts, tmp_path / "other", seed=3, **shape)
    page = tmp_path / "report.html"
    line = ["eval-rag", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    line += ["--baseline", other, "--generator-name-or-path", tiny_models.generator]
    line += ["--evaluate-generator", "--max-new-tokens", 4, "--report", page]
    assert run(app, [str(x) for x in [*line, "--output-dir", tmp_path / "run"]]) == 0
    browser.open(page)
    told = browser.run("return document.body.innerText")
    assert "Answers by passages read" in told
    assert f"{tiny_models.encoder} + {tiny_models.generator}" in told
    assert browser.run("return document.querySelectorAll('#table tbody tr').length") == 20
    assert browser.complaints() == []
    assert browser.requests() == [f"file://{page}"]
    second = tmp_path / "second.html"
    runs = [tmp_path / "run" / "baseline", tmp_path / "run"]
    assert run(app, [str(x) for x in ["compare", *runs, "--report", second]]) == 0
    browser.open(second)
    names = browser.run("return data.systems.map(system => system.name)")
    assert names == [f"{model} + {tiny_models.generator}" for model in (other, tiny_models.encoder)]
    assert browser.complaints() == []
