from xml.etree import ElementTree

import pytest

from dalm.eval.comparison import compare
from dalm.eval.report import charts
from dalm.eval.report.charts import Curve
from dalm.eval.significance import Interval
from tests.eval.example_results import BASE, TUNED


def marks(picture, tag):
    return list(ElementTree.fromstring(picture).iter(tag))


def test_recall_is_drawn_for_every_system_in_its_colour():
    band = [Interval(0.1, 0.4), Interval(0.5, 0.8)]
    base, tuned = Curve("a & <b>", [1, 10], [0.1, 0.2]), Curve("t", [1, 10], [0.2, 0.6], band)
    picture = charts.recall_chart([(0, base), (1, tuned)])
    lines = marks(picture, "polyline")
    assert [line.get("class") for line in lines] == ["line s0", "line s1"]
    (x0, y0), (x1, y1) = (map(float, point.split(",")) for point in lines[1].get("points").split())
    assert x0 == charts.LEFT
    assert x1 == charts.WIDTH - charts.RIGHT
    assert y0 - y1 == round((charts.HEIGHT - charts.BOTTOM - charts.TOP) * 0.4, 1)
    assert [band.get("class") for band in marks(picture, "polygon")] == ["band s1"]
    assert marks(picture, "title")[0].text == "a & <b>: 0.100 at 1"


def test_bars_are_as_high_as_their_shares():
    shares = [(0, {"1": 0.5, "none": 0.5}), (1, {"1": 0.75, "none": 0.25})]
    bars = marks(charts.rank_chart(shares, 2), "rect")
    heights = [float(bar.get("height")) for bar in bars]
    assert heights[1] / heights[0] == pytest.approx(1.5, abs=0.01)
    assert sum(heights[::2]) == pytest.approx(sum(heights[1::2]), abs=0.2)
    texts = [text.text for text in marks(charts.rank_chart(shares, 2), "text")]
    assert {"1", "none", "rank (none: not in 2)", "0%", "20%"} <= set(texts)


def test_an_interval_holds_its_mean():
    line, _ = compare(TUNED, BASE, seed=1)
    picture = charts.interval_chart(line, 1.0)
    (dot,) = marks(picture, "circle")
    span = next(each for each in marks(picture, "line") if each.get("class") == "span s1")
    was = next(each for each in marks(picture, "line") if each.get("class") == "was s0")
    assert float(span.get("x1")) <= float(dot.get("cx")) <= float(span.get("x2"))
    assert float(was.get("x1")) == 4 + 152 * line.against.baseline


def test_a_measure_beyond_one_has_an_axis_of_its_own():
    lines = compare(
        TUNED.__class__(
            name="t",
            queries=TUNED.queries,
            hits=TUNED.hits,
            measures={"NLL": [3.0, 2.0, 4.0, 5.0], "R@10": [1.0] * 4},
        )
    )
    highest = charts.axis_ends(lines)
    assert highest["R@10"] == 1
    assert highest["NLL"] > lines[0].interval.high


def test_more_systems_than_colours_begin_again_without_the_baselines():
    found = [charts.colour(place) for place in range(8)]
    assert found == ["s0", "s1", "s2", "s3", "s4", "s5", "s1", "s2"]


def test_few_points_of_a_curve_are_drawn_as_points():
    few, many = (Curve("loss", range(n), [1 / (x + 1) for x in range(n)]) for n in (8, 80))
    assert len(marks(charts.training_chart(few), "circle")) == 8
    assert not marks(charts.training_chart(many), "circle")
