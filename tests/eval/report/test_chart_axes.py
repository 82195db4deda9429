import pytest

from dalm.eval.report.charts import Axis, tick_label


def test_values_map_to_pixels():
    axis = Axis(0, 10, 100, 300)
    assert [axis(0), axis(5), axis(10)] == [100, 200, 300]
    assert Axis(0, 1, 250, 10)(0.25) == 190  # upwards


def test_a_logarithmic_axis_gives_equal_ratios_equal_room():
    axis = Axis(1, 100, 0, 200, log=True)
    assert [axis(1), axis(10), axis(100)] == pytest.approx([0, 100, 200])


def test_an_axis_without_extent_puts_its_value_in_the_middle():
    assert Axis(3, 3, 0, 100)(3) == 50
    assert Axis(3, 3, 0, 100).ticks == [3]


@pytest.mark.parametrize(
    ("ends", "ticks"),
    [
        ((0, 1), [0, 0.2, 0.4, 0.6, 0.8, 1]),
        ((0, 0.3), [0, 0.1, 0.2, 0.3]),
        ((10, 390), [100, 200, 300]),
        ((-1.3, 2.9), [-1, 0, 1, 2]),
        ((2.001, 2.009), [2.002, 2.004, 2.006, 2.008]),
    ],
)
def test_ticks_are_round_and_inside(ends, ticks):
    assert Axis(*ends, 0, 1).ticks == pytest.approx(ticks, abs=1e-12)


def test_ticks_of_a_logarithmic_axis():
    assert Axis(1, 30, 0, 1, log=True).ticks == pytest.approx([1, 2, 5, 10, 20])


@pytest.mark.parametrize(
    ("tick", "text"),
    [(0.0, "0"), (0.30000000000000004, "0.3"), (20.0, "20"), (0.00002, "2e-5"), (3e7, "3e7")],
)
def test_labels_are_short(tick, text):
    assert tick_label(tick) == text
