import os

import pytest

from dalm.errors import UserError
from dalm.ingest.loaders import find_files, read_documents
from dalm.ingest.loaders.loader import LoaderOptions


def test_a_folder_is_searched_in_order_and_what_it_leaves_out_is_named(tmp_path):
    docs = tmp_path / "docs"
    for name in (
        "b/two.md",
        "a.txt",
        "c.HTML",
        ".git/x.txt",
        ".hidden.txt",
        "d.png",
        "e.tar.gz",
        "f",
    ):
        (docs / name).parent.mkdir(parents=True, exist_ok=True)
        (docs / name).write_text("x")
    (docs / "link.txt").symlink_to(docs / "gone")
    os.mkfifo(docs / "pipe.txt")
    files, unread = find_files([str(docs)])
    assert [file.source for file in files] == ["docs/a.txt", "docs/b/two.md", "docs/c.HTML"]
    reasons = {each.source: each.reason for each in unread}
    assert reasons.keys() == {
        "docs/d.png",
        "docs/e.tar.gz",
        "docs/f",
        "docs/link.txt",
        "docs/pipe.txt",
    }
    assert "unsupported file type .png; supported: .txt" in reasons["docs/d.png"]
    assert reasons["docs/e.tar.gz"] == "an archive; unpack it first"
    assert "no file extension" in reasons["docs/f"]
    assert "No such file" in reasons["docs/link.txt"]
    assert "pipe" in reasons["docs/pipe.txt"]


def test_a_file_is_read_once_and_some_are_left_out(tmp_path):
    for name in ("a.txt", "b.txt"):
        (tmp_path / name).write_text("x")
    files, unread = find_files(
        [str(tmp_path / "a.txt"), str(tmp_path)], exclude=[tmp_path / "b.txt"]
    )
    assert ([file.source for file in files], unread) == (["a.txt"], [])


def test_linked_folders_are_read_once_and_links_around_are_named(tmp_path):
    docs, other = tmp_path / "docs", tmp_path / "other"
    for path in (docs / "a/one.txt", other / "deep/two.txt"):
        path.parent.mkdir(parents=True)
        path.write_text("x")
    (docs / "linked").symlink_to(other)
    (docs / "again").symlink_to(other / "deep")
    (docs / "inside").symlink_to(docs / "a")
    (docs / "up").symlink_to(tmp_path)
    (other / "back").symlink_to(docs)
    files, [skipped] = find_files([str(docs)])
    assert [file.source for file in files] == ["docs/a/one.txt", "docs/again/two.txt"]
    assert skipped.source == "docs/up"
    assert "a link to a folder that holds this one" in skipped.reason


def test_a_missing_name_is_refused():
    with pytest.raises(UserError, match="no file or folder 'no such'"):
        find_files(["no such"])


def test_names_that_are_no_text_are_written_down(tmp_path):
    (tmp_path / os.fsdecode(b"caf\xe9.txt")).write_text("some text")
    [file], _ = find_files([str(tmp_path)])
    [document] = read_documents(file, LoaderOptions())
    assert document.source.endswith("caf?.txt")
    document.title.encode()


def test_old_formats_are_named_with_those_to_save_them_in(tmp_path):
    (tmp_path / "a.doc").write_bytes(b"x")
    files, [skipped] = find_files([str(tmp_path)])
    assert not files
    assert skipped.reason == ".doc is not read; save it as .docx"
