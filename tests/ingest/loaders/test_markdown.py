import time

import pytest

MARKDOWN = """intro

# One #

text *one*

```python
# no heading
~~~
```
## Two
### Three
text

Under
=====
text
And
---
- item
----
#NoHeading
#
"""


def test_markdown_headings_have_levels_and_places(document):
    found = document("a.md", MARKDOWN)
    assert found.text == MARKDOWN
    assert [(h.level, h.text) for h in found.headings if h.text] == [
        (1, "One"),
        (2, "Two"),
        (3, "Three"),
        (1, "Under"),
        (2, "text And"),
    ]
    places = [found.text[h.start : h.end] for h in found.headings]
    assert places[0] == "# One #"
    assert places[3] == "Under\n====="
    assert found.title == "One"


def test_front_matter_gives_the_title_and_is_no_text(document):
    found = document("a.md", '---\ntitle: "The Title"\ndate: x\n---\n# Head\nbody\n')
    assert found.title == "The Title"
    assert found.text[found.begin :] == "# Head\nbody\n"
    assert found.headings[0].start == found.begin
    assert document("a.md", "---\nno end of it").begin == 0
    assert document("b.md", "plain\n").title == "b"


def test_a_paragraph_that_looks_like_a_heading_is_none(document):
    assert not document("a.md", "# " + "word " * 100).headings


def visible(found) -> str:
    return found.excerpt(found.begin, len(found.text))


def units(found, number: int = 0) -> list[str]:
    """Return the units of a block, each up to the next."""
    block = found.blocks[number]
    ends = [*block.units[1:], block.end]
    return [found.text[a:b] for a, b in zip(block.units, ends, strict=True)]


# Front matter


@pytest.mark.parametrize(
    "front",
    ['---\ntitle: "The Title"\nx: 1\n---\n', "+++\ntitle = 'The Title'\n[x]\ny = 1\n+++\n"],
)
def test_yaml_and_toml_front_matter(document, front):
    found = document("a.md", front + "# Head\nbody\n")
    assert found.title == "The Title"
    assert visible(found) == "# Head\nbody\n"


@pytest.mark.parametrize(
    "text",
    [
        "---\n\nDear reader, this is it: a letter.\n\n---\n\nmore\n",
        "---\n\n# A letter\n\nDear reader: this is it.\n\n---\n\nmore\n",
        "---\n# A slide\n\n- an item\n---\n# Another\n",
        "---\n> quoted\n---\nmore\n",
    ],
)
def test_text_between_two_drawn_lines_is_no_front_matter(document, text):
    found = document("a.md", text)
    assert (found.begin, visible(found)) == (0, text)


@pytest.mark.parametrize(
    "front",
    [
        "# comment\n\nlist:\n- a\n- b\nlong: >\n  Prose, in\n  two lines.\n",
        '"quoted key": [\n  a\n]\nschön/neu: x\n',
        "",
    ],
)
def test_front_matter_of_many_forms_is_no_text(document, front):
    assert visible(document("a.md", f"---\n{front}---\nbody\n")) == "body\n"


def test_plus_signs_without_an_end_are_text(document):
    assert document("a.md", "+++\nno end of it\n").begin == 0


# What readers of the page never see


@pytest.mark.parametrize(
    ("text", "seen"),
    [
        ("one\n\n<!--\n# Not a heading\n\n```\n-->\n\ntwo\n", "one\n\ntwo\n"),
        ("one <!-- two --> three\n", "one  three\n"),
        ("<!-- a --><!-- b\n-->\n# Head <!-- id -->\ntext\n", "# Head \ntext\n"),
        ("one <!-- two\nthree --> four\n", "one  four\n"),
        ("- a <!-- x -->\n- b\n  <!--\n  - c\n  -->\n- d\n", "- a \n- b\n- d\n"),
        ("| a | b |\n|---|---|\n| 1 <!-- x --> | 2 |\n", "| a | b |\n|---|---|\n| 1  | 2 |\n"),
        ("one {/* two */} three\n\n{/*\n# Not\n*/}\n\nfour\n", "one  three\n\nfour\n"),
        ("one %%two%%, three\n\n%%\n# Not\n\ntwo\n%%\n\nfour\n", "one , three\n\nfour\n"),
        ("import A from '@a/b';\nimport {\n  C,\n} from \"./c\"\n\ntext\n", "\ntext\n"),
        ("export const a = {\n  b: 1,\n};\n\ntext\n", "\ntext\n"),
        ("<style>\np { color: red }\n</style>\ntext\n", "text\n"),
        ("a ![Pump](data:image/png;base64," + "iVBO" * 90 + ") b\n", "a ![Pump]() b\n"),
        ('<img src="data:image/gif;base64,' + "R0lG" * 30 + '">\n', '<img src="">\n'),
        ("![x][y]\n\n[y]: <data:image/png;base64," + "iVBO" * 90 + ">\n", "![x][y]\n\n"),
        ('See [it][1].\n\n[1]: https://a.example/b "T"\n[2]: /c\n', "See [it][1].\n\n"),
        ("[//]: # (A comment)\n\ntext\n", "\ntext\n"),
        ("[![A pump](a.png)](b.png)\n", "[![A pump](a.png)](b.png)\n"),
        ("[![CI](https://a/b.svg)](c)\n\ntext\n", "\ntext\n"),
        ("[![CI](https://a/b.svg)](https://a) [![x](y)](z)\n\ntext\n", "\ntext\n"),
        ("[TOC]\n\ntext\n", "\ntext\n"),
        ("# A\n\n## Contents\n\n- [A](#a)\n  - [B](#b)\n- [C](#c)\n\n# B\n", "# A\n\n\n# B\n"),
        ("# Contents\n\n1.1 Pumps ........ 3\n1.2 Valves ....... 4\n\n# Pumps\n", "\n# Pumps\n"),
    ],
)
def test_what_is_not_on_the_page_is_in_no_passage(document, text, seen):
    found = document("a.md", text)
    assert visible(found) == seen
    assert not any("Not" in h.text or "ontents" in h.text or "<!" in h.text for h in found.headings)


@pytest.mark.parametrize(
    "text",
    [
        "```html\n<!-- x -->\n```\n",
        "text:\n\n    <!-- x -->\n",
        "import of steel from 'China' is taxed\n\nexport default settings (all)\n",
        "10 %% and 20%% or 30 %%\n\n%% A cell\n\ncode\n\n%%\n\nmore\n",
        "write `{/* x */}` or `%%x%%`, or with %%d and %%s\n",
        "write `<!-- x -->` or ``<!-- ` -->``\n",
        "- item\n\n  ```\n  <!-- x -->\n  ```\n",
        "<!-- never closed\n\ntext\n",
        "text <!-- not\n\nclosed in this paragraph -->\n",
        "[^1]: A footnote of https://a.example\n",
        "[Note]: important\n",
        "text data:image/png;base64,short\n",
        "- [One page](one.md)\n- [Another](other.md)\n- [Third](#third) of it\n",
    ],
)
def test_code_and_what_only_looks_hidden_stays(document, text):
    assert visible(document("a.md", text)) == text


# Blocks


def test_a_table_has_rows_below_its_header(document):
    found = document("a.md", "Text\n\nA | B\n--|:-:\n1 | 2\n3 | 4\n\nEnd | of it\n")
    assert units(found) == ["A | B\n--|:-:\n", "1 | 2\n", "3 | 4\n"]
    assert found.text[found.blocks[0].start : found.blocks[0].header_end] == "A | B\n--|:-:\n"
    assert len(found.blocks) == 1


@pytest.mark.parametrize("suffix", ["md", "txt"])
@pytest.mark.parametrize(
    ("table", "header", "rows"),
    [
        ("| a | b |\n|---|---|\n| 1 | 2 |\n| 3 | 4 |\n", 2, 2),
        ("| 1 | 2 |\n| 3 | 4 |\n| 5 | 6 |\n", 0, 3),
        ("+---+---+\n| a | b |\n+---+---+\n| 1 | 2 |\n| 3 | 4 |\n+---+---+\n", 3, 2),
        ("+--+--+\n| a| b|\n+==+==+\n| 1| 2|\n|  | 2|\n+--+--+\n| 3| 4|\n+--+--+\n", 3, 2),
        ("Name   Bar\n-----  ---\nP-1    30\nP-2    31\n", 2, 2),
        ("=====  ===\nName   Bar\n=====  ===\nP-1    30\nP-2    31\n=====  ===\n", 3, 2),
    ],
)
def test_tables_of_all_kinds(document, suffix, table, header, rows):
    found = document(f"a.{suffix}", f"Text.\n\n{table}\nMore text.\n")
    [block] = found.blocks
    assert found.text[block.start : block.end] == table
    above = table.split("\n")[:header]
    assert found.text[block.start : block.header_end] == "".join(f"{line}\n" for line in above) or (
        header == 0 and block.header_end == 0
    )
    assert len([unit for unit in block.units if unit >= block.header_end]) == rows


def test_code_has_lines_and_keeps_its_fences(document):
    found = document("a.md", "```sh\n# one\n\ntwo\nthree\n```\n\n    four\n\n    five\n\ntext\n")
    assert not found.headings
    assert units(found) == ["```sh\n# one\n\n", "two\n", "three\n```\n"]
    assert units(found, 1) == ["    four\n\n", "    five\n"]


@pytest.mark.parametrize("suffix", ["md", "txt"])
def test_a_list_has_items_with_all_that_is_in_them(document, suffix):
    items = [
        "- One.\n  more\n\n",
        "  - two\n",
        "* three\nlazily\n",
        "2. four\n\n   ```\n   - x\n   ```\n",
    ]
    found = document(f"a.{suffix}", "Text:\n" + "".join(items) + "\nText.\n")
    assert units(found)[:3] == items[:3]
    if suffix == "md":
        assert units(found)[3:] == items[3:]


def test_an_item_that_is_a_title_stays_with_the_list_within_it(document):
    found = document("a.md", "- Simple packages\n  - one\n  - two\n- A sentence.\n  - three\n")
    assert units(found) == [
        *("- Simple packages\n  - one\n", "  - two\n"),
        *("- A sentence.\n", "  - three\n"),
    ]


def test_code_is_cut_between_statements(document):
    code = "def f(\n    a,\n):\n    return a\n\nif x:\n    f()\nelse:\n    g()\n"
    call = "f(\n" + "    a,\n" * 20 + ")\n"
    found = document("a.md", f"```\n{code}```\n\n```\n{call}```\n")
    first, second = units(found)
    assert first.startswith("```\ndef f(\n")
    assert first.endswith("return a\n\n")
    assert second == "if x:\n    f()\nelse:\n    g()\n```\n"
    assert len(units(found, 1)) > 15


@pytest.mark.parametrize(
    "text",
    [
        "In the year\n1999. It\n2001. She\n",
        "1. Heading\n\nText\n\n2. Next\n\nText\n",
        "* * *\n- - -\n",
    ],
)
def test_what_is_no_list(document, text):
    assert not document("a.md", text).blocks


def test_a_line_below_a_list_is_no_underline(document):
    found = document("a.md", "- one\n- two\n---\nText\n")
    assert not found.headings
    assert units(found) == ["- one\n", "- two\n"]


def test_the_dotted_lines_of_a_plain_text_are_omitted(document):
    found = document("a.txt", "CONTENTS\n\nPumps ....... 3\nValves ...... 14\n\nPumps\n\nA pump.\n")
    assert visible(found).strip() == "Pumps\n\nA pump."


@pytest.mark.parametrize(
    "unit",
    ["<!--", "<!--\n", "x <!--\n", "`", "|", "| a\n", "-\n", "[x]: ", "data:a/", "[![", "+--+\n",
     "-- --\n", "   ", "```\n", "> ", "#", "1. ", "[a](#b) ", "\n- [a](#a)", "<script>\n",
    "x <!-- `\n",     "+--+\n| x\n", "-- --\ntext\n", "\t- x\n"],
)  # fmt: skip
def test_text_that_repeats_is_read_in_a_moment(document, unit):
    began = time.process_time()
    text = (unit * 100_000)[:200_000]
    try:
        document("a.md", text + "\nend -->")
    finally:
        assert time.process_time() - began < 3
