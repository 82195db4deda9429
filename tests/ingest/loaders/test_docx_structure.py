"""What Word files hold besides plain paragraphs."""

import pytest

M = 'xmlns:m="http://schemas.openxmlformats.org/officeDocument/2006/math"'
W = 'xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main"'
MC = 'xmlns:mc="http://schemas.openxmlformats.org/markup-compatibility/2006"'


def run(text, properties=""):
    return f'<w:r><w:rPr>{properties}</w:rPr><w:t xml:space="preserve">{text}</w:t></w:r>'


def p(content, properties=""):
    content = content if content.startswith("<") else run(content)
    return f"<w:p><w:pPr>{properties}</w:pPr>{content}</w:p>"


def cell(content, properties=""):
    content = content if content.startswith("<w:p") else p(content or "<w:r/>")
    return f"<w:tc><w:tcPr>{properties}</w:tcPr>{content}</w:tc>"


def row(*cells, properties=""):
    cells = (each if each.startswith("<w:tc") else cell(each) for each in cells)
    return f"<w:tr><w:trPr>{properties}</w:trPr>{''.join(cells)}</w:tr>"


def table(*rows):
    return f"<w:tbl>{''.join(rows)}</w:tbl>"


def item(text, list_id=1, level=0):
    numbered = f'<w:numPr><w:ilvl w:val="{level}"/><w:numId w:val="{list_id}"/></w:numPr>'
    return p(text, numbered)


def blocks(document):
    """Return the units of each block, and its header."""
    found = []
    for each in document.blocks:
        ends = (*each.units[1:], each.end)
        units = [document.text[a:b].strip("\n") for a, b in zip(each.units, ends, strict=True)]
        found.append((units, document.text[each.start : each.header_end].rstrip("\n")))
    return found


@pytest.fixture
def text(document, make_docx):
    """Return the text of a Word file of this body."""
    return lambda body, **parts: document("a.docx", make_docx(body, **parts)).text


def test_a_table_is_a_row_a_line(document, make_docx):
    two = p("2 bar") + p("at most")
    body = p("Above") + table(
        row("Pump", "Pressure", ""), row("P-1", cell(two), "x"), row("P-2", "5\u00a0bar", "")
    )
    found = document("a.docx", make_docx(body + p("Below")))
    assert found.text == "Above\n\nPump\tPressure\nP-1\t2 bar at most\tx\nP-2\t5 bar\n\nBelow"
    assert blocks(found) == [
        (["Pump\tPressure", "P-1\t2 bar at most\tx", "P-2\t5 bar"], "Pump\tPressure")
    ]


def test_header_rows_are_those_marked_or_those_that_look_like_one(document, make_docx):
    marked = "<w:tblHeader/>"
    for body, header in (
        (table(row("1", "2", properties=marked), row("3", "4", properties=marked), row("5", "6")),
         "1\t2\n3\t4"),
        (table(row("P-1", "2 bar"), row("P-2", "3 bar")), ""),
        (table(row("Pump", "Pump"), row("P-2", "3 bar")), ""),
        (table(row("", "Oil"), row("P-2", "3 bar")), ""),
        (table(row("", "Oil", "Price"), row("P-2", "thin", "3")), "\tOil\tPrice"),
    ):  # fmt: skip
        [(_, shown)] = blocks(document("a.docx", make_docx(body)))
        assert shown == header


def test_merged_cells_and_tables_in_cells(text):
    down, on = '<w:vMerge w:val="restart"/>', "<w:vMerge/>"
    body = table(
        row(cell("Team A", down), "P-1", "x"),
        row(cell("", on), cell("both", '<w:gridSpan w:val="2"/>')),
        row("c", cell(table(row("n1", "n2"), row("n3", "n4")) + p("after")), "z"),
    )
    assert text(body) == "Team A\tP-1\tx\nTeam A\tboth\nc\tn1 n2; n3 n4 after\tz"


def test_a_table_that_is_a_frame_is_no_table(document, make_docx):
    body = table(row(cell(p("Note", '<w:pStyle w:val="Heading1"/>') + p("Text.") + p("More."))))
    found = document("a.docx", make_docx(body))
    assert (found.text, found.blocks) == ("Note\n\nText.\n\nMore.", ())
    assert [h.text for h in found.headings] == ["Note"]


def math(content):
    return p(f"{run('It is ')}<m:oMath {M}>{content}</m:oMath>{run(' now.')}")


def mr(text):
    return f"<m:r><m:t>{text}</m:t></m:r>"


def test_equations_are_a_line_of_text(text):
    a_plus_b = mr("a+b")
    for content, shown in {
        mr("P=Q·Δp"): "P=Q·Δp",
        f"<m:f><m:num>{a_plus_b}</m:num><m:den>{mr('2')}</m:den></m:f>": "(a+b)/2",
        f"<m:sSup><m:e>{mr('x')}</m:e><m:sup>{mr('n-1')}</m:sup></m:sSup>": "x^(n-1)",
        f"<m:sSub><m:e>{mr('x')}</m:e><m:sub>{mr('i')}</m:sub></m:sSub>": "x_i",
        f"<m:rad><m:radPr><m:degHide/></m:radPr><m:deg/><m:e>{a_plus_b}</m:e></m:rad>": "√(a+b)",
        f"<m:rad><m:deg>{mr('3')}</m:deg><m:e>{mr('x')}</m:e></m:rad>": "√[3](x)",
        f"<m:nary><m:naryPr><m:chr m:val='∑'/></m:naryPr><m:sub>{mr('i=1')}</m:sub>"
        f"<m:sup>{mr('n')}</m:sup><m:e>{mr('x')}</m:e></m:nary>": "∑_(i=1)^n x",
        f"<m:d><m:dPr><m:begChr m:val='['/><m:endChr m:val=']'/></m:dPr><m:e>{mr('x')}</m:e></m:d>":
        "[x]",
        f"<m:func><m:fName>{mr('sin')}</m:fName><m:e>{mr('x')}</m:e></m:func>": "sin x",
        f"<m:m><m:mr><m:e>{mr('1')}</m:e><m:e>{mr('0')}</m:e></m:mr>"
        f"<m:mr><m:e>{mr('0')}</m:e><m:e>{mr('1')}</m:e></m:mr></m:m>": "[1, 0; 0, 1]",
        f"<w:del>{mr('old')}</w:del><w:ins>{mr('new')}</w:ins>": "new",
    }.items():  # fmt: skip
        assert text(math(content)) == f"It is {shown} now."


def test_symbols_are_characters_and_unknown_ones_are_reported(document, make_docx):
    sym = '<w:r><w:sym w:font="{}" w:char="{}"/></w:r>'
    fonts = '<w:rFonts w:ascii="Symbol" w:hAnsi="Symbol"/>'
    body = p(
        run("stay ") + sym.format("Symbol", "F0A3") + run(" 40 ") + sym.format("Symbol", "00B0")
        + run("C, 5 ") + run("m", fonts) + run("g, ") + sym.format("Wingdings", "F0FC")
        + run("\uf0b1", fonts) + run("\uf8e5") + sym.format("Wingdings 2", "F0FF")
    )  # fmt: skip
    found = document("a.docx", make_docx(body))
    assert found.text == "stay ≤ 40 °C, 5 μg, ✓±\ufffd\ufffd"
    assert [each.partition(":")[0] for each in found.unread] == [
        "symbol F8E5 of a font without a name",
        "symbol F0FF of Wingdings 2",
    ]


def test_tracked_changes_are_accepted(text):
    assert text(p(f"<w:moveFrom>{run('Once.')}</w:moveFrom>") + p("<w:moveTo>" + run("Once.")
                + "</w:moveTo>")) == "Once."  # fmt: skip
    assert text(p(f"{run('a')}<w:del>{run('b')}</w:del><w:ins>{run('c')}</w:ins>")) == "ac"
    joined = p("The valve is ", "<w:rPr><w:del/></w:rPr>") + p("open.")
    assert text(joined) == "The valve is open."
    was = '<w:pPrChange><w:pPr><w:pStyle w:val="Heading1"/></w:pPr></w:pPrChange>'
    assert text(p("body", was)) == "body"
    assert text(table(row("a", "b"), row("c", "d", properties="<w:del/>"))) == "a\tb"


STYLES = f"""<w:styles {W}>
<w:style w:styleId="H"><w:name w:val="heading 2"/></w:style>
<w:style w:styleId="Chapter"><w:name w:val="Company Chapter"/><w:basedOn w:val="H"/></w:style>
<w:style w:styleId="Part"><w:basedOn w:val="Chapter"/></w:style>
<w:style w:styleId="Outlined"><w:pPr><w:outlineLvl w:val="2"/></w:pPr></w:style>
<w:style w:styleId="NoHeading"><w:basedOn w:val="H"/><w:pPr><w:outlineLvl w:val="9"/></w:pPr>
</w:style><w:style w:styleId="Loop"><w:basedOn w:val="Loop"/></w:style>
<w:style w:styleId="Author"><w:basedOn w:val="Title"/></w:style>
<w:style w:styleId="Secret"><w:rPr><w:vanish/></w:rPr></w:style>
<w:style w:styleId="Verzeichnis1"><w:name w:val="toc 1"/></w:style>
<w:style w:styleId="Listing"><w:name w:val="Source Code"/></w:style>
</w:styles>"""


def styled(text, style):
    return p(text, f'<w:pStyle w:val="{style}"/>')


LEVELS = {
    "H": 2, "Chapter": 2, "Part": 2, "Outlined": 3, "NoHeading": 0, "Loop": 0, "Title": 1,
    "Author": 0,
}  # fmt: skip


@pytest.mark.parametrize(
    ("body", "level"),
    [
        *((styled("x", name), level) for name, level in LEVELS.items()),
        (p("x", '<w:outlineLvl w:val="0"/>'), 1),
        (p("x", '<w:pStyle w:val="H"/><w:outlineLvl w:val="9"/>'), 0),
    ],
)
def test_headings_by_style_and_outline(document, make_docx, body, level):
    found = document("a.docx", make_docx(body + p("text"), word_styles=STYLES))
    assert [each.level for each in found.headings] == ([level] if level else [])


def test_hidden_text_and_contents_are_left_out(text):
    hidden = run("no", "<w:vanish/>") + run("a", '<w:vanish w:val="0"/>') + run(
        "no", '<w:rStyle w:val="Secret"/>'
    )  # fmt: skip
    body = p(hidden) + styled("no", "Secret") + styled("Pumps ..... 3", "Verzeichnis1") + p("b")
    assert text(body, word_styles=STYLES) == "a\n\nb"
    control = "<w:sdt><w:sdtPr>{}</w:sdtPr><w:sdtContent>{}</w:sdtContent></w:sdt>"
    contents = '<w:docPartObj><w:docPartGallery w:val="Table of Contents"/></w:docPartObj>'
    body = (
        control.format(contents, p("Contents") + p("Pumps 3"))
        + control.format("<w:showingPlcHdr/>", p("Click here to enter text."))
        + control.format('<w:alias w:val="Name"/>', p("Amber"))
    )
    assert text(body) == "Amber"


def field(code, result=""):
    mark = '<w:r><w:fldChar w:fldCharType="{}"/></w:r>'.format
    code = f"<w:r><w:instrText>{code}</w:instrText></w:r>"
    return mark("begin") + code + mark("separate") + result + mark("end")


def test_fields_show_their_results(document, make_docx):
    body = (
        p(run("See ") + field(" PAGEREF x", run("12")) + run("."))
        + p(field(' TOC \\o "1-3" ', run("Pumps ") + field("PAGEREF y", run("3")) + run(" more")))
        + p(run("x ") + field("EQ \\f(1;2)") + run("y"))
        + p('<w:fldSimple w:instr=" TOC "><w:r><w:t>no</w:t></w:r></w:fldSimple>' + run("z"))
    )
    found = document("a.docx", make_docx(body))
    assert found.text == "See 12.\n\nx y\n\nz"
    assert found.unread == ("equation in an EQ field: type it as one of Word's own",)
    open_field = '<w:r><w:fldChar w:fldCharType="begin"/></w:r>' + run("kept all the same")
    assert document("a.docx", make_docx(p(open_field))).text == "kept all the same"


NUMBERING = f"""<w:numbering {W}><w:abstractNum w:abstractNumId="0">
<w:lvl w:ilvl="0"><w:start w:val="3"/><w:numFmt w:val="decimal"/><w:lvlText w:val="%1."/></w:lvl>
<w:lvl w:ilvl="1"><w:numFmt w:val="lowerLetter"/><w:lvlText w:val="%1.%2)"/></w:lvl>
<w:lvl w:ilvl="2"><w:numFmt w:val="bullet"/><w:lvlText w:val="\uf0b7"/></w:lvl></w:abstractNum>
<w:num w:numId="1"><w:abstractNumId w:val="0"/></w:num>
<w:num w:numId="2"><w:abstractNumId w:val="0"/><w:lvlOverride w:ilvl="0">
<w:startOverride w:val="1"/></w:lvlOverride></w:num></w:numbering>"""


def test_list_items_have_their_numbers(document, make_docx):
    body = (
        p("Do this:") + item("open") + item("slowly", level=1) + item("wait", level=1)
        + item("or not", level=2) + item("close") + item("gently", level=1) + p("Then:")
        + item("first", list_id=2) + item("fifth") + item("none", list_id=0)
    )  # fmt: skip
    found = document("a.docx", make_docx(body, word_numbering=NUMBERING))
    assert found.text == (
        "Do this:\n\n3. open\n  3.a) slowly\n  3.b) wait\n    - or not\n4. close\n  4.a) gently\n\n"
        "Then:\n\n1. first\n5. fifth\n\nnone"
    )
    assert [len(block.units) for block in found.blocks] == [6, 2]


def test_code_keeps_its_lines(document, make_docx):
    body = styled("def f():", "Listing") + styled("    return 1", "Listing") + p("text")
    found = document("a.docx", make_docx(body, word_styles=STYLES))
    assert found.text == "def f():\n    return 1\n\ntext"
    assert [len(block.units) for block in found.blocks] == [2]


def test_a_text_box_is_read_once_after_its_paragraph(text):
    box = f"<w:txbxContent>{p('in the box')}</w:txbxContent>"
    both = (
        f"<mc:AlternateContent {MC}><mc:Choice>{box}</mc:Choice>"
        f"<mc:Fallback>{box}</mc:Fallback></mc:AlternateContent>"
    )
    assert text(p(f"{run('a ')}<w:r>{both}</w:r>{run('b')}")) == "a b\n\nin the box"


def test_footnotes_follow_what_names_them_and_endnotes_come_last(text):
    def notes(kind, **texts):
        found = "".join(
            f'<w:{kind} w:id="{name[1:]}">{p(each)}</w:{kind}>' for name, each in texts.items()
        )
        return f"<w:{kind}s {W}>{found}</w:{kind}s>"

    named = '<w:r><w:footnoteReference w:id="{}"/></w:r>'.format
    body = (
        p(run("One") + named(2) + run("."))
        + table(row("a", cell(p(run("b") + named(3)))), row("c", "d"))
        + p("Two.")
    )
    parts = {
        "word_footnotes": notes("footnote", n2="first", n3="second", n4="named nowhere"),
        "word_endnotes": notes("endnote", n2="last"),
    }
    assert text(body, **parts) == (
        "One.\n\nfirst\n\na\tb\nc\td\n\nsecond\n\nTwo.\n\nnamed nowhere\n\nlast"
    )


def test_exponents_stay_exponents(text):
    raised = '<w:vertAlign w:val="superscript"/>'
    assert text(p(run("10") + run("6", raised) + run(" m") + run("2", raised))) == "10^6 m2"


def test_what_is_not_read_is_named(document, make_docx):
    chart = '<c:chart xmlns:c="http://schemas.openxmlformats.org/drawingml/2006/chart"/>'
    embedded = '<o:OLEObject xmlns:o="urn:schemas-microsoft-com:office:office" ProgID="{}"/>'
    body = p("<w:r><w:drawing><a:blip xmlns:a='a'/></w:drawing></w:r>" + run("text"))
    body += p(chart) * 2 + p(embedded.format("Excel.Sheet.12")) + p(embedded.format("Equation.3"))
    assert [each.partition(":")[0] for each in document("a.docx", make_docx(body)).unread] == [
        "2 × chart",
        "embedded object of Excel.Sheet.12",
        "equation of an older editor (Equation.3)",
    ]


def test_an_old_or_encrypted_file_is_named(unread):
    assert "save it as .docx" in unread("a.docx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600)
