"""Kinds of files beyond web pages, Word and PDF: what is particular to each."""

import io
import json
import zipfile
from email.message import EmailMessage

import pytest

SENTENCE = "The amber pump needs thin oil."


def zipped(**parts):
    """Return a zip archive of parts by name; `__` stands for a slash, `_` for a full stop."""
    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, text in parts.items():
            archive.writestr(name.replace("__", "/").replace("_", "."), text)
    return packed.getvalue()


# E-mails


def mail(subject="Ventil für die Pumpe", text=SENTENCE, **headers):
    message = EmailMessage()
    message["Subject"], message["From"] = subject, "A. Keeper <a@example.org>"
    for name, value in headers.items():
        message[name] = value
    message.set_content(text)
    return message


def test_an_email_with_an_alternative_and_attachments(document):
    message = mail(Date="Thu, 26 Nov 2026 10:00:00 +0000")
    message.add_alternative(f"<p>{SENTENCE} In HTML.</p>", subtype="html")
    message.add_attachment(b"%PDF", maintype="application", subtype="pdf", filename="report.pdf")
    message.add_attachment(mail("Inner", "inner text"))
    found = document("a.eml", message.as_bytes())
    assert found.title == "Ventil für die Pumpe"
    assert found.text == (
        'Ventil für die Pumpe\n\nFrom: "A. Keeper" <a@example.org>\n'
        f"Date: Thu, 26 Nov 2026 10:00:00 +0000\n\n{SENTENCE}\n\n"
        'Inner\n\nFrom: "A. Keeper" <a@example.org>\n\ninner text'
    )
    assert found.unread == ("attachment report.pdf (application/pdf): save it beside the e-mail",)


def test_an_email_of_html_alone_and_of_another_charset(document, unread):
    html = mail()
    html.set_content("<p>One</p><ul><li>two</li></ul>", subtype="html")
    assert document("a.eml", html.as_bytes()).text.endswith("\n\nOne\n\n- two")
    old = b"From: a@b\nContent-Type: text/plain; charset=x-none\n\ncaf\xe9"
    assert document("a.eml", old).text == "From: a@b\n\ncafé"
    flowed = b"From: a@b\nContent-Type: text/plain; format=flowed\n\none \ntwo\nthree"
    assert document("a.eml", flowed).text == "From: a@b\n\none two\nthree"
    assert "not an e-mail" in unread("a.eml", b"just text")


@pytest.mark.parametrize(
    ("head", "data", "encoding", "text"),
    [
        ("; charset=gb2312", "中文朞".encode("gbk"), "utf-8", "中文朞"),
        ("; charset=us-ascii", b"caf\xe9", "utf-8", "café"),
        ("", "тихо".encode("koi8-r"), "koi8-r", "тихо"),
    ],
)
def test_encodings_of_emails(document, head, data, encoding, text):
    whole = f"From: a@b\nContent-Type: text/plain{head}\n\n".encode() + data
    found = document("a.eml", whole, encoding=encoding)
    assert (found.text, found.unread) == (f"From: a@b\n\n{text}", ())


def test_what_is_lost_of_an_email_is_named_once(document):
    spoilt = document("a.eml", "From: a@b\n\nтихо".encode("koi8-r"))
    assert "bytes that are not utf-8, read as cp1252" in spoilt.unread[0]
    locked = b"From: a@b\nContent-Type: multipart/encrypted; boundary=x\n\n--x\n\nVersion: 1\n--x--"
    assert "encrypted text" in document("a.eml", locked).unread[0]
    inner, outer = mail("Inner"), mail()
    inner.add_attachment(b"x", maintype="application", subtype="pdf", filename="p.pdf")
    outer.add_attachment(inner)
    [lost] = document("a.eml", outer.as_bytes()).unread
    assert lost.startswith("attachment p.pdf")


# Books


CONTAINER = '<container><rootfiles><rootfile full-path="O/p.opf"/></rootfiles></container>'
PACKAGE = """<package xmlns:dc="http://purl.org/dc/elements/1.1/"><metadata><dc:title>Pumps</dc:title>
</metadata><manifest><item id="b" href="b.xhtml" media-type="application/xhtml+xml"/>
<item id="a" href="a%20a.xhtml" media-type="application/xhtml+xml"/>
<item id="n" href="n.xhtml" media-type="application/xhtml+xml" properties="nav"/>
</manifest><spine><itemref idref="n"/><itemref idref="a"/><itemref idref="b"/></spine></package>"""


def book(**more):
    parts = {
        "META-INF__container_xml": CONTAINER,
        "O__p_opf": PACKAGE,
        "O__n_xhtml": '<nav><a href="a%20a.xhtml">First</a><a href="b.xhtml#x">Second</a></nav>',
        "O__a a_xhtml": f"<html><body><p>{SENTENCE}</p></body></html>",
        "O__b_xhtml": "<html><body><h1>Own</h1><p>Text.</p></body></html>",
    }
    return zipped(**(parts | more))


def test_a_book_is_its_chapters_in_reading_order(document, unread):
    found = document("a.epub", book())
    assert (found.title, found.text) == ("Pumps", f"First\n\n{SENTENCE}\n\nOwn\n\nText.")
    assert [heading.text for heading in found.headings] == ["First", "Own"]
    locked = '<e><c:CipherReference xmlns:c="c" URI="O/b.xhtml"/></e>'
    found = document("a.epub", book(**{"META-INF__encryption_xml": locked}))
    assert found.unread == ("chapter O/b.xhtml: it is protected against reading",)
    assert "no META-INF/container.xml" in unread("a.epub", zipped(a="x"))


def test_no_chapter_or_note_of_a_book_is_lost_in_silence(document):
    note = '<p>One.</p><aside epub:type="footnote" hidden=""><p>A note.</p></aside>'
    old = PACKAGE.replace("application/xhtml+xml", "text/x-oeb1-document", 1)
    found = document("a.epub", book(O__p_opf=old, O__b_xhtml=note))
    assert found.text == f"First\n\n{SENTENCE}\n\nSecond\n\nOne.\n\nA note."
    other = PACKAGE.replace("application/xhtml+xml", "application/x-dtbook+xml", 1)
    [lost] = document("a.epub", book(O__p_opf=other)).unread
    assert lost == "chapter O/b.xhtml: it is application/x-dtbook+xml, which is not read"
    gone = PACKAGE.replace('id="b"', 'id="c"')
    assert document("a.epub", book(O__p_opf=gone)).unread == (
        "chapter b: it is missing from the file",
    )


# Notebooks


def test_a_notebook_is_markdown_with_fenced_code(document, unread):
    cells = [
        {"cell_type": "markdown", "source": ["# Pumps\n", "\n", SENTENCE]},
        {"cell_type": "code", "source": 'x = """\n```\n"""\n', "outputs": [{"text": "no"}]},
        {"cell_type": "raw", "source": "raw"},
    ]
    book = {"cells": cells, "metadata": {"kernelspec": {"language": "python"}}, "nbformat": 4}
    found = document("a.ipynb", json.dumps(book))
    assert found.text == f'# Pumps\n\n{SENTENCE}\n\n````python\nx = """\n```\n"""\n````\n\nraw'
    assert (found.title, len(found.blocks)) == ("Pumps", 1)
    old = {"worksheets": [{"cells": [{"cell_type": "heading", "level": 2, "source": "Old"}]}]}
    assert document("a.ipynb", json.dumps(old)).text == "## Old"
    assert "not a notebook" in unread("a.ipynb", "{}")
    assert "not a notebook" in unread("a.ipynb", "[1")


# OpenDocument


OFFICE = (
    'xmlns:office="urn:oasis:names:tc:opendocument:xmlns:office:1.0" '
    'xmlns:text="urn:oasis:names:tc:opendocument:xmlns:text:1.0" '
    'xmlns:table="urn:oasis:names:tc:opendocument:xmlns:table:1.0" '
    'xmlns:style="urn:oasis:names:tc:opendocument:xmlns:style:1.0" '
    'xmlns:draw="urn:oasis:names:tc:opendocument:xmlns:drawing:1.0"'
)


def odt(body, styles=""):
    return zipped(
        content_xml=f"<office:document-content {OFFICE}><office:automatic-styles>{styles}"
        f"</office:automatic-styles><office:body><office:text>{body}</office:text></office:body>"
        "</office:document-content>"
    )


def test_cells_and_rows_of_opendocument_that_are_written_once_for_several(document):
    cell = '<table:table-cell table:number-columns-repeated="2"><text:p>0</text:p>'
    row = f'<table:table-row table:number-rows-repeated="2">{cell}</table:table-cell>'
    last = "<table:table-cell><text:p>7</text:p></table:table-cell></table:table-row>"
    found = document("a.odt", odt(f"<table:table>{row}{last}</table:table>"))
    assert found.text == "0\t0\t7\n0\t0\t7"


def test_an_opendocument_text_as_it_reads(document):
    styles = (
        '<style:style style:name="H"><style:text-properties text:display="none"/></style:style>'
    )
    body = """<text:tracked-changes><text:p>gone</text:p></text:tracked-changes>
    <text:table-of-content><text:p>Pumps 3</text:p></text:table-of-content>
    <text:h text:outline-level="2">Pumps</text:h>
    <text:p>a<text:s text:c="2"/>b<text:tab/>c<text:line-break/>d<text:span
    text:style-name="H">no</text:span><text:note><text:note-citation>1</text:note-citation>
    <text:note-body><text:p>a note</text:p></text:note-body></text:note> e.</text:p>
    <text:p text:style-name="H">no</text:p><table:table><table:table-header-rows>
    <table:table-row><table:table-cell
    table:number-columns-spanned="2"><text:p>wide</text:p></table:table-cell><table:covered-table-cell/>
    </table:table-row></table:table-header-rows><table:table-row><table:table-cell><text:p>x</text:p>
    </table:table-cell><table:table-cell><text:p>1</text:p><text:p>2</text:p></table:table-cell>
    </table:table-row></table:table><text:p>f<draw:frame><draw:object/></draw:frame></text:p>"""
    found = document("a.odt", odt(body, styles))
    assert found.text == "Pumps\n\na b c\nd e.\n\na note\n\nwide\nx\t1 2\n\nf"
    assert [(each.level, each.text) for each in found.headings] == [(2, "Pumps")]
    assert found.text[found.blocks[0].start : found.blocks[0].header_end] == "wide\n"
    assert found.unread == ("chart or embedded object: save it as a document of its own",)


# reStructuredText


def test_rst_without_its_markup(document):
    text = """.. _top:
.. a comment
   of two lines

======
Manual
======

Use :ref:`the valve <valve>`, ``code *x*`` and **care**, see `docs <http://x>`_, link_ and |v| [1]_.

.. |v| replace:: version 2
.. [1] A note.
.. note:: Mind the *gap*.
.. toctree::

   other

Sub
---

An example::

    $ run

+------+---------+
| Pump | Bar     |
+======+=========+
| P-1  | 2       |
|      | at most |
+------+---------+

.. list-table::
   :header-rows: 1

   * - Oil
     - Price
   * - thin
     - 3

* one

  #. two

term
   meaning
:field: value

.. include:: x.rst
"""
    found = document("a.rst", text)
    assert found.text == (
        "Manual\n\nUse the valve, code *x* and care, see docs, link and version 2 [1].\n\n"
        "[1] A note.\n\nNote: Mind the gap.\n\nSub\n\nAn example:\n\n$ run\n\n"
        "Pump\tBar\nP-1\t2 at most\n\nOil\tPrice\nthin\t3\n\n- one\n  #. two\n\n"
        "term: meaning\n\nfield: value"
    )
    assert [(each.level, each.text) for each in found.headings] == [(1, "Manual"), (2, "Sub")]
    assert found.unread == ("included file x.rst: it is not read here",)


# Rich Text


def test_rich_text(document, unread):
    text = rb"""{\rtf1\ansi\ansicpg1252\uc1{\fonttbl{\f0\fcharset0 Times;}{\f1\fcharset2 Symbol;}
{\f2\fcharset204 Times CYR;}}{\stylesheet{\s0 Normal;}{\s1 heading 1;}}{\info{\title The title}}
{\header no\par}\pard\s1 Heading\par\pard\plain Caf\'e9 \f1 a\f0  \u8364 ?5 and \f2\'cf\'f0\f0
{\v hidden}{\deleted gone} 10{\super 6}\par{\listtext\bullet\tab}one\par{\listtext 2.\tab}two\par
\trowd\intbl Pump\cell Oil\cell\row\trowd\intbl P-1\cell thin\par more\cell\row
\pard After{\footnote\pard\plain the note}.\par {\field{\*\fldinst HYPERLINK "x"}{\fldrslt link}}
{\pict abcdef}{\*\unknown no}\par}"""
    found = document("a.rtf", text)
    assert found.title == "The title"
    assert found.text == (
        "Heading\n\nCafé α €5 and Пр 10^6\n\n- one\n2. two\n\nPump\tOil\nP-1\tthin more\n\n"
        "After.\n\nthe note\n\nlink"
    )
    assert [each.text for each in found.headings] == ["Heading"]
    assert "not Rich Text" in unread("a.rtf", b"x")


# LaTeX


def test_latex_without_its_commands(document):
    text = r"""\documentclass{article}\newcommand{\pump}{amber pump}\title{The \textbf{manual}}
\begin{document}\maketitle % a comment
\section[short]{Pumps}\label{s}
The \pump{} runs at 9\,bar\footnote{At 20\,\textdegree C.} -- caf\'e, Stra\ss e, 50\,\% \cite{x}
and $x_1 = \frac{a}{b}$, see \href{http://x}{the page}.
\begin{enumerate}\item one\begin{itemize}\item two\end{itemize}\item three\end{enumerate}
\begin{verbatim}
a % b
\end{verbatim}
\begin{tabular}{|l|r|}\hline Pump & Bar \\ \hline P\&Q & 2 \\ \end{tabular}
\begin{equation}\label{e} E = mc^2 \end{equation}
\input{other}
\end{document}"""
    found = document("a.tex", text)
    assert found.title == "The manual"
    assert found.text == (
        "Pumps\n\nThe amber pump runs at 9 bar (At 20 °C.) – café, Straße, 50 % [x] and "
        "$x_1 = \\frac{a}{b}$, see the page.\n\n1. one\n  - two\n2. three\n\na % b\n\n"
        "Pump\tBar\nP&Q\t2\n\nE = mc^2"
    )
    assert found.unread == ("file other, which it takes in: it is not read here",)


# XML


def test_xml_keeps_one_form_of_what_is_given_in_several(document):
    forms = (
        "<p>If <inline-formula><alternatives><tex-math>\\documentclass{a}\\begin{document}$x$"
        "\\end{document}</tex-math></alternatives></inline-formula> is "
        "<alternatives><tex-math>y</tex-math><math><mi>y</mi></math></alternatives>.</p>"
        "<table-wrap><alternatives><graphic/><table><tr><td>a</td><td>b</td></tr></table>"
        "</alternatives></table-wrap>"
    )
    found = document("a.xml", f"<article><body><sec><title>S</title>{forms}</sec></body></article>")
    assert found.text == "S\n\nIf $x$ is y.\n\na\tb"


def test_xml_drops_editors_remarks_only_where_they_are_such(document):
    assert document("a.xml", "<article><remark>no</remark><para>yes</para></article>").text == "yes"
    record = "<pump><name>P1</name><remark>Handle with care</remark></pump>"
    assert document("a.xml", record).text == "name: P1\nremark: Handle with care"


def test_xml_of_any_vocabulary(document):
    text = """<?xml version="1.0"?><!DOCTYPE pumps [<!ENTITY b "bomb">]><pumps>
    <pump id="1"><name>P-1</name><oil>thin &b;</oil></pump><text>Runs <b>hot</b> always.</text>
    <log><e>one</e><e>two</e></log></pumps>"""
    found = document("a.xml", text)
    assert found.text == "name: P-1\noil: thin\n\nRuns hot always.\n\none\n\ntwo"
    assert found.unread[0].startswith("entity &b;")


def test_dita(document):
    text = """<task id="t"><title>Oiling</title><taskbody><context><p>First.</p></context>
    <steps><step><cmd>Open</cmd></step><step><cmd>Oil it</cmd></step></steps>
    <simpletable><sthead><stentry>Pump</stentry><stentry>Oil</stentry></sthead>
    <strow><stentry>P-1</stentry><stentry>thin</stentry></strow></simpletable></taskbody></task>"""
    found = document("a.dita", text)
    assert found.text == "Oiling\n\nFirst.\n\n1. Open\n2. Oil it\n\nPump\tOil\nP-1\tthin"
    assert [each.text for each in found.headings] == ["Oiling"]


# Guards


SHEET = {"xl__workbook_xml": "<w/>"}


@pytest.mark.parametrize(
    ("name", "part"),
    [("a.xlsx", "xl__workbook_xml"), ("a.pptx", "ppt__presentation_xml"), ("a.odt", "content_xml")],
)
def test_archives_are_unpacked_with_care(unread, name, part):
    bomb = zipped(**{part: "<a>" + "a" * 3_000_000 + "</a>"})
    assert "its unpacked text is over 1 MB" in unread(name, bomb, max_bytes=1_000_000)
    laughs = zipped(**{part: '<!DOCTYPE x [<!ENTITY a "ha">]><x>&a;</x>'})
    assert "DOCTYPE" in unread(name, laughs)
    assert "truncated" in unread(name, bomb[:1000])
    assert "there is no" in unread(name, zipped(other="x"))
    assert "without a password" in unread(name, b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)


@pytest.mark.parametrize("name", ["a.xml", "a.rtf", "a.html"])
def test_deep_nesting_is_refused(read, name):
    pieces = {"a.xml": ("<a>", "</a>"), "a.rtf": ("{\\b ", "}"), "a.html": ("<div>", "</div>")}
    begin, end = pieces[name]
    start = "{\\rtf1 " if name == "a.rtf" else ""
    [found] = read(name, start + begin * 100_000 + "x" + end * 100_000 + "}" * bool(start))
    assert "nested too deep" in found.reason


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (
            ".. list-table::\n\n   *  - a\n      - b\n   *  - c\n        d\n      - e",
            "a\tb\nc d\te",
        ),
        (".. list-table::\n\n   - * a\n     * b\n   - * c\n     * d", "a\tb\nc\td"),
        ("==  ==  ==\nInputs  y\n------  --\na   b   c\n==  ==  ==", "Inputs\t\ty\na\tb\tc"),
        ("====  ==\n漢字  a\nb     c\n====  ==", "漢字\ta\nb\tc"),
        ('.. csv-table::\n\n   a, "two\n   lines"', "a\ttwo lines"),
        (".. code-block:: c\n   :caption: How\n\n   x", "How\n\nx"),
    ],
)
def test_no_cell_or_caption_of_rst_is_lost(document, text, shown):
    assert document("a.rst", text + "\n").text == shown


def test_short_titles_and_short_underlines_of_rst(document, unread):
    found = document("a.rst", "C\n=\n\nOne\n\nLonger title\n-----\n\ntwo\n")
    assert [each.text for each in found.headings] == ["C", "Longer title"]
    assert (
        "included file a.csv"
        in document("a.rst", "x\n\n.. csv-table::\n   :file: a.csv\n").unread[0]
    )


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        (r"see \url{http://x.org/~a%20b} and more % no", "see http://x.org/~a%20b and more"),
        (r"the \href{http://x.org/a%20b}{link} stays", "the link stays"),
        (r"half is \verb|50% + x| here", "half is 50% + x here"),
        (r"\term{one word}{other} ends", "one word other ends"),
        (r"Gr{\"u}{\ss}e \textbf{a}b", "Grüße ab"),
        ("\\begin{theorem}[Of pumps]\nIt runs.\\end{theorem}", "Of pumps\n\nIt runs."),
        ("\\begin{box}[a=1, title={A box}]\nIt runs.\\end{box}", "A box\n\nIt runs."),
        ("\\begin{block}{Title}\nBody\\end{block}", "Title\n\nBody"),
    ],
)
def test_no_word_of_latex_is_lost_or_joined(document, text, shown):
    assert document("a.tex", text).text == shown


@pytest.mark.parametrize("written", [rb"\'83A", rb"\'83\'41"])
def test_the_second_byte_of_a_japanese_letter_can_be_plain(document, written):
    fonts = rb"{\fonttbl{\f0\fcharset128 Mincho;}}\f0 "
    assert document("a.rtf", rb"{\rtf1" + fonts + written + rb"\'83\\b}").text == "アソb"


RELATED = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def office(main, kind, part, **parts):
    """Return an Office file whose main part has one other part, which may have a drawing."""

    def relations(**targets):
        found = "".join(
            f'<Relationship Id="{name}" Type="{RELATED}/{name}" Target="{target}"/>'
            for name, target in targets.items()
        )
        spaces = "http://schemas.openxmlformats.org/package/2006/relationships"
        return f'<Relationships xmlns="{spaces}">{found}</Relationships>'

    packed = io.BytesIO()
    with zipfile.ZipFile(packed, "w") as archive:
        archive.writestr("_rels/.rels", relations(officeDocument="x/main.xml"))
        archive.writestr("x/main.xml", main)
        archive.writestr(
            "x/_rels/main.xml.rels", relations(**{kind: "part.xml", "styles": "styles.xml"})
        )
        archive.writestr("x/_rels/part.xml.rels", relations(drawing="drawing.xml"))
        for name, text in {"part": part, **parts}.items():
            if text:
                archive.writestr(f"x/{name}.xml", text)
    return packed.getvalue()


BOOK = f'<w xmlns:r="{RELATED}"><sheet name="S" r:id="worksheet"/></w>'


@pytest.mark.parametrize(
    ("code", "value", "shown"),
    [
        ("00000", "1234", "01234"),
        ("[h]:mm:ss", "1.5", "36:00:00"),
        ("[mm]:ss", "-0.5", "-12:00:00"),
        ("General", "12345678901234567", "12345678901234567"),
        ("General", "0.30000000000000004", "0.3"),
        ("[$-409]d/m/yyyy", "45000", "2023-03-15"),
    ],
)
def test_numbers_of_workbooks_are_shown_to_the_last_digit(document, code, value, shown):
    styles = (
        f'<s><numFmt numFmtId="164" formatCode="{code}"/>'
        '<cellXfs><xf numFmtId="164"/></cellXfs></s>'
    )
    sheet = f'<s><row><c s="0"><v>{value}</v></c></row></s>'
    assert document("a.xlsx", office(BOOK, "worksheet", sheet, styles=styles)).text == shown


def test_text_boxes_on_sheets_are_read_and_charts_are_named(document):
    box = "<p><t>in a </t><t>box</t></p>"
    drawing = f"<d><Choice>{box}</Choice><Fallback>{box}</Fallback><chart/></d>"
    sheet = "<s><row><c><v>7</v></c></row></s>"
    found = document("a.xlsx", office(BOOK, "worksheet", sheet, drawing=drawing))
    assert found.text == "7\n\nin a box"
    assert found.unread == ("chart: its labels and figures are not read",)


def test_a_slide_that_is_missing_is_named(document, unread):
    show = f'<p xmlns="x" xmlns:r="{RELATED}"><sldId id="256" r:id="slide"/></p>'
    slide = "<s><p><t>seen</t></p></s>"
    assert document("a.pptx", office(show, "slide", slide)).text == "seen"
    twice = show.replace("<sldId", '<sldId id="1" r:id="gone"/><sldId')
    found = document("a.pptx", office(twice, "slide", slide))
    assert found.unread == ("slide that is missing from the file: save it again",)


@pytest.mark.parametrize(
    ("body", "shown"),
    [
        (r"{\pard\intbl a\cell b\cell\row}after\par more\par", "a\tb\n\nafter\n\nmore"),
        (r"\trowd one\par two\cell b\cell\row\trowd c\cell d\cell\row", "one two\tb\nc\td"),
        (r"\pard\intbl a{\footnote noted}\cell b\cell\row", "a\tb\n\nnoted"),
        (r"one\column two\softline three\par", "one\n\ntwo three"),
        (r"{\shp{\*\shpinst{\shptxt once\par}}{\shprslt once\par}}", "once"),
    ],
)
def test_rows_notes_and_boxes_of_rich_text_stand_where_they_belong(document, body, shown):
    assert document("a.rtf", rf"{{\rtf1 {body}}}").text == shown
