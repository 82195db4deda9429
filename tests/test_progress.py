import pytest

from dalm.progress import Stopwatch


def test_stages_add_up_with_their_speed():
    watch = Stopwatch()
    watch.seconds = {"searching": 1.5, "answering": 0.5}
    watch.count("searching", 2000, "questions")
    watch.count("searching", 1000, "questions")
    assert watch.speed == {"searching": {"questions": 2000.0}}
    assert str(watch) == "searching 1.5 s (75%, 2,000 questions/s), answering 0.5 s (25%)"


def test_a_stage_is_timed_also_where_it_fails():
    watch = Stopwatch()
    with pytest.raises(ZeroDivisionError), watch.stage("searching"):
        1 / 0  # noqa: B018
    assert watch.seconds["searching"] > 0
