import itertools
import random
import re

import pytest

from dalm.ingest.chunking import Chunker
from dalm.ingest.length_limit import TokenLimit, WordLimit
from dalm.ingest.loaders.loader import Document, Heading, LoaderOptions
from dalm.ingest.loaders.markdown import load_markdown
from dalm.ingest.sentence_boundaries import paragraph_starts, sentence_starts
from dalm.ingest.words import split_words
from dalm.records import passage_id


def split(text: str, limit: int, *, overlap: int = 0, min_words: int = 1, **parts: object):
    document = Document(text, "T", "s", **parts)
    found = Chunker(WordLimit(limit), overlap=overlap, min_words=min_words).split(document)
    for each in found:
        assert text[each.start : each.end] == each.text
        assert each.text == each.text.strip()
        assert each.id == passage_id(each.text)
        assert each.title == "T"
        assert 1 <= len(split_words(each.text)) <= limit
    return found


def texts(*given: object, **options: object) -> list[str]:
    return [each.text for each in split(*given, **options)]


def pieces(text: str, starts) -> list[str]:
    cuts = [0, *starts, len(text)]
    return [text[a:b].strip() for a, b in itertools.pairwise(cuts)]


@pytest.mark.parametrize(
    "sentences",
    [
        ["One two.", "Three four!", "Five?", '"Six," he said.', "7 is odd."],
        ["Dr. Smith et al. saw 3.5 mg of it (Fig. 2, e.g. here).", "J. R. Doe left... so did I."],
        ["He said so.”", "“Did he?”", "Über alles.", "¿Qué?"],
        ["これは文です。", "次の文！", "最後"],
        ["A list:", "- one item", "- two", "2. three"],
        ["It ended at 5 p.m. and began again.", "The U.S. Army came."],
    ],
)
def test_sentences_end_where_readers_say(sentences):
    text = "".join(
        each if "。" in each or "！" in each else each + ("\n" if each[-1].isalpha() else " ")
        for each in sentences
    ).replace(": ", ":\n")
    assert [p for p in pieces(text, sentence_starts(text)) if p] == sentences


def test_paragraphs_end_in_an_empty_line():
    text = "a\nb\n \n\nc\n\nd"
    assert pieces(text, paragraph_starts(text)) == ["a\nb", "c", "d"]


def test_sentences_are_filled_up_to_the_limit():
    assert texts("A b c. D e. F g h i. J k l.", 5) == ["A b c. D e.", "F g h i.", "J k l."]
    assert texts("one two three", 100) == ["one two three"]


def test_a_passage_ends_with_a_paragraph_where_the_next_does_not_fit():
    text = "A b c d e f.\n\nG h. I j k l m n.\n\nO p."
    assert texts(text, 10) == ["A b c d e f.", "G h. I j k l m n.\n\nO p."]
    # less than half full: filled up from the next one
    assert texts("A b.\n\nC d e. F g h i j k l.", 10) == ["A b.\n\nC d e.", "F g h i j k l."]


def test_a_long_sentence_is_cut_between_words_and_a_short_rest_is_shared():
    assert texts("a b c d e f g h i j k l m n o p q r", 8) == [
        "a b c d e f g h",
        "i j k l m n o p",
        "q r",
    ]
    sentences = " ".join(f"Aa b{n}." for n in range(9))  # 18 words
    assert [len(t.split()) for t in texts(sentences, 16)] == [8, 10]


def test_a_word_without_end_and_a_script_without_blanks_are_cut():
    assert [len(t) for t in texts("x" * 1000, 8)] == [800, 200]
    assert [len(t) for t in texts("漢字" * 15, 8)] == [8, 8, 8, 6]


MARKDOWN = b"""before it all

# Title
## Empty
### Deep
one two three four

five six
## Short
yes
## Next
seven eight nine ten
# End
"""


def test_sections_keep_their_path_and_short_ones_go_along():
    document = load_markdown(MARKDOWN, "a.md", LoaderOptions())
    found = Chunker(WordLimit(100), min_words=4).split(document)
    assert [(each.headings, each.text.splitlines()[0]) for each in found] == [
        (("Title", "Empty", "Deep"), "before it all"),
        (("Title",), "## Short"),
    ]
    assert found[0].text.endswith("five six")
    assert found[1].text.endswith("ten\n# End")
    found = Chunker(WordLimit(100), min_words=1).split(document)
    assert [each.headings for each in found] == [
        (),
        ("Title", "Empty", "Deep"),
        ("Title", "Short"),
        ("Title", "Next"),
    ]
    assert found[1].text.startswith("# Title\n## Empty")
    assert found[3].text.endswith("# End")


def test_overlap_repeats_whole_sentences_or_else_words():
    text = "A b c. D e. F g. H i j. K l."
    assert texts(text, 8, overlap=2) == ["A b c. D e. F g.", "F g. H i j. K l."]
    assert texts("a b c d e f g h i j", 6, overlap=2) == ["a b c d", "c d e f g h", "g h i j"]


def test_a_document_below_the_least_length_has_no_passage():
    assert not split("one two three", 8, min_words=4)
    assert len(split("one two three four", 8, min_words=4)) == 1
    assert not split(" \n ", 8)


def test_pages_are_those_on_which_passages_begin():
    text = "a b c.\nD e f.\nG h."
    found = split(text, 3, pages=(0, 7, 14))
    assert [each.page for each in found] == [1, 2, 3]
    assert [each.page for each in split(text, 3)] == [None] * 3


def test_front_matter_is_in_no_passage():
    assert texts("front matter here\nThe body.", 8, begin=18) == ["The body."]


SOUP = [
    "Word",
    "und",
    "so. ",
    "Ende!",
    "\n",
    "\n\n",
    " ",
    "漢",
    "。",
    "e.g. ",
    "x" * 300,
    "\t",
    "é",
]


@pytest.mark.parametrize("seed", range(30))
def test_passages_hold_every_word_once(seed):
    rng = random.Random(seed)
    text = "".join(rng.choice(SOUP) + rng.choice(["", " "]) for _ in range(400))
    marks = sorted(rng.sample(range(len(text)), 8))
    headings = tuple(Heading(m, min(m + 4, len(text)), rng.randint(1, 3), f"h{m}") for m in marks)
    found = split(text, rng.randint(8, 40), min_words=rng.randint(1, 6), headings=headings)
    assert "".join(re.sub(r"\s", "", e.text) for e in found) == re.sub(r"\s", "", text)
    assert all(a.end <= b.start for a, b in itertools.pairwise(found))
    limit, overlap = 20, rng.randint(1, 9)
    overlapping = split(text, limit, overlap=overlap, headings=headings)
    for a, b in itertools.pairwise(overlapping):
        assert a.start < b.start
        assert a.end < b.end
        assert not text[a.end : b.start].strip()
        assert len(split_words(text[b.start : a.end])) <= overlap


@pytest.mark.parametrize("model", ["encoder", "generator"])
@pytest.mark.parametrize("overlap", [0, 10])
def test_tokens_are_counted_exactly(tiny_models, tiny_rows, model, overlap):
    from transformers import AutoTokenizer

    folder = str(getattr(tiny_models, model))
    tokenizer = AutoTokenizer.from_pretrained(folder)
    budget = TokenLimit.from_pretrained(folder, 32)
    odd = ["\n\n", " ", "🙂" * 40, "ﷺ", "x" * 90, "—", "Zürich. "]
    rng = random.Random(0)
    text = " ".join(rng.choice([row["Passage"] for row in tiny_rows] + odd) for _ in range(150))
    found = Chunker(budget, overlap=overlap).split(Document(text, "", ""))
    lengths = [len(tokenizer(each.text).input_ids) for each in found]
    assert max(lengths) <= 32
    assert sum(lengths) / len(lengths) > 20, "the budget is used"
    if not overlap:
        joined = "".join(each.text for each in found)
        assert re.sub(r"\s", "", joined) == re.sub(r"\s", "", text)


def test_no_tokenizer_of_the_name_is_one_line():
    from dalm.errors import UserError

    with pytest.raises(UserError, match="--tokenizer no/such could not be loaded"):
        TokenLimit.from_pretrained("no/such", 64)
