import logging

from dalm.ingest.loaders.loader import Skipped
from dalm.ingest.unread import LOGGED, log_unread, write_unread


def test_the_table_has_a_line_for_each_and_goes_when_nothing_is_skipped(tmp_path):
    path = tmp_path / "p.unread.tsv"
    write_unread(path, [Skipped("a\tb\x1b.txt", "two\nlines"), Skipped("c.txt", "it is empty")])
    assert path.read_text() == "source\treason\na\\tb\\x1b.txt\ttwo\\nlines\nc.txt\tit is empty\n"
    write_unread(path, [])
    assert not path.exists()


def test_the_log_names_the_first_and_counts_all_by_reason(tmp_path, caplog):
    caplog.set_level(logging.INFO)
    skipped = [Skipped(f"{n}.txt", f"line {n}, byte 1 (0xe9): not UTF-8; x") for n in range(30)]
    skipped += [Skipped(f"{n}.x", f"reason {n}; remedy") for n in range(6)]
    log_unread(skipped, tmp_path / "p.unread.tsv")
    lines = [record.getMessage() for record in caplog.records]
    assert len(lines) == LOGGED + 1
    assert lines[0] == "unread     0.txt: line 0, byte 1 (0xe9): not UTF-8; x"
    assert "36 in all: 30 not UTF-8, 1 reason 0, 1 reason 1" in lines[-1]
    assert lines[-1].endswith(f", … (2 other reasons); see {tmp_path / 'p.unread.tsv'}")
    caplog.clear()
    log_unread([], tmp_path / "p.unread.tsv")
    assert not caplog.records
