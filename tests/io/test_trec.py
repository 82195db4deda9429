import pytest

from dalm.errors import UserError
from dalm.io.trec import read_qrels, read_run, write_qrels, write_run
from dalm.records import Hit, Passage


def file(tmp_path, text):
    path = tmp_path / "file"
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_a_run_is_read_as_it_was_written(tmp_path):
    found = {"q1": [Hit(Passage("d2", ""), 1 / 3), Hit(Passage("d1", ""), 0.25)], "q2": []}
    write_run(tmp_path / "run", "models/my model", found)
    text = (tmp_path / "run").read_text()
    assert text.splitlines()[0] == "q1 Q0 d2 1 0.333333333 models/my_model"
    assert read_run(tmp_path / "run") == {"q1": {"d2": pytest.approx(1 / 3, 1e-8), "d1": 0.25}}


def test_qrels_are_read_as_they_were_written(tmp_path):
    qrels = {"q1": {"d1": 2, "d2": 0}, "é": {"d1": -1}}
    write_qrels(tmp_path / "qrels", qrels)
    assert read_qrels(tmp_path / "qrels") == qrels


def test_beirs_layout(tmp_path):
    text = "query-id\tcorpus-id\tscore\r\n1\tMED-10\t1\r\n1\tMED-14\t2\r\n"
    assert read_qrels(file(tmp_path, text)) == {"1": {"MED-10": 1, "MED-14": 2}}


def test_blank_lines_a_mark_and_tabs_do_no_harm(tmp_path):
    text = "\ufeffq Q0 d 1 0.5 x\n\n  \nq\tQ0\te\t2\t-1e-3\tx"
    assert read_run(file(tmp_path, text)) == {"q": {"d": 0.5, "e": -0.001}}


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q Q0 d 1 0.5\n", r"file, line 1: 5 fields; a run has 6"),
        ("q Q0 d 1 0.5 x\nq Q0 e 2 nan x\n", r"line 2: the score 'nan' is not a finite"),
        ("q Q0 d 1 inf x\n", "line 1: the score 'inf'"),
        ("q Q0 d 1 high x\n", "the score 'high'"),
        ("q Q0 d 1 0.5 x\n\nq Q0 d 2 0.4 x\n", "line 3: passage 'd' is listed twice for query 'q'"),
        ("", "is empty"),
        (b"\xff\xfe\x00", "can't be read"),
    ],
)
def test_a_broken_run_is_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        read_run(file(tmp_path, text))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("q 0 d 1 x\n", "line 1: 5 fields; qrels have 4"),
        ("q 0 d high\n", "line 1: the grade 'high' is not an integer"),
        ("q d 1\nq d2 1.5\n", "line 2: the grade '1.5'"),
        ("q 0 d 1\nq 0 d 0\n", "line 2: passage 'd' is listed twice"),
        ("query-id corpus-id score\nq d high\n", "line 2"),
    ],
)
def test_broken_qrels_are_one_line(tmp_path, text, said):
    with pytest.raises(UserError, match=said):
        read_qrels(file(tmp_path, text))


def test_a_missing_file(tmp_path):
    with pytest.raises(UserError, match="can't be read"):
        read_run(tmp_path / "none")


def test_ids_with_blanks_stay_one_field(tmp_path):
    hits = [Hit(Passage("doc\t1", ""), 2.0), Hit(Passage("doc 1", ""), 1.0)]
    write_run(tmp_path / "run", "a system", {"query 1\n": hits})
    write_qrels(tmp_path / "qrels", {"query 1\n": {"doc 1": 1}})
    assert read_run(tmp_path / "run") == {"query%201%0A": {"doc%091": 2.0, "doc%201": 1.0}}
    assert read_qrels(tmp_path / "qrels") == {"query%201%0A": {"doc%201": 1}}
