"""Tables, lists and code are cut between rows, items and lines; what leads to them stays."""

import itertools
import random
import re

import pytest

from dalm.ingest.chunking import Chunker
from dalm.ingest.length_limit import TokenLimit, WordLimit
from dalm.ingest.loaders.loader import Block, Document, Heading
from dalm.ingest.words import split_words


def lines_block(text: str, first: str, after: str | None = None, header: int = 0) -> Block:
    """Return a block whose units are the lines from one that begins with `first`."""
    start = text.index(first)
    end = text.index(after, start) if after else len(text)
    units = [start, *(start + m.end() for m in re.finditer(r"\n(?=\S)", text[start:end]))]
    units = [unit for unit in units if unit < end]
    return Block(start, end, tuple(units), units[header] if header else 0)


def split(text: str, limit: int, *blocks: Block, overlap: int = 0, min_words: int = 1, **parts):
    document = Document(text, "", "s", blocks=blocks, **parts)
    found = Chunker(WordLimit(limit), overlap=overlap, min_words=min_words).split(document)
    for each in found:
        assert each.text.endswith(document.excerpt(each.start, each.end))
        assert len(split_words(each.text)) <= limit
    return [each.text for each in found]


TABLE = "# Limits\n\nName Bar\n" + "".join(f"P-{n} {n} bar. Yes\n" for n in range(9))


def test_a_table_is_cut_between_rows_and_its_header_row_is_repeated():
    table = lines_block(TABLE, "Name", header=1)
    found = split(TABLE, 14, table, headings=(Heading(0, 8, 1, "Limits"),))
    assert found[0] == "# Limits\n\nName Bar\nP-0 0 bar. Yes\nP-1 1 bar. Yes"
    assert found[1] == "Name Bar\n" + "\n".join(f"P-{n} {n} bar. Yes" for n in (2, 3, 4))
    assert all(each.startswith("Name Bar\nP-") for each in found[1:])
    assert all(each.endswith("bar. Yes") for each in found)


def test_a_header_row_that_fills_half_a_passage_is_not_repeated():
    header = " ".join(f"column{n}" for n in range(8))
    text = header + "\n" + "".join(f"row {n} of the table\n" for n in range(9))
    found = split(text, 14, lines_block(text, "column0", header=1))
    assert found[0].startswith(header)
    assert not any("column" in each for each in found[1:])


def test_a_row_over_the_limit_is_split_and_nothing_of_it_is_lost():
    long = "P-1 | " + " ".join(f"w{n}" for n in range(30)) + " | last"
    text = f"A | B\n{long}\nP-2 | x | y\n"
    found = split(text, 12, lines_block(text, "A |", header=1))
    assert all(each.startswith("A | B\n") for each in found)
    words = " ".join(each.removeprefix("A | B\n") for each in found).split()
    assert words == f"{long} P-2 | x | y".split()


def test_a_row_over_the_limit_is_split_between_cells():
    cells = [f"| {n} a b c d" for n in range(6)]
    text = " ".join(cells) + "\n"
    assert all(each.startswith("| ") for each in split(text, 14, lines_block(text, "| 0")))


def test_a_table_that_fits_begins_a_passage_rather_than_be_cut():
    rows = "".join(f"row {n} a b\n" for n in range(4))
    text = "One two three four five six seven eight nine ten. Eleven twelve.\n\n" + rows
    assert split(text, 20, lines_block(text, "row 0")) == [
        "One two three four five six seven eight nine ten.",
        "Eleven twelve.\n\n" + rows.strip(),
    ]


LIST = "Some words before it all.\n\n{}\n\n" + "".join(
    f"- Item {n}. It has a second sentence.\n" for n in range(5)
)


@pytest.mark.parametrize("lead", ["Options:", "**Options:**", "Options", "It can be one of these."])
def test_a_list_is_cut_between_items_and_keeps_its_lead(lead):
    text = LIST.format(lead)
    found = split(text, 20, lines_block(text, "- Item 0"))
    holding = next(each for each in found if lead in each)
    assert f"{lead}\n\n- Item 0." in holding
    assert all(each.endswith("second sentence.") for each in found if "Item" in each)


@pytest.mark.parametrize(
    "lead",
    [
        "Options:",
        "選項：",
        "**Options:**",
        "A title",
        "One\n\nTwo",
        "A title\n=======",
        "4.1. What is\nmore?",
        "See, e.g.",
        "-r\n--restricted",
    ],
)
@pytest.mark.parametrize("before", range(1, 10))
def test_what_leads_to_the_next_never_ends_a_passage(lead, before):
    text = " ".join(f"w{n}" for n in range(before)) + f".\n\n{lead}\n\nThe text that follows it.\n"
    for each in split(text, 10):
        assert not each.endswith((lead, "One", "-r"))


def test_a_paragraph_that_fits_begins_a_passage_once_a_third_is_full():
    text = "One two three four.\n\nA b c d. E f g h.\n\nOne two."
    assert split(text, 10) == ["One two three four.", "A b c d. E f g h.\n\nOne two."]


def test_a_heading_within_a_merged_section_never_ends_a_passage():
    text = "# A\n\na b\n\n# B\n\n" + "Sentence of four words. " * 5
    marks = [Heading(m.start(), m.end(), 1, "h") for m in re.finditer("# .", text)]
    for limit in range(8, 16):
        found = split(text, limit, headings=tuple(marks), min_words=6)
        assert not any(each.endswith("# B") for each in found)


@pytest.mark.parametrize("lead", ["Appendix A", "Some words. Options:"])
def test_what_leads_to_a_section_is_in_it(lead):
    text = f"# A\n\nOne two three four five.\n\n{lead}\n\n# B\n\nSix seven."
    marks = [Heading(m.start(), m.end(), 1, m.group()) for m in re.finditer("# .", text)]
    found = split(text, 20, headings=tuple(marks))
    assert found[1] == f"{lead.removeprefix('Some words. ')}\n\n# B\n\nSix seven."


def test_a_sentence_goes_on_after_what_stands_alone_in_it():
    text = "One two three. The command\n\nreload it\n\nsends a signal. Four five six seven.\n"
    assert split(text, 9) == [
        "One two three.",
        "The command\n\nreload it\n\nsends a signal.",
        "Four five six seven.",
    ]


def test_a_sentence_over_the_limit_is_cut_between_clauses():
    text = "If one two three four, or five six seven, then eight nine ten."
    assert split(text, 10)[0] == "If one two three four, or five six seven,"


def test_lines_that_are_many_and_short_are_no_titles():
    text = "\n\n".join(f"Name {n}" for n in range(20))
    assert [each.count("Name") for each in split(text, 8)] == [4] * 5


def test_code_is_cut_between_lines_at_an_empty_one_if_it_can():
    code = "def one(a):\n    return a. B c\n\ndef two(a):\n    return a\n"
    text = "Text before the code.\n\n" + code
    start = text.index("def")
    units = [start, *(start + m.end() for m in re.finditer(r"\n+", code))][:-1]
    found = split(text, 10, Block(start, len(text), tuple(units)))
    assert found == ["Text before the code.\n\ndef one(a):\n    return a. B c",
                     "def two(a):\n    return a"]  # fmt: skip


def test_what_is_omitted_is_in_no_passage():
    text = "One two <!-- a\n\n# b -->three four.\n\nFive six seven."
    spans = ((8, 23),)
    assert split(text, 8, omitted=spans) == ["One two three four.\n\nFive six seven."]
    assert split("a b c", 8, omitted=((0, 5),)) == []
    assert split("a b c d", 8, omitted=((0, 2), (4, 5)), begin=1) == ["b  d"]


def test_overlap_in_a_table_repeats_whole_rows_or_none():
    table = lines_block(TABLE, "Name", header=1)
    for overlap in (3, 5):
        for each in split(TABLE, 16, table, overlap=overlap)[1:]:
            assert re.match(r"Name Bar\nP-\d ", each)


# Whatever the blocks


def soup(rng: random.Random) -> Document:
    parts = ["Word", "so. ", "End!", "\n", "\n\n", "漢", "x" * 150, "| ", "\t"]
    parts += ["Lead:\n\n", "Title\n\n"]
    text = "".join(rng.choice(parts) + rng.choice(["", " ", "w "]) for _ in range(300))
    places = iter(sorted(rng.sample(range(len(text)), 30)))
    blocks, omitted = [], []
    for kind in range(7):
        start, middle, end = next(places), next(places), next(places)
        if kind % 3 == 2:
            omitted.append((start, middle))
            continue
        units = (start, *sorted(rng.sample(range(start, end), min(5, end - start))))
        blocks.append(Block(start, end, units, middle if kind % 2 else 0))
    marks = sorted(rng.sample(range(len(text)), 4))
    headings = tuple(Heading(m, min(m + 4, len(text)), rng.randint(1, 3), f"h{m}") for m in marks)
    return Document(text, "", "", headings, blocks=tuple(blocks), omitted=tuple(omitted))


def check_whole(document: Document, found) -> None:
    joined = "".join(document.excerpt(each.start, each.end) for each in found)
    whole = document.excerpt(document.begin, len(document.text))
    assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", whole)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    tables = [document.excerpt(b.start, b.end + 200) for b in document.blocks if b.header_end]
    for each in found:
        repeated = each.text.removesuffix(document.excerpt(each.start, each.end))
        assert not repeated or any(repeated.strip() in table for table in tables)


@pytest.mark.parametrize("seed", range(20))
def test_passages_hold_every_word_once_besides_header_rows(seed):
    rng = random.Random(seed)
    document = soup(rng)
    limit = rng.randint(8, 30)
    found = Chunker(WordLimit(limit), min_words=rng.randint(1, 6)).split(document)
    check_whole(document, found)
    assert max(len(split_words(each.text)) for each in found) <= limit
    overlap = rng.randint(1, 3)
    for each in Chunker(WordLimit(limit), overlap=overlap).split(document):
        assert len(split_words(each.text)) <= limit


@pytest.mark.parametrize("seed", range(4))
def test_passages_with_header_rows_are_within_the_limit_to_the_token(tiny_models, seed):
    document = soup(random.Random(seed))
    limit = TokenLimit.from_pretrained(str(tiny_models.encoder), 40)
    found = Chunker(limit).split(document)
    check_whole(document, found)
    assert max(len(limit.tokenizer.encode(each.text).ids) for each in found) <= 40
