"""The page in a real browser: no error, no request; it sorts, filters, opens, fits a phone."""

import pytest
from selenium.webdriver import ActionChains, Keys

from dalm.cli import app, run
from dalm.eval.comparison import compare
from dalm.eval.report.page import Report, write_page, write_verdict_page
from dalm.eval.report.sections import Section
from dalm.eval.verdict import GUARD, HUMAN, Part, verdict_of
from dalm.models.tiny import build_encoder
from dalm.records import Hit, JudgedQuery, Passage
from tests.eval.example_results import BASE, TUNED, results

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
    section = Section(systems=[tuned], measures=measures, baseline=base)
    write_page(file, Report(sections=[section], training={"run": log}))
    return file


def column(browser, place):
    script = "return [...document.querySelectorAll('table.rows tbody tr')]"
    return browser.run(f"{script}.map(row => row.cells[{place}].textContent)")


def click(browser, selector):
    browser.run("document.querySelector(arguments[0]).click()", selector)


def choose(browser, name, value):
    browser.run(
        "const s = document.querySelector('select.' + arguments[0]); s.value = arguments[1];"
        "s.onchange()",
        *(name, value),
    )


def search(browser, text):
    browser.run(
        "const s = document.querySelector('input.search'); s.value = arguments[0];"
        "s.dispatchEvent(new Event('input'))",
        text,
    )


def test_it_opens_without_errors_or_requests(browser, page):
    browser.open(page)
    assert browser.run("return document.querySelectorAll('table.rows tbody tr').length") == 50
    assert browser.run("return document.querySelectorAll('svg').length") == 2 + 3 + 1
    assert browser.complaints() == []
    assert browser.requests() == [f"file://{page}"]


def test_texts_never_become_markup(browser, page):
    browser.open(page)
    click(browser, "table.rows .open")
    assert browser.run("return document.querySelectorAll('img, b, main script').length") == 0
    assert HOSTILE in browser.run("return document.querySelector('.hit .passage').textContent")
    judged = browser.run("return document.querySelector('.inside p').textContent")
    assert judged == f"judge on faithfulness of base: yes. as {HOSTILE} says"
    assert browser.complaints() == []


def test_the_worst_come_first_and_a_heading_sorts(browser, page):
    browser.open(page)
    assert column(browser, 0)[:3] == ["1", "2", "3"]
    assert column(browser, 5)[0] == "−" + "0.600"
    click(browser, "table.rows th.change button")
    assert column(browser, 0)[:2] == ["120", "119"]
    header = "return document.querySelector('table.rows th.change').getAttribute('aria-sort')"
    assert browser.run(header) == "descending"
    click(browser, "table.rows th.rank button")
    assert [int(rank) for rank in column(browser, 3)] == sorted(map(int, column(browser, 3)))
    click(browser, "table.rows th.text button")
    assert column(browser, 1) == sorted(column(browser, 1))


def test_filters_searches_and_pages(browser, page):
    browser.open(page)
    told = "return document.querySelector('.count').textContent"
    choose(browser, "show", "better")
    assert browser.run(told) == "1 to 50 of 59 questions, 120 in all"
    click(browser, "button.next")
    assert browser.run(told) == "51 to 59 of 59 questions, 120 in all"
    assert browser.run("return document.querySelector('button.next').disabled") is True
    choose(browser, "show", "EM")
    assert browser.run(told) == "1 to 50 of 90 questions, 120 in all"
    names = (
        "return [...document.querySelector('select.show').options].map(each => each.textContent)"
    )
    assert "answered wrongly" in browser.run(names)
    assert "unanswerable" not in browser.run(names)
    choose(browser, "show", "all")
    search(browser, "question 11")
    assert browser.run(told) == "1 to 11 of 11 questions, 120 in all"
    search(browser, "QUESTION q117")
    assert column(browser, 0) == ["118"]
    search(browser, "nowhere")
    assert browser.run(told) == "no matching question, 120 in all"
    assert browser.complaints() == []


def test_a_smaller_nll_is_a_better_one(browser, page):
    browser.open(page)
    choose(browser, "measure", "NLL")
    assert column(browser, 0)[0] == "1"
    assert (column(browser, 4)[0], column(browser, 5)[0]) == ("1.000", "−" + "0.600")


def test_a_question_opens_with_both_systems_passages_side_by_side(browser, page):
    browser.open(page)
    click(browser, "table.rows .open")
    sides = browser.run(
        "return [...document.querySelectorAll('.sides > div')].map(side =>"
        "['h4', '.relevant .head', '.relevant .facts'].map("
        "name => side.querySelector(name).textContent))"
    )
    assert sides == [
        ["base", "2. relevant · title 0", "score 0.990"],
        ["tuned", "1. relevant · title 0", "score 1.00 · baseline rank 2"],
    ]
    orders = browser.run(
        "return [...document.querySelectorAll('.sides > div')].map(side =>"
        "[...side.querySelectorAll('h4, .head')].map(each => each.textContent))"
    )
    assert [len(order) for order in orders] == [1 + 5, 1 + 5 + 1 + 6]
    assert orders[1][6] == "reranked"
    assert orders[1][-1].startswith("10. relevant")
    origin = browser.run("return document.querySelector('.hit.relevant .origin').textContent")
    assert origin == f"{HOSTILE}.pdf, page 0"
    script = "return [...document.querySelectorAll('.sides > div')].map(side => side.offsetLeft)"
    places = browser.run(script)
    assert places[0] < places[1]
    assert browser.run("return document.activeElement.className") == "open"
    click(browser, "table.rows .open")
    assert browser.run("return document.querySelector('.detail')") is None


@pytest.mark.parametrize("width", [360, 800])
def test_it_fits_a_narrow_screen(browser, page, width):
    browser.open(page)
    browser.size(width, 800, mobile=True)
    click(browser, "table.rows .open")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert browser.run(wide) == 0
    hit = browser.run("return document.querySelector('.hit').getBoundingClientRect().right")
    assert hit <= width


def test_it_opens_on_the_verdict_and_the_questions_that_changed(browser, page):
    browser.open(page)
    word = browser.run("return document.querySelector('main > :first-child .word').textContent")
    assert word == "Not shown to be better"
    assert browser.run("return document.querySelector('select.show').value") == "moved"
    told = browser.run("return document.querySelector('.count').textContent")
    assert told == "1 to 50 of 119 questions, 120 in all"
    above = "return document.querySelector('section.questions').compareDocumentPosition("
    assert browser.run(above + "document.querySelector('.charts'))") == 4  # they come first


def test_a_phone_shows_the_comparison(browser, page):
    browser.open(page)
    browser.size(390, 844, mobile=True)
    click(browser, "table.rows .open")
    for cells in (".stacked tbody tr:first-child .main", "table.rows tbody tr:first-child .number"):
        ends = browser.run(
            "return [...document.querySelectorAll(arguments[0])].map(each => {"
            "const box = each.getBoundingClientRect(); return [box.width > 0, box.right]})",
            cells,
        )
        assert len(ends) >= 3
        assert all(shown and right <= 390 for shown, right in ends)
    names = browser.run(
        "return [...document.querySelectorAll('table.rows tbody tr:first-child .number')]"
        ".map(each => getComputedStyle(each, '::before').content)"
    )
    assert names == ['"#"', '"baseline rank"', '"rank"', '"MRR@10"', '"change"']
    closed = "return [...document.querySelectorAll('details.hit')].filter(each => each.open).length"
    assert browser.run(closed) == 0  # the passages of both systems stand beneath each other, short
    click(browser, "details.hit summary")
    text = browser.run("return document.querySelector('details.hit .passage').offsetHeight")
    assert text > 0


@pytest.mark.parametrize("width", [390, 800, 1060, 1280])
def test_nothing_scrolls_inside_the_page(browser, page, width):
    browser.open(page)
    browser.size(width, 844, mobile=width == 390)
    click(browser, "table.rows .open")
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    scrolled = browser.run(
        "return [...document.querySelectorAll('main *:not(select):not(option)')].filter(each => {"
        "const style = getComputedStyle(each);"
        "return [style.overflowX, style.overflowY].some(way => way === 'auto' || way === 'scroll')"
        " && (each.scrollWidth > each.clientWidth || each.scrollHeight > each.clientHeight)"
        "}).map(each => each.className || each.tagName)"
    )
    assert scrolled == []


CONTRAST = """
const lit = colour => {
  const [r, g, b] = colour.match(/[\\d.]+/g).map(Number).map(
    v => (v /= 255) <= 0.04045 ? v / 12.92 : ((v + 0.055) / 1.055) ** 2.4);
  return 0.2126 * r + 0.7152 * g + 0.0722 * b;
};
const clear = colour => /, 0\\)$/.test(colour);
const ground = each => {
  while (each && clear(getComputedStyle(each).backgroundColor)) each = each.parentElement;
  return getComputedStyle(each ?? document.documentElement).backgroundColor;
};
const found = [];
for (const each of document.querySelectorAll("body *")) {
  if (each.closest("script, svg, option, :disabled, .hidden") || !each.offsetHeight) continue;
  if (![...each.childNodes].some(node => node.nodeType === 3 && node.data.trim())) continue;
  const style = getComputedStyle(each);
  const [a, b] = [lit(style.color), lit(ground(each))];
  const ratio = (Math.max(a, b) + 0.05) / (Math.min(a, b) + 0.05);
  if (ratio < 4.5) found.push([each.tagName, each.className, ratio]);
}
return found;
"""


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_has_the_contrast_of_wcag_aa(browser, page, scheme):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    browser.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    browser.open(page)
    click(browser, "table.rows .open")
    browser.run("document.querySelectorAll('details').forEach(each => each.open = true)")
    assert browser.run(CONTRAST) == []
    browser.run("document.body.style.setProperty('--quiet', '#888')")
    assert browser.run(CONTRAST) != []  # it does look


def test_a_question_and_a_passage_open_by_the_keyboard(browser, page):
    browser.open(page)
    browser.run("document.querySelector('table.rows .open').focus()")
    press(browser, Keys.ENTER)
    script = "return document.activeElement.getAttribute('aria-expanded')"
    assert browser.run(script) == "true"
    closed = "document.querySelector('details.hit:not([open]) summary')"
    browser.run(f"window.wanted = {closed}; window.wanted.focus()")
    press(browser, Keys.ENTER)
    assert browser.run("return window.wanted.parentElement.open") is True


def press(browser, key):
    ActionChains(browser.driver).send_keys(key).perform()


MARKDOWN = """# Torque &amp; pressure

Tighten to **12&nbsp;Nm**, see [the manual](http://example.org/a) and `valve_2`.
Keep 2 * 3 * 4 and snake_case_names as they are.

- first
- *second*

| part | torque |
|------|-------:|
| a\\|b | 12 |

```
x = 1
```"""


def test_markdown_and_entities_of_a_passage_are_read_as_text(browser, tmp_path):
    passage = Passage("p", MARKDOWN, "manual", source="manual.md")
    found = results(hits=[[Hit(passage, 0.123456789)]] * 4, gold={"p": passage})
    file = tmp_path / "report.html"
    write_page(file, Report(sections=[Section(systems=[found], measures=[compare(found)])]))
    browser.open(file)
    click(browser, "table.rows .open")
    parts = browser.run(
        "return [...document.querySelector('.passage').children].map("
        "each => [each.tagName, each.className, each.textContent])"
    )
    assert parts == [
        ["P", "title", "Torque & pressure"],
        [
            "P",
            "",
            "Tighten to 12\u00a0Nm, see the manual and valve_2.\n"
            "Keep 2 * 3 * 4 and snake_case_names as they are.",
        ],
        ["UL", "", "firstsecond"],
        ["TABLE", "", "parttorquea|b12"],
        ["PRE", "", "x = 1"],
    ]
    inside = "return [...document.querySelectorAll('.passage :is(strong, em, code, a)')].map("
    assert browser.run(inside + "each => each.tagName + each.textContent)") == [
        "STRONG12\u00a0Nm",
        "CODEvalve_2",
        "EMsecond",
    ]
    assert browser.run("return document.querySelector('.hit .facts').textContent") == "score 0.123"
    assert browser.run("return document.querySelector('.hit .origin').textContent") == "manual.md"
    assert browser.complaints() == []


def test_the_page_of_a_verdict_has_a_table_for_each_part(browser, tmp_path):
    parts = [
        Part(name=HUMAN, results=TUNED, baseline=BASE, measures=compare(TUNED, BASE)),
        Part(name=GUARD, results=BASE, baseline=TUNED, measures=compare(BASE, TUNED)),
    ]
    file = tmp_path / "verdict.html"
    write_verdict_page(file, verdict_of(parts), parts, cost={}, command="dalm adapt documents/")
    browser.open(file)
    counts = browser.run("return [...document.querySelectorAll('.count')].map(e => e.textContent)")
    assert counts == ["1 to 2 of 2 questions, 4 in all"] * 2
    changes = browser.run(
        "return [...document.querySelectorAll('section.questions')].map(each =>"
        "each.querySelector('td.change').textContent)"
    )
    assert changes == ["+0.500", "\u2212" + "1.000"]
    opened = "return [...document.querySelectorAll('section.questions')].map(each =>"
    click(browser, "section.questions ~ h2.part ~ section.questions .open")
    assert browser.run(opened + "each.querySelectorAll('.detail').length)") == [0, 1]
    assert browser.complaints() == []


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
    line += ["--evaluate-generator", "--max-new-tokens", 4, "--report", page, "--guard", tiny_table]
    assert run(app, [str(x) for x in [*line, "--output-dir", tmp_path / "run"]]) == 0
    browser.open(page)
    choose(browser, "show", "all")
    parts = browser.run("return [...document.querySelectorAll('h2.part')].map(e => e.textContent)")
    assert parts == ["Questions", "General questions"]
    told = browser.run("return document.body.innerText")
    assert "Answers by passages read" in told
    assert f"{tiny_models.encoder} + {tiny_models.generator}" in told
    rows = "return document.querySelector('table.rows').tBodies[0].rows.length"
    assert browser.run(rows) == 10  # of 20, where there are several tables
    assert browser.complaints() == []
    assert browser.requests() == [f"file://{page}"]
    second = tmp_path / "second.html"
    runs = [tmp_path / "run" / "baseline", tmp_path / "run"]
    assert run(app, [str(x) for x in ["compare", *runs, "--report", second]]) == 0
    browser.open(second)
    names = browser.run("return evaluations[0].systems.map(system => system.name)")
    assert names == [f"{model} + {tiny_models.generator}" for model in (other, tiny_models.encoder)]
    assert browser.complaints() == []
