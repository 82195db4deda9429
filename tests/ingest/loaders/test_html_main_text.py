"""The main text of web pages, with trafilatura and without it."""

import sys

import pytest

from dalm.ingest.loaders import html

SENTENCE = "The amber pump needs thin oil and runs at nine bar all the winter long."
MORE = "Brown pumps are oiled by the keeper of the north tower before the first frost of the year."


@pytest.fixture(params=["trafilatura", "rules"])
def way(request, monkeypatch):
    """Find the main text in both ways."""
    if request.param == "trafilatura":
        pytest.importorskip("trafilatura")
    else:
        monkeypatch.setitem(sys.modules, "trafilatura", None)
        assert not html.is_installed()


MENU = "".join(f'<li><a href="/{name}">{name}</a></li>' for name in ("Home", "Shop", "Contact"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "noise",
    [
        '<div role="navigation"><a href="/">Noise</a></div>',
        '<div id="breadcrumbs">Noise &gt; Pumps</div>',
        '<div class="cookie-banner">Noise. We use cookies to improve it. Accept all</div>',
        '<div class="site-sidebar">Noise: ten pumps you will love</div>',
        '<div class="related-posts"><h3>Noise</h3><p>Related pumps</p></div>',
        "<footer>Noise, all rights reserved</footer>",
        '<aside><h2>Noise</h2><a href="/x">x</a></aside>',
        f'<ul><li><a href="/noise">Noise</a></li>{MENU}</ul>',
        '<form action="/s"><label>Noise</label><input name="q"><button>Noise</button></form>',
        "<button>Noise</button>",
        "<select><option>Noise</option></select>",
        "<p hidden>Noise</p>",
        '<p style="color:red; display: none">Noise</p>',
        '<span aria-hidden="true">Noise</span>',
        "<noscript>Noise: turn on JavaScript</noscript>",
        "<template><p>Noise</p></template>",
        '<svg><title>Noise</title><path d=""/></svg>',
        '<a class="skip-link" href="#main">Noise: skip to content</a>',
    ],
)
def test_what_surrounds_the_text_is_left_out(document, noise):
    page = (
        f"<html><head><title>Pumps</title></head><body>{noise}<main><h1>Pump</h1><p>{SENTENCE}</p>"
        f"<p>{MORE}</p></main>{noise}</body></html>"
    )
    found = document("a.html", page)
    assert (found.title, found.text) == ("Pumps", f"Pump\n\n{SENTENCE}\n\n{MORE}")


@pytest.mark.usefixtures("way")
def test_all_that_is_shown_can_be_had(document):
    page = f"<nav>Menu</nav><p>{SENTENCE}</p><p hidden>no</p><footer>End</footer>"
    assert document("a.html", page, html="all").text == f"Menu\n\n{SENTENCE}\n\nEnd"


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "page",
    [
        f'<div class="content-with-sidebar"><p>{SENTENCE}</p></div>',
        f'<aside class="admonition note"><p>{SENTENCE}</p></aside><p>{MORE}</p>',
        f'<form method="post"><h1>x</h1><p>{SENTENCE}</p><p>{MORE}</p></form>',
        f'<body class="has-menu"><div id="sidebar"><p>{SENTENCE}</p></div></body>',
        f"<header><h1>x</h1><p>{SENTENCE}</p></header><p>{MORE}</p>",
    ],
)
def test_text_is_kept_whatever_it_is_called(document, page):
    assert SENTENCE in document("a.html", page).text


@pytest.mark.usefixtures("way")
def test_structure_is_kept(document):
    page = f"""<html><body><article><h1>Pumps</h1><p>{SENTENCE}</p><p>{MORE}</p>
    <h2>Steps<a class="headerlink" href="#steps">¶</a></h2><p>Do this:</p>
    <ol start="3"><li>open the valve<ul><li>slowly</li></ul></li><li><p>close</p> it</li></ol>
    <table><caption>Pressures</caption><tr><th>Pump</th><th>Pressure</th></tr>
    <tr><td rowspan="2">P-1</td><td><p>2 bar</p><p>at most</p></td></tr><tr><td>3 bar</td></tr>
    </table>
    <pre><code>def f(x):
    return x</code></pre><dl><dt>Oil</dt><dd>thin</dd></dl>
    <p>{MORE} {SENTENCE}</p></article></body></html>"""
    found = document("a.html", page)
    assert found.text == (
        f"Pumps\n\n{SENTENCE}\n\n{MORE}\n\nSteps\n\nDo this:\n\n"
        "3. open the valve\n  - slowly\n4. close it\n\nPressures\n\n"
        "Pump\tPressure\nP-1\t2 bar at most\nP-1\t3 bar\n\n"
        f"def f(x):\n    return x\n\nOil: thin\n\n{MORE} {SENTENCE}"
    )
    assert [(each.level, each.text) for each in found.headings] == [(1, "Pumps"), (2, "Steps")]
    assert [len(each.units) for each in found.blocks] == [3, 3, 2, 1]
    header = next(each for each in found.blocks if each.header_end)
    assert found.text[header.start : header.header_end] == "Pump\tPressure\n"


@pytest.mark.usefixtures("way")
def test_a_table_for_layout_is_no_table(document):
    page = f"<table><tr><td><h1>Pump</h1><p>{SENTENCE}</p></td><td><p>{MORE}</p></td></tr></table>"
    found = document("a.html", page)
    assert (found.text, found.blocks) == (f"Pump\n\n{SENTENCE}\n\n{MORE}", ())


MATH = (
    '<math alttext="x"><semantics><mrow><mfrac><mrow><mi>a</mi><mo>+</mo><mi>b</mi></mrow>'
    "<mn>2</mn></mfrac><mo>=</mo><msup><mi>x</mi><mn>2</mn></msup></mrow>"
    '<annotation encoding="application/x-tex">x</annotation></semantics></math>'
)


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("wrapped", [MATH, f'<span style="display: none">{MATH}</span>'])
def test_equations_are_text(document, wrapped):
    page = f"<p>{SENTENCE} It is {wrapped} here.</p><p>{wrapped}</p><p>{MORE}</p>"
    assert document("a.html", page).text == (
        f"{SENTENCE} It is (a+b)/2=x^2 here.\n\n(a+b)/2=x^2\n\n{MORE}"
    )


def test_an_equation_without_parts_is_its_tex(document):
    assert document("a.html", '<p>See <math alttext="\\alpha"></math>.').text == "See \\alpha."


def test_the_number_of_a_note_is_no_part_of_a_word(document):
    page = '<p>Drain the pump.<sup><a href="#n1">1</a></sup> Use oil<a href="#n2"><sup>2</sup></a>.'
    assert document("a.html", page).text == "Drain the pump.[1] Use oil[2]."


@pytest.mark.usefixtures("way")
def test_numbers_of_lines_are_no_part_of_code(document):
    line = '<span class="lineno">{} </span>'
    page = f"<p>{SENTENCE}</p><pre>{line.format(1)}drain()\n{line.format(2)}stop()\n</pre>"
    assert document("a.html", page).text == f"{SENTENCE}\n\ndrain()\nstop()"


@pytest.mark.usefixtures("way")
def test_exponents_and_soft_hyphens(document):
    assert document("a.html", "<p>10<sup>6</sup> m<sup>2</sup> Pum&shy;pe").text == "10^6 m2 Pumpe"


def test_where_trafilatura_finds_hardly_anything_the_rules_decide(document):
    pytest.importorskip("trafilatura")
    rows = "".join(f"<div><b>P-{i}</b> <i>{i} bar</i></div>" for i in range(200))
    text = document("a.html", f"<body><p>{SENTENCE}</p><div>{rows}</div></body>").text
    assert all(f"P-{i} {i} bar" in text for i in range(200))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "part",
    [
        "<dl><dt>-y</dt><dt>--after</dt><dd><p>{}</p><ul><li>a</li></ul></dd><dt>-x</dt><dd>{}</dl>",
        "<ol><li>Do -y.</li><li><p>{}</p><pre>--after</pre></li><li>-x</li><li><p>{}</p></ol>",
        "<h2>Can I use -y?</h2><p>Yes, --after the -x.</p><h2>{}</h2><p>{}</p>",
    ],
)
def test_short_terms_items_and_answers_stay_within_the_main_text(document, part):
    body = f"<main><h1>Pump</h1><p>{SENTENCE}</p>{part.format(MORE, SENTENCE)}<p>{MORE}</p></main>"
    text = document("a.html", f"<body>{body * 3}</body>").text
    assert [text.count(each) for each in ("-y", "--after", "-x")] == [3, 3, 3]


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "title",
    [
        "<h2><button>{}</button></h2>",
        '<button class="accordion-button">{}</button>',
        "<button>{}?</button>",
        "<details><summary>{}</summary></details>",
    ],
)
def test_the_titles_of_what_opens_are_kept(document, title):
    shown = title.format("How often it is oiled")
    page = f"<main><h1>Pump</h1><p>{SENTENCE}</p><p>{MORE}</p>{shown}<p>{SENTENCE}</p></main>"
    assert "How often it is oiled" in document("a.html", page).text


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "hidden",
    [
        '<div role="tabpanel" hidden><p>{}</p></div>',
        '<h2><button aria-controls="a">How?</button></h2><div id="a" hidden><p>{}</p></div>',
        '<a data-target="#a">How?</a><div id="a" style="display:none"><p>{}</p></div>',
        '<a aria-controls="b a">How?</a><div id="a" aria-hidden="true"><p>{}</p></div>',
        '<h3><button aria-expanded="false">How?</button></h3><div aria-hidden="true">{}</div>',
        '<button class="faq">How?</button><div hidden><p>{}</p></div>',
    ],
)
def test_what_a_reader_can_open_is_text(document, hidden):
    answer = "Turn the tap of the station to the left until oil has come out of it for a minute."
    for mode in ("main", "all"):
        shown = f"<main><h1>Pump</h1><p>{SENTENCE}</p>{hidden.format(answer)}<p>{MORE}</p></main>"
        assert answer in document("a.html", shown, html=mode).text


LINKS = "".join(f'<li><a href="/{name}">{name}</a></li>' for name in ("amber", "brown", "cyan"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "part",
    [
        f"<h2>Pumps</h2><ul>{LINKS}</ul>",
        f"<h2>Pumps</h2><div class='ulist'><ul>{LINKS}</ul></div>",
        f"<ul><li>Of these:<ul>{LINKS}</ul></li><li>x</li></ul>",
        "<p>See <a href='/a'>amber</a>, <a href='/b'>brown</a> and <a href='/c'>cyan</a>.</p>",
        "<table><tr><th>Pump</th><th>Oil</th><th>Mode</th></tr><tr><td><a href='/a'>amber</a></td>"
        "<td><a href='/b'>brown</a></td><td><a href='/c'>cyan</a></td></tr></table>",
        "<ul><li><a href='mailto:a@b.de'>amber</a></li><li><a href='tel:1'>brown</a></li>"
        "<li><a href='mailto:c@b.de'>cyan</a></li></ul>",
        f"<section id='see-also'><h2>See also</h2><ul>{LINKS}</ul></section>",
        f"<div class='sect1'><h2>More</h2><div class='body'><ul>{LINKS}</ul></div></div>",
    ],
)
@pytest.mark.parametrize("frame", ["<main>{}</main>", "<body>{}</body>"])
def test_links_within_a_text_are_of_it(document, part, frame):
    page = frame.format(f"<h1>x</h1><p>{SENTENCE}</p>{part}<p>{MORE}</p><p>{SENTENCE} Now.</p>")
    text = document("a.html", page).text
    assert all(name in text for name in ("amber", "brown", "cyan"))


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "noise",
    [
        f"<div class='menu'><h2>Noise</h2><ul>{LINKS}</ul></div>",
        f"<div><h2>Noise</h2><ul>{LINKS}</ul></div>",
        f"<ul><li><h2>Noise</h2><ul>{LINKS}</ul></li></ul>",
        "<ul><li><a href='https://x.com/intent/tweet?u=1'>amber</a></li>"
        f"<li><a href='https://facebook.com/sharer.php'>Noise</a></li>{LINKS}</ul>",
        "<div class='comments' id='comments'><h2>Comments</h2><p>Noise</p></div>",
        "<aside><h2>Noise</h2><p>Our newsletter tells you all of the pumps of this year and of the "
        "next.</p><form><input name='mail'></form></aside>",
    ],
)
def test_boxes_of_links_beside_a_text_are_not(document, noise):
    page = f"<main><h1>x</h1><p>{SENTENCE} {MORE} {SENTENCE} {MORE}</p>{noise}</main>"
    text = document("a.html", page).text
    assert "Noise" not in text
    assert "amber\n" not in text


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize(
    "part",
    [
        f'<section id="search"><h2>Search<a href="#search">¶</a></h2><p>{SENTENCE}</p></section>',
        f'<div class="section" id="comments"><h2>Comments</h2><p>{SENTENCE}</p></div>',
        f'<div id="cookies"><h2>Cookies</h2><p>{SENTENCE}</p></div>',
        f'<div class="share-classes"><h2>Shares of A</h2><p>{SENTENCE}</p></div>',
        f'<div class="columnLayout two-right-sidebar"><p>{SENTENCE}</p></div>',
        f'<aside class="footnote-list"><aside role="doc-footnote">{SENTENCE}</aside></aside>',
        f'<aside class="topic"><p class="topic-title">x</p><p>{SENTENCE}</p></aside>',
        f'<aside class="sidebar"><p class="sidebar-title">x</p><p>{SENTENCE}</p></aside>',
        f'<aside class="infobox"><h3>How</h3><p>{SENTENCE}</p></aside>',
        f"<blockquote><p>x</p><footer>{SENTENCE}</footer></blockquote>",
    ],
)
def test_sections_and_remarks_are_kept_whatever_they_are_called(document, part):
    more = "".join(f"<p>{MORE} {number} times.</p>" for number in range(4))
    assert SENTENCE in document("a.html", f"<main><h1>x</h1>{more}{part}{more}</main>").text


@pytest.mark.usefixtures("way")
def test_short_captions_and_answers_are_kept(document):
    short = "<figure><img><figcaption>Valve of P-1</figcaption></figure><div>It leaks.</div>"
    page = f"<main><h1>x</h1><p>{SENTENCE} {MORE}</p>{short}<p>{MORE} {SENTENCE}</p></main>"
    assert "Valve of P-1\n\nIt leaks." in document("a.html", page).text


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("mode", ["main", "all"])
def test_pages_within_a_page_are_read(document, mode):
    inner = "&lt;body&gt;&lt;p&gt;Inner &amp;amp; shown.&lt;/p&gt;&lt;script&gt;no&lt;/script&gt;"
    page = (
        f"<h1>x</h1><p>{SENTENCE}</p><iframe srcdoc='{inner}'></iframe><x-card>"
        '<template shadowrootmode="open"><p>Card.</p></template></x-card>'
        f"<template><p>no</p></template><p>{MORE}</p>"
    )
    found = document("a.html", page, html=mode).text
    assert found == f"x\n\n{SENTENCE}\n\nInner & shown.\n\nCard.\n\n{MORE}"


def test_marked_characters_are_text_in_xhtml_alone(document):
    page = "<body><p>a <![CDATA[b < c &amp; d]]> e</p><script><![CDATA[no]]></script></body>"
    assert (
        document("a.xhtml", f"<?xml version='1.0'?><html>{page}</html>").text == "a b < c &amp; d e"
    )
    assert "c &amp; d" not in document("a.html", page).text
