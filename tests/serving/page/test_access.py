"""The page by keys, for screen readers, with enough contrast, on phones and paper, small."""

import re
from itertools import product
from pathlib import Path

import pytest
from selenium.webdriver.common.keys import Keys

from dalm.serving import page_routes

FOLDER = Path(str(page_routes.FOLDER))
CONTRASTS = """
const colour = text => (text.match(/[\\d.]+/g) ?? []).map(Number);
const light = ([r, g, b]) => [r, g, b].map(c => c / 255)
  .map(c => (c <= .04045 ? c / 12.92 : ((c + .055) / 1.055) ** 2.4))
  .reduce((sum, c, i) => sum + c * [.2126, .7152, .0722][i], 0);
const behind = element => {
  for (let each = element; each; each = each.parentElement) {
    const found = colour(getComputedStyle(each).backgroundColor);
    if (found.length === 3 || found[3] === 1) return found;
  }
};
const found = [];
for (const element of document.querySelectorAll('body *')) {
  const own = [...element.childNodes].some(n => n.nodeType === 3 && n.textContent.trim());
  if (!own || !element.checkVisibility() || element.closest('.hidden, option')) continue;
  const style = getComputedStyle(element);
  const ink = element.closest('svg') ? style.fill : style.color;
  const [one, other] = [light(colour(ink)), light(behind(element))].sort((a, b) => b - a);
  const ratio = (one + .05) / (other + .05);
  const name = `${element.tagName}.${element.getAttribute('class')}`;
  found.push([ratio, `${name} ${element.textContent.slice(0, 30)}`]);
}
return found;
"""


def scheme(page, name: str) -> None:
    features = [{"name": "prefers-color-scheme", "value": name}] if name else []
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


@pytest.fixture(params=["light", "dark"])
def coloured(request, page):
    scheme(page, request.param)
    yield page
    scheme(page, "")


def test_text_has_a_contrast_of_at_least_4_5(coloured):
    page = coloured
    measured = page.run(CONTRASTS)
    page.ask("Where does Ada live?")
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    page.press("Ranks")
    page.press("Details")
    page.until("document.querySelector('.prompt')")
    for opens in ("#help", "#history", "#documents", "#sources", ".chip"):
        page.click(opens)
        page.until("document.querySelectorAll('#pane *').length > 5")
        measured += page.run(CONTRASTS)
    assert len(measured) > 150
    low = [what for ratio, what in measured if ratio < 4.5]
    assert low == []


def test_the_colours_of_rarer_states_have_contrast_too(coloured):
    names = ("ink", "quiet", "link", "good", "bad")
    values = coloured.run(
        "const style = getComputedStyle(document.documentElement);"
        "const value = name => style.getPropertyValue(`--${name}`).trim();"
        "return Object.fromEntries(arguments[0].map(name => [name, value(name)]))",
        [*names, "paper", "shade", "cited", "mark", "on-link", "edge"],
    )
    pairs = [*product(names, ("paper", "shade")), ("ink", "mark"), ("ink", "cited")]
    pairs += [("link", "cited"), ("on-link", "link")]
    low = {pair for pair in pairs if contrast(*(values[name] for name in pair)) < 4.5}
    assert low == set()
    assert contrast(values["edge"], values["paper"]) >= 3  # borders of inputs


def contrast(one: str, other: str) -> float:
    """The contrast of two colours as WCAG 2 defines it."""
    lights = sorted(map(luminance, (one, other)))
    return (lights[1] + 0.05) / (lights[0] + 0.05)


def luminance(colour: str) -> float:
    digits = colour[1:] if len(colour) == 7 else "".join(2 * digit for digit in colour[1:])
    parts = [int(digits[place : place + 2], 16) / 255 for place in (0, 2, 4)]
    linear = [p / 12.92 if p <= 0.04045 else ((p + 0.055) / 1.055) ** 2.4 for p in parts]
    return sum(part * weight for part, weight in zip(linear, (0.2126, 0.7152, 0.0722), strict=True))


def test_black_on_white_has_a_contrast_of_21():
    assert contrast("#000", "#ffffff") == pytest.approx(21)


def test_the_page_works_by_keys(page):
    assert page.focused("#question")
    page.type("Where does Ada live?", Keys.ENTER)
    page.finished()
    page.type(Keys.ARROW_UP)
    assert page.run("return document.getElementById('question').value") == "Where does Ada live?"
    page.run("document.getElementById('question').value = ''")
    page.type(Keys.ESCAPE)
    assert page.focused("body")
    page.type("1")
    assert page.focused("#pane-title")
    page.type("/")
    assert page.focused("#question")
    assert page.run("return document.getElementById('question').value") == ""
    page.type(Keys.ESCAPE)  # closes the pane
    assert not page.shown("#pane")
    page.type(Keys.ESCAPE, "?")
    assert page.text("#pane-title") == "Help"
    page.type("?")
    assert not page.shown("#pane")
    page.run(
        "document.querySelector('details').open = true;"
        "document.querySelector('button.passage').focus()"
    )
    page.type(Keys.ARROW_DOWN)
    assert page.run("return document.activeElement.dataset.number") == "2"
    page.type(Keys.ARROW_UP, Keys.ENTER)
    assert page.focused("#pane-title")
    page.type(Keys.ESCAPE)
    assert page.focused("button.passage")
    page.type("n")
    assert page.texts(".turn") == []
    assert page.focused("#question")


def test_single_keys_can_be_switched_off(page):
    page.click("#help")
    page.click("#pane .choice input")
    page.type(Keys.ESCAPE)
    page.type("?")
    assert not page.shown("#pane")


def test_everything_has_a_name_and_the_end_of_an_answer_is_said(page):
    page.ask("Where does Ada live?")
    assert page.text("#status").startswith("The answer is complete. 1 passage cited, 3 read.")
    for opens in ("#help", "#history", "#documents", "#sources", ".chip"):
        page.click(opens)
    nameless = page.run(
        "const kinds = 'button, a, input, select, textarea, aside, article';"
        "return [...document.querySelectorAll(kinds)].filter(e => e.checkVisibility()"
        "&& !(e.ariaLabel || e.textContent.trim() || e.labels?.length))"
        ".map(e => e.outerHTML)"
    )
    assert nameless == []
    assert page.run("return document.querySelector('#status').ariaLive") == "polite"
    assert page.run("return document.querySelector('.answer').getAttribute('aria-busy')") == "false"
    assert page.run("return document.querySelectorAll('svg:not([aria-hidden=true])').length") == 0


def test_nothing_moves_for_those_who_want_no_motion(page):
    feature = {"name": "prefers-reduced-motion", "value": "reduce"}
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": [feature]})
    style = "return getComputedStyle(document.documentElement).scrollBehavior"
    assert page.run(style) == "auto"
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})
    assert "animation" not in "".join(file.read_text() for file in FOLDER.glob("*.css"))


@pytest.mark.parametrize("width", [320, 390])
def test_it_fits_a_phone_and_passages_come_as_a_sheet(page, width):
    page.browser.size(width, 700, mobile=True)
    page.ask("Where does Ada live? " + "long" * 40)
    page.press("Ranks")
    page.run("for (const each of document.querySelectorAll('details')) each.open = true")
    wide = "return document.documentElement.scrollWidth - document.documentElement.clientWidth"
    assert page.run(wide) == 0
    page.run("document.querySelector('.chip').click()")
    box = "const b = document.getElementById('pane').getBoundingClientRect(); return"
    assert page.run(f"{box} [b.left, b.right, b.bottom]") == [0, width, 700]
    assert page.run(f"{box} b.top") > 100
    assert page.run(wide) == 0


def test_right_to_left_and_chinese_text_keep_their_direction(page, generator):
    generator.write = lambda _: "تعيش آدا في أولم [1].\n\n艾达住在乌尔姆 [2]。"
    page.ask("أين تعيش آدا؟")
    directions = page.run(
        "return [...document.querySelectorAll('.question, .answer p')]"
        ".map(e => getComputedStyle(e).direction)"
    )
    assert directions == ["rtl", "rtl", "ltr"]
    assert page.texts(".chip") == ["1", "2"]


def test_a_long_answer_grows_without_being_drawn_anew(page, generator):
    generator.write = lambda _: "\n\n".join(
        f"Paragraph {n} says so [1]. " + "word " * 40 for n in range(50)
    )
    page.find("#question").send_keys("Tell everything" + Keys.ENTER)
    page.until("document.querySelector('.answer .chip')")
    page.run("document.querySelector('.answer p').dataset.mine = 'yes'")
    page.finished()
    assert len(page.texts(".answer p")) == 50
    assert page.texts(".answer .chip") == ["1"] * 50


def test_paper_shows_answers_and_passages_alone(page):
    page.ask("Where does Ada live?")
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": "print"})
    assert not any(page.shown(s) for s in ("#ask", "nav button", ".tools"))
    assert all(page.shown(s) for s in (".question", ".answer", ".snippet"))
    page.driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"media": ""})


def test_the_policy_lets_in_the_pages_own_files_alone(http):
    answer = http.get("/")
    policy = answer.headers["content-security-policy"]
    assert "default-src 'none'" in policy
    assert "unsafe" not in policy
    assert not re.search(r"https?://|<script(?! type=\"module\" src=\"/)| on\w+=", answer.text)
    for path in re.findall(r'(?:src|href)="([^"]+)"', answer.text):
        assert http.get(path).status_code == 200
    assert http.get("/page/../page_routes.py").status_code == 404


def test_its_files_are_sent_once(http):
    answer = http.get("/page/main.js")
    again = http.get("/page/main.js", headers={"If-None-Match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")
    assert "content-security-policy" in again.headers


def test_all_of_it_is_under_150_kb_and_names_no_other_host():
    files = [FOLDER / name for name in page_routes.NAMES]
    assert sum(file.stat().st_size for file in files) < 150_000
    text = "".join(file.read_text() for file in files)
    assert set(re.findall(r"https?://([\w.]+)", text)) <= {"www.w3.org"}  # of SVG
    assert not re.search(r"innerHTML|insertAdjacentHTML|document\.write|\beval\(", text)
