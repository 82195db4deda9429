import pytest

PAGE = """<!doctype html><html><head><title> A  page </title><style>p {}</style>
<script>if (a < b) document.write("<p>no</p>")</script></head><body>
<nav><ul><li>Home</li></ul><h2>Menu</h2></nav>
<h1>First <em>head</em></h1><p>One&nbsp;two <b>th</b>ree<br>four &amp; five.
<h2>Second</h2><ul><li>a</li><li>b</li></ul>
<table><tr><td>x</td><td>y</td></tr><tr><td>z</td></tr></table>
<pre>keep
  this</pre><!-- no --><svg><text>no</text></svg>end</body></html>"""


def test_a_page_is_what_it_shows(document):
    found = document("a.html", PAGE)
    assert found.title == "A page"
    assert found.text == (
        "First head\n\nOne two three\nfour & five.\n\nSecond\n\n- a\n- b\n\nx\ty\nz\n\n"
        "keep\n  this\n\nend"
    )
    assert [(h.level, h.text, found.text[h.start : h.end]) for h in found.headings] == [
        (1, "First head", "First head"),
        (2, "Second", "Second"),
    ]


@pytest.mark.parametrize(
    ("soup", "text"),
    [
        ("a<p>b</i></div><b>c<td>d", "a\n\nbc\n\nd"),
        ("<nav>never closed <p>text", "never closed\n\ntext"),
        ("<h1>never closed <p>text", "never closed\n\ntext"),
        ("just text", "just text"),
        ("a < b & c &lt; &#x41; &nosuch;", "a < b & c < A &nosuch;"),
        ("<p>a<!-- b <p>c --><p>d", "a\n\nd"),
        ("<svg>never closed<p>text", "never closed\n\ntext"),
    ],
)
def test_soup(document, soup, text):
    assert document("a.html", soup).text == text


def test_encodings_are_declared_or_given(document, unread):
    text = "<p>Grüße</p>"
    declared = '<meta charset="windows-1252">' + text
    assert document("a.html", declared.encode("cp1252")).text == "Grüße"
    http = '<meta http-equiv="Content-Type" content="text/html; charset=iso-8859-1">' + text
    assert document("a.html", http.encode("latin-1")).text == "Grüße"
    assert document("a.htm", text.encode("utf-16")).text == "Grüße"
    assert document("a.htm", text.encode("cp1252"), encoding="cp1252").text == "Grüße"
    assert "not UTF-8" in unread("a.html", text.encode("cp1252"))
    assert "'no-such' is unknown" in unread("a.html", '<meta charset="no-such">x')


@pytest.mark.parametrize(
    ("label", "data", "text"),
    [
        ("latin1", b"\x93quoted\x94 \x80 \xfc", "“quoted” € ü"),  # windows-1252
        ("iso-8859-1", b"undefined \x81 too", "undefined \x81 too"),
        ("us-ascii", b"caf\xe9", "café"),
        ("gb2312", "中文。朞".encode("gbk"), "中文。朞"),  # gbk
        ("shift_jis", "①文".encode("cp932"), "①文"),
        ("utf-16", "Grüße".encode(), "Grüße"),
        ("latin-1", b"caf\xe9", "café"),  # known to Python alone
        ("cp437", b"caf\x82", "café"),
        ("x-user-defined", b"", None),
        ("windows-1253", b"\xaa", None),
    ],
)
def test_labels_mean_what_they_mean_to_browsers(read, label, data, text):
    [found] = read("a.html", f'<meta charset="{label}"><p>x'.encode() + data)
    if text is None:
        assert "unknown" in found.reason or "not CP1253" in found.reason
    else:
        assert found.text == "x" + text


def test_deep_nesting_loses_nothing(read):
    depth = 100_000
    [found] = read("a.html", "<div>" * depth + "deep" + "</div>" * depth + "after")
    text = getattr(found, "text", "")
    assert text == "deep\n\nafter" or "nest" in getattr(found, "reason", "").lower(), found


def test_a_page_without_text_is_reported(unread):
    assert unread("a.html", "<html><script>x</script></html>") == "there is no text in it"


@pytest.mark.parametrize(
    ("page", "text"),
    [
        ("<p>It is</p><pre>42</pre>", "It is\n\n42"),
        ("<pre>1\n2\n3</pre><pre>a\nb\nc</pre>", "a\nb\nc"),  # the numbers of the lines
        (
            "<dl><dt>A<dd>one<dl><dt>B<dd>two</dl>three</dl>",
            "A\n\none\n\nB: two\n\nthree",
        ),
        ("<dl>Before<dt>A<dd>one</dl>", "Before\n\nA\n\none"),
        ("<table>x<tr><td>a<td>b</tr>y<tr><td>c<td>d</table>", "x y\n\na\tb\nc\td"),
        ("<table><tr><form><td>a</td><td>b</td></form></tr></table>", "a\tb"),
        ('<div style="backface-visibility: hidden">seen</div>', "seen"),
        ("<html><body>a</body></html>\n<p>b</HTML ><html><body><p>c</html>", "a\n\nb\n\nc"),
        ('<body style="display:none">shown when it is loaded</body>', "shown when it is loaded"),
    ],
)
def test_every_word_is_there_once(document, page, text):
    assert document("a.html", page, html="all").text == text


def test_a_page_behind_an_open_dialog_is_read(document):
    page = "<div aria-hidden=true><p>The whole page.</p><i aria-hidden=true>x</i></div><p>Sure?"
    assert document("a.html", page, html="all").text == "The whole page.\n\nSure?"
