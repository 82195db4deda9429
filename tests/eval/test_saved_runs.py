from dataclasses import replace

import pytest

from dalm.errors import UserError
from dalm.eval.results import read_runs, save
from tests.eval.example_results import TUNED

QRELS = "q1 0 a 1\nq1 0 b 0\nq2 0 a 2\nq3 0 c 0\n"


def files(tmp_path, run, qrels=QRELS):
    (tmp_path / "run").write_text(run)
    (tmp_path / "qrels").write_text(qrels)
    return [str(tmp_path / "run")], str(tmp_path / "qrels")


def test_a_trec_run_is_measured_against_its_judgements(tmp_path, caplog):
    run = "q1 Q0 b 1 0.9 x\nq1 Q0 a 2 0.8 x\nq9 Q0 a 1 1 x\n"
    (results,) = read_runs(*files(tmp_path, run), ["RR", "R@1"])
    # q2 is judged and not in the run: 0. Nothing is relevant to q3: no value. q9 isn't judged.
    assert results.measures == {"RR": [0.5, 0.0, None], "R@1": [0.0, 0.0, None]}
    assert "lacks 2 judged queries; they count as 0" in caplog.text
    assert "holds 1 queries without judgements" in caplog.text


def test_the_scores_decide_and_not_the_ranks(tmp_path):
    run = "q1 Q0 b 1 0.1 x\nq1 Q0 a 2 0.8 x\nq2 Q0 a 1 0.5 x\nq2 Q0 b 2 0.5 x\n"
    (results,) = read_runs(*files(tmp_path, run), ["RR"])
    assert results.measures["RR"] == [1.0, 0.5, None]  # a tie goes to the later id


def test_a_run_folder_as_it_was_measured_or_anew(tmp_path):
    save(tmp_path / "run", TUNED, {})
    (as_it_was,) = read_runs([str(tmp_path / "run")], None, None)
    assert as_it_was.measures == TUNED.measures
    (anew,) = read_runs([str(tmp_path / "run")], None, ["R@1", "RR@2"])
    assert anew.measures == {"R@1": [0.0] * 4, "RR@2": [0.5] * 4}


def test_fewer_passages_than_asked_for_are_measured_at_that_depth(tmp_path):
    save(tmp_path / "run", replace(TUNED, facts={"settings": {"top_k": 10}}), {})
    (anew,) = read_runs([str(tmp_path / "run")], None, ["R@10"])
    assert anew.measures == {"R@10": [1.0] * 4}


def test_what_cannot_be_compared_is_refused(tmp_path):
    save(tmp_path / "folder", TUNED, {})
    folder = str(tmp_path / "folder")
    runs, qrels = files(tmp_path, "q9 Q0 a 1 0.5 x\n")
    for given, said in (
        (([folder], None, ["R@10"]), "holds 2 passages a query; evaluate again with --top-k 10"),
        (([folder], qrels, None), "--qrels has no effect"),
        ((runs, None, None), "a TREC run needs its judgements"),
        ((runs, qrels, None), "none of its 1 queries is judged, such as 'q9'"),
        (([str(tmp_path / "none")], None, None), "no run"),
        (([str(tmp_path)], None, None), r"has no results\.json"),
    ):
        with pytest.raises(UserError, match=said):
            read_runs(*given)


def test_judgements_by_which_nothing_is_relevant_are_refused(tmp_path):
    runs, qrels = files(tmp_path, "q1 Q0 a 1 0.5 x\n", "q1 0 a -1\nq2 0 a 0\n")
    with pytest.raises(UserError, match="no passage is relevant to any of its 2 queries"):
        read_runs(runs, qrels, None)
