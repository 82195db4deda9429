"""Headings, running heads, columns, paragraphs, lists, tables and code of PDFs."""

import pytest

from dalm.ingest.loaders.loader import Document, LoaderOptions
from dalm.ingest.loaders.pdf import load_pdf
from dalm.ingest.loaders.pdf_words import clean
from tests.ingest.pdf_files import At, column, make

pytest.importorskip("pypdfium2")

PROSE = [
    "The pump in the south house runs at nine bar, and it must be drained before the frost",
    "comes. Keepers note the hour in the book that hangs beside the gate, so that the next",
    "keeper knows when the oil was changed and by whom, and can tell the office about it.",
]


def load(data: bytes) -> Document:
    return load_pdf(data, "a.pdf", LoaderOptions())


def headings(document: Document) -> list[tuple[int, str]]:
    for each in document.headings:
        assert document.text[each.start : each.end] == each.text
    return [(each.level, each.text) for each in document.headings]


# Headings


def test_headings_are_those_of_the_outline_at_their_places():
    pages = [
        [
            At(72, 720, "1. Pumps", 11),
            *column(PROSE, y=690),
            At(72, 600, "1.1 Oil", 11),
            *column(PROSE, y=580),
        ],
        [
            *column(["Oil"], y=720, size=10),
            *column(PROSE, y=690),
            At(72, 600, "2 Valves"),
            *column(PROSE, y=580),
        ],
    ]
    data = make(
        *pages, outline=[("Pumps", 0, 730), ("Oil", 0, 610), ("Valves", 1, 610), ("Nowhere", 1, 0)]
    )
    found = load(data)
    assert headings(found) == [(1, "1. Pumps"), (1, "1.1 Oil"), (1, "2 Valves")]


def test_headings_without_an_outline_are_larger_or_bolder():
    page = [
        At(72, 740, "Pump manual", 20),
        At(72, 710, "1 Oil", 14, "F2"),
        *column(PROSE, y=690),
        At(72, 630, "1.1 Which oil to take", 10, "F2"),
        *column(PROSE, y=615),
        At(72, 560, "Warning: hot oil burns.", 10, "F2"),
        At(72, 540, "Figure 3. A larger drawing", 14, "F2"),
        *column(PROSE, y=500),
    ]
    assert headings(load(make(page))) == [
        (1, "Pump manual"),
        (2, "1 Oil"),
        (3, "1.1 Which oil to take"),
    ]


def test_a_heading_over_two_lines_is_one():
    page = [
        At(72, 740, "How to drain the pump before", 16),
        At(72, 721, "the frost comes", 16),
        *column(PROSE, y=690),
    ]
    assert headings(load(make(page))) == [(1, "How to drain the pump before the frost comes")]


def test_bold_words_in_the_text_are_no_heading():
    page = [*column(PROSE), At(72, 664, "and bold words", 10, "F2"), At(152, 664, "in a line")]
    assert headings(load(make(page))) == []


# Running heads


def book(pages: int, *, mirrored: bool = False) -> bytes:
    made = []
    for n in range(pages):
        chapter = f"Chapter {n // 4 + 1}. Pumps of house {n // 4}"
        head = f"{n + 11}   {chapter}" if mirrored and n % 2 else f"{chapter}   {n + 11}"
        words = [f"Text {n} of the page {chr(97 + n)}", *PROSE[:2]]
        made.append([At(72, 760, head, 9), *column(words), At(300, 30, "Acme - Confidential", 8)])
    return make(*made)


@pytest.mark.parametrize("mirrored", [False, True])
def test_running_heads_feet_and_page_numbers_are_left_out(mirrored):
    found = load(book(12, mirrored=mirrored))
    assert "Confidential" not in found.text
    assert "Chapter" not in found.text
    assert all(f"Text {n} of the page" in found.text for n in range(12))


def test_page_numbers_alone_are_left_out_and_other_numbers_stay():
    pages = [
        [
            *column([f"Text of {chr(97 + n)}", "which goes on"]),
            At(300, 30, str(n + 4)),
            At(72, 400, "230"),
        ]
        for n in range(5)
    ]
    found = load(make(*pages))
    assert found.text.count("230") == 5
    assert not any(word in found.text.split() for word in "45678")
    roman = [
        [*column([f"Text of {chr(97 + n)}"]), At(300, 30, "ii iii iv v vi".split()[n])]
        for n in range(5)
    ]
    assert "iii" not in load(make(*roman)).text


def test_text_that_repeats_at_the_same_height_is_no_running_head():
    last = "A repair that begins on one page and is described at some length may well"
    pages = [
        [At(72, 760, "Acme manual", 9), *column([*PROSE, f"Pump {n}.", last])] for n in range(4)
    ]
    found = load(make(*pages))
    assert found.text.count(last) == 4
    assert found.text.count(PROSE[0]) == 4
    assert "Acme" not in found.text


def test_numbered_headings_at_the_top_of_pages_are_no_running_heads():
    pages = [
        [At(72, 760, f"{n * n + 3}.2 Version 1.{7 * n % 5}", 12, "F2"), *column(PROSE)]
        for n in range(6)
    ]
    assert len(headings(load(make(*pages)))) == 6


def test_titles_of_slides_stay():
    pages = [
        [At(72, 740, "Results", 28), *column([f"Point {chr(97 + n)}", "and more"], size=14)]
        for n in range(3)
    ]
    others = [
        [At(72, 740, f"Slide {chr(97 + n)}", 28), *column([f"Text {n}"], size=14)] for n in range(9)
    ]
    assert load(make(*others, *pages)).text.count("Results") == 3


# Contents


def test_a_table_of_contents_is_left_out_with_and_without_dots():
    names = [
        "Pumps of the house",
        "Oil and water",
        "Valves and pipes",
        "Repairs by hand",
        "Index of all",
    ]
    dotted = [
        item
        for n, name in enumerate(names)
        for item in [
            At(72, 700 - 14 * n, f"{n + 1} {name} " + ". " * 30),
            At(520, 700 - 14 * n, str(n + 2)),
        ]
    ]
    bare = [
        item
        for n, name in enumerate(names)
        for item in [At(72, 700 - 14 * n, name), At(520, 700 - 14 * n, str(n + 2))]
    ]
    chapters = [[At(72, 740, name, 16), *column(PROSE)] for name in names]
    for contents in (dotted, bare):
        found = load(make([At(72, 740, "Contents", 14), *contents], *chapters))
        assert [found.text.count(name) for name in names] == [1] * 5
        assert ". . ." not in found.text


def test_a_data_sheet_with_dots_stays():
    rows = [
        "Weight . . . . . . . . . . 14 kg",
        "Flow . . . . . . . . . . . 12.5",
        "Voltage . . . . . . . . . 230",
    ]
    assert "Voltage" in load(make(column(rows))).text


# Columns and paragraphs

LEFT = [
    "The left column of a paper tells",
    "about the pumps that were built",
    "in the south house, and how the",
    "keepers drained each of them in",
    "winter before the frost came on",
    "the eve of the feast of lights.",
]
RIGHT = [
    "Here the right column begins and",
    "goes on about the valves, which",
    "were turned by hand until a new",
    "machine took over the work, and",
    "nobody had to go out into snow,",
    "which made the keepers merry.",
]


def rows(*columns: tuple[float, list[str]]) -> list[At]:
    return [At(x, 700 - 12 * n, lines[n]) for n in range(6) for x, lines in columns]


@pytest.mark.parametrize("drawn_by_row", [False, True])
def test_two_columns_are_read_one_after_the_other(drawn_by_row):
    pages = (
        rows((72, LEFT), (320, RIGHT)) if drawn_by_row else [*column(LEFT), *column(RIGHT, x=320)]
    )
    title = [At(72, 740, "A title over both columns of the page, which is larger", 16)]
    text = load(make([*title, *pages])).text
    assert " ".join(LEFT) in " ".join(text.split())
    assert " ".join(RIGHT) in " ".join(text.split())
    assert text.index("left column") < text.index("eve of the feast") < text.index("right column")


def test_lines_drawn_in_no_order_are_sorted():
    lines = column(PROSE)
    assert load(make([lines[2], lines[0], lines[1]])).text == " ".join(PROSE)


def test_paragraphs_end_at_a_gap_an_indent_or_a_short_line():
    gap = [*column(PROSE), *column(PROSE, y=640)]
    assert load(make(gap)).text == "\n\n".join([" ".join(PROSE)] * 2)
    indented = [
        At(72, 700, PROSE[0]),
        At(72, 688, PROSE[1]),
        At(92, 676, PROSE[0]),
        At(72, 664, PROSE[1]),
    ]
    assert len(load(make(indented)).text.split("\n\n")) <= 2
    short = column([*PROSE[:2], "drain it.", *PROSE[:2]])
    assert load(make(short)).text.count("\n\n") == 1


def test_a_paragraph_goes_on_over_columns_and_pages_past_a_footnote():
    first = [
        *column(
            [
                *PROSE[:2],
                "keeper knows when the oil was changed and by whom, and that he can tell the",
            ]
        ),
        At(72, 80, "1 A footnote in small letters.", 7),
    ]
    second = column(["office about it on the next morning.", *PROSE])
    found = load(make(first, second))
    assert "can tell the office about it on the next morning." in found.text
    assert found.text.index("A footnote") < found.text.index("The pump in")
    assert found.text[found.pages[1] :].startswith("office about it")


def test_a_paragraph_over_three_pages_begins_on_the_first_before_the_notes_of_the_second():
    begin = column(["All of it is to be written down by the keeper who is on duty, who then tells"])
    middle = [
        "the office of the state of the gauges, of the oil, and of all that was changed and"
    ] * 9
    second = [
        *column(middle[:5], x=40, size=6),
        *column(["7 A note at the foot, in small print."], x=40, y=100, size=4),
        *column(middle[5:], x=330, size=6),
        *column(["8 Another note at the foot."], x=330, y=100, size=4),
    ]
    first = [At(40, 700, begin[0].text, 6)]
    found = load(make(first, second, [At(40, 700, "of the hour of the next round.", 6)]))
    assert found.text.startswith(begin[0].text)
    assert found.text[found.pages[1] :].startswith("the office of the state")
    assert found.text[found.pages[2] :].startswith("of the hour of the next round.")


def test_words_broken_at_a_lines_end(document, make_pdf):
    found = document("a.pdf", make_pdf(["This is permit-", "ted here and well-known."]))
    assert found.text == "This is permitted here and well-known."


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        (["the oil-driven pump is driven by oil, a pump-", "driven wheel"], "pump-driven wheel"),
        (["a state-of-the-art pump is state-of-the-", "art"], "is state-of-the-art"),
        (["the overview of all, and an over-", "view of some, over all we view"], "an overview of"),
        (["from 10-", "20 bar"], "from 10-20 bar"),
        (["the Anglo-", "American pump"], "Anglo-American pump"),
        (["both pre-", "and postoperative"], "pre- and postoperative"),
        (["the Ein-", "und Ausgang"], "Ein- und Ausgang"),
        (["all short-", "to long-term stays"], "short- to long-term"),
        (["after 10-", "to 12-hour days"], "10- to 12-hour"),
        (["a ripe pota-", "to or two"], "ripe potato or"),
        (["some X-", "ray of a state-of-", "the-art pump"], "X-ray of a state-of-the-art pump"),
        (["read http://a.b/long-", "name for more"], "long-name for more"),
        (["read http://a.b/long/", "name for more"], "long/name for more"),
    ],
)
def test_hyphens_at_a_lines_end_stay_where_they_belong_to_the_word(lines, expected):
    assert expected in load(make(column(lines))).text


def test_ligatures_and_accents_set_apart_become_letters():
    assert clean("the ﬁrst ﬂow") == "the first flow"
    assert clean("na¨ıve f¨ur ´etude Espa˜na") == "naïve für étude España"
    assert clean("it´s in /˜nick at 5´") == "it´s in /˜nick at 5´"
    assert clean("soft\u00adhyphen") == "softhyphen"


def test_powers_are_no_digits_of_their_base():
    page = [
        At(72, 700, "about 10"),
        At(111, 704, "-3", 6),
        At(125, 700, "bar, and H"),
        At(175, 697, "2", 6),
        At(179, 700, "O"),
    ]
    text = load(make(page)).text
    assert "10^-3" in text
    assert "103" not in text


@pytest.mark.parametrize(
    ("turn", "rotate"),
    [("0 1 -1 0 {y} 72", 90), ("0 -1 1 0 {x} 700", 270), ("-1 0 0 -1 500 {y}", 180)],
)
def test_a_turned_page_is_read_upright(turn, rotate):
    table = ["Pump          Bar", "P-11          33", "P-12          9"]
    lines = [*PROSE, *table]
    page = [
        At(0, 0, line, matrix=turn.format(y=100 + 12 * n, x=500 - 12 * n))
        for n, line in enumerate(lines)
    ]
    words = load(make(page, rotate=rotate)).text.split()
    assert words == " ".join(lines).split()


@pytest.mark.parametrize("rotate", [90, 180, 270])
def test_text_that_a_turned_page_shows_sideways_is_read_from_its_beginning(rotate):
    lines = [f"Step {n}: turn the valve of the {n}th pump and read the gauge," for n in range(12)]
    assert load(make(column(lines), rotate=rotate)).text.split() == " ".join(lines).split()


def test_turned_lines_beside_the_text_are_not_mixed_with_it():
    page = [*column(PROSE), At(0, 0, "arXiv:1234 on the margin", matrix="0 1 -1 0 30 300")]
    assert load(make(page)).text == " ".join(PROSE) + "\n\narXiv:1234 on the margin"


# Lists, tables, code


def test_questions_stay_with_the_answers_beside_them():
    page = []
    for n in range(8):
        question = [
            f"How is pump {n} of the south house to be",
            "drained before the frost comes in?",
        ]
        answer = [
            f"Open valve {n} below the gate, and wait",
            "until the oil of the day has run out.",
        ]
        page += column(question, y=740 - 40 * n) + column(answer, x=330, y=740 - 40 * n)
    text = load(make(page)).text
    places = [text.index(f"{name} {n} ") for n in range(8) for name in ("pump", "valve")]
    assert places == sorted(places)


def block_texts(document: Document) -> list[list[str]]:
    found = []
    for block in document.blocks:
        ends = [*block.units[1:], block.end]
        found.append(
            [document.text[a:b].rstrip("\n") for a, b in zip(block.units, ends, strict=True)]
        )
    return found


def test_items_of_a_list_are_units():
    lines = [
        "Before the frost:",
        "• Drain the pump, and see that no water",
        "  is left in the pipes.",
        "• Close the valve.",
        "• Note the hour.",
    ]
    found = load(make(column(lines)))
    assert block_texts(found) == [
        [
            "• Drain the pump, and see that no water is left in the pipes.",
            "• Close the valve.",
            "• Note the hour.",
        ]
    ]


def test_a_number_at_a_lines_begin_is_no_item():
    lines = [
        "The keepers of the south house changed the oil of every one of the pumps after version",
        "2. The north house followed in the spring of the next year, when the snow was gone.",
    ]
    assert load(make(column(lines))).text == " ".join(lines)


def test_rows_of_a_table_are_lines():
    cells = [
        ("Pump", "Oil", "Bar"),
        ("P-11", "thin oil", "33"),
        ("P-12", "mineral", "9"),
        ("P-13", "thick oil", "12"),
    ]
    table = [
        At(x, 650 - 14 * n, text, font="F2" if n == 0 else "F1")
        for n, row in enumerate(cells)
        for x, text in zip((72, 200, 320), row, strict=True)
    ]
    found = load(make([*column(PROSE), *table]))
    assert block_texts(found) == [["\t".join(row) for row in cells]]
    [block] = found.blocks
    assert found.text[block.start : block.header_end] == "Pump\tOil\tBar"


@pytest.mark.parametrize("middle", [False, True])
def test_cells_of_several_lines_stay_in_their_row(middle):
    page = [At(72, 720, "Pump", font="F2"), At(200, 720, "Note", font="F2")]
    for n in range(4):
        y = 690 - 40 * n
        page.append(At(72, y - 12 * middle, f"P-1{n}"))
        page += column(
            [f"Drain it {n} times before", "the frost, and note", "the hour."], x=200, y=y
        )
    found = load(make(page))
    assert block_texts(found) == [
        ["Pump\tNote"]
        + [f"P-1{n}\tDrain it {n} times before the frost, and note the hour." for n in range(4)]
    ]


def test_code_keeps_its_lines_and_indents():
    code = ["for pump in pumps:", "    drain(pump)", "    close(pump)"]
    page = [
        *column(PROSE),
        *(
            At(90 + 6 * (len(c) - len(c.lstrip())), 650 - 12 * n, c.strip(), font="F3")
            for n, c in enumerate(code)
        ),
    ]
    found = load(make(page))
    assert block_texts(found) == [code]


def test_offsets_of_pages_headings_and_blocks_are_in_order():
    found = load(book(9))
    assert list(found.pages) == sorted(found.pages)
    assert len(found.pages) == 9
    for n, start in enumerate(found.pages):
        assert found.text[start:].startswith(f"Text {n} of the page")
