"""Texts of whatever kind of source, once each; held-out ones share no document with the others."""

import gzip
import json
import logging

import pytest

from dalm.errors import UserError
from dalm.ingest.texts import hold_out, read_texts
from dalm.records import Passage


def test_a_folder_of_documents(tmp_path, caplog):
    (tmp_path / "deep").mkdir()
    (tmp_path / "a.txt").write_text("One text.\n")
    (tmp_path / "deep" / "b.md").write_text("# Head\n\nTwo.\n")
    (tmp_path / "c.txt").write_text("One  text.\n")  # the same, but for a blank
    (tmp_path / "d.bin").write_bytes(b"\0\1")
    with caplog.at_level(logging.INFO, "dalm"):
        found = read_texts(str(tmp_path))
    assert [text.text for text in found] == ["One text.", "# Head\n\nTwo."]
    assert "d.bin" in caplog.text
    assert "1 repeated" in caplog.text


def test_tables_of_every_kind(tmp_path):
    rows = [{"Title": "T", "Passage": "One."}, {"Title": "U", "Passage": "Two."}]
    lines = "".join(json.dumps(row) + "\n" for row in rows)
    (tmp_path / "t.jsonl").write_text(lines)
    (tmp_path / "t.csv").write_text("Title,Passage\nT,One.\nU,Two.\n,\n")
    (tmp_path / "t.jsonl.gz").write_bytes(gzip.compress(lines.encode()))
    expected = [Passage.of("One.", "T"), Passage.of("Two.", "U")]
    for name in ("t.jsonl", "t.csv", "t.jsonl.gz"):
        assert read_texts(str(tmp_path / name)) == expected, name


def test_a_saved_dataset(tmp_path):
    from datasets import Dataset

    Dataset.from_dict({"Text": ["One.", "Two."]}).save_to_disk(str(tmp_path / "saved"))
    assert [text.text for text in read_texts(str(tmp_path / "saved"))] == ["One.", "Two."]


def test_a_column_by_name(tmp_path):
    (tmp_path / "t.csv").write_text("text,Other\nnot this,this\n")
    assert read_texts(str(tmp_path / "t.csv"), text_column="Other")[0].text == "this"


@pytest.mark.parametrize(
    ("name", "content", "said"),
    [
        ("t.csv", b"Query,Answer\na,b\n", "--text-column"),
        ("t.txt", b"", "it is empty"),
        ("t.csv", b"text\n\n\n", "holds no text"),
        ("t.txt", "München".encode("cp1252"), "UTF-8"),
        ("t.pdf", b"%PDF-1.4 broken", "t.pdf"),
    ],
)
@pytest.mark.filterwarnings("ignore")
def test_nothing_to_read_is_refused(tmp_path, name, content, said):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(UserError, match=said):
        read_texts(str(tmp_path / name))


def test_no_such_source(tmp_path):
    (tmp_path / "texts.csv").write_text("text\nOne.\n")
    with pytest.raises(UserError, match="did you mean"):
        read_texts(str(tmp_path / "text.csv"))


TEXTS = [Passage.of(f"Part {part} of {name}.", name) for name in "ABCDEFGHIJ" for part in range(3)]


def test_no_document_stands_on_both_sides():
    trained, held = hold_out(TEXTS, 0.3, 10**6, seed=0)
    assert {*map(id, trained), *map(id, held)} == set(map(id, TEXTS))
    assert held
    assert not {text.title for text in trained} & {text.title for text in held}


def test_the_share_keeps_to_its_bytes():
    size = len(TEXTS[0].text)
    many = [Passage.of(f"Text {n}") for n in range(2000)]
    _, held = hold_out(many, 0.5, 200 * 9, seed=0)
    assert 150 < len(held) < 260
    _, held = hold_out(TEXTS, 0.5, size, seed=0)
    assert len({text.title for text in held}) == 1  # of two documents or more, one


def test_one_document_alone_is_refused():
    with pytest.raises(UserError, match="--held-out"):
        hold_out(TEXTS[:3], 0.1, 10**6, seed=0)
