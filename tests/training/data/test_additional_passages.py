"""The passages of joint training: those of the table, those that are named, and too few of them."""

import pytest

from dalm.config import RagE2E
from dalm.errors import UserError
from dalm.records import Example, Passage
from dalm.training.data.usable_rows import additional_passages

A, B, C = (Passage.of(text) for text in ("One passage.", "Two passages.", "Three passages."))


def settings(**options):
    return RagE2E(output_dir="out", candidates="index", **options)


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "passages.jsonl"
    file.write_text('{"Passage": "Two passages."}\n{"Passage": "Three passages."}\n')
    return str(file)


def test_the_knowledge_base_is_what_is_named_and_the_tables_own(table):
    marked = [Example("q", "a", A), Example("r", "b")]
    assert additional_passages(marked, settings(passages=[table])) == [B, C]


def test_without_a_name_it_is_the_tables_own_passages():
    assert additional_passages([Example("q", "a", A), Example("r", "b", B)], settings()) == []


@pytest.mark.parametrize(
    ("examples", "count"), [([Example("q", "a")], 0), ([Example("q", "a", A)] * 2, 1)]
)
def test_too_small_a_knowledge_base_is_refused(examples, count):
    with pytest.raises(UserError, match=f"has {count} passages; .* --passages"):
        additional_passages(examples, settings())


def test_a_contrast_without_gold_passages_is_refused(table):
    with pytest.raises(UserError, match="--contrastive-weight has no effect"):
        additional_passages([Example("q", "a")], settings(passages=[table], contrastive_weight=0.5))
    additional_passages([Example("q", "a")], settings(passages=[table], contrastive_weight=0))


def test_a_batchs_own_passages_need_two_of_them():
    with pytest.raises(UserError, match="one distinct passage"):
        additional_passages([Example("q", "a", A)], RagE2E(output_dir="out"))
