import tracemalloc
from itertools import product

import numpy as np
import pytest
from scipy import stats

from dalm.eval.significance import (
    ClusteredMeans,
    detectable_differences,
    holm,
    least_p,
    mean_intervals,
    sign_flip_tests,
)


def interval_of(values, clusters, *, bounded=False, **options):
    (interval,) = mean_intervals([values], clusters, bounded=[bounded], **options)
    return interval


def flipped(differences, clusters, **options):
    (test,) = sign_flip_tests([differences], clusters, **{"seed": 0} | options)
    return test


def width(interval):
    return interval.high - interval.low


# Means


def test_the_interval_of_independent_values_is_students():
    values = np.random.default_rng(0).normal(3, 2, 12)
    expected = stats.t.interval(0.95, 11, values.mean(), stats.sem(values))
    assert interval_of(values, range(12)) == pytest.approx(expected)
    wider = interval_of(values, range(12), level=0.99)
    assert wider.low < expected[0] < expected[1] < wider.high


def test_the_interval_of_a_rate_is_wilsons():
    # 8 of 10 right: the score interval with t(9) and n' = m (1 − m) / V = 9.
    t = stats.t.ppf(0.975, 9)
    interval = interval_of([1] * 8 + [0] * 2, range(10), bounded=True)
    for end in interval:
        assert abs(0.8 - end) == pytest.approx(t * np.sqrt(end * (1 - end) / 9))
    assert interval.low < 0.8 < interval.high < 1


@pytest.mark.parametrize("value", [0.0, 1.0])
def test_a_rate_without_a_miss_has_an_interval_within_its_bounds(value):
    low, high = interval_of([value] * 24, np.arange(8).repeat(3).tolist(), bounded=True)
    t = stats.t.ppf(0.975, 7)
    furthest = t**2 / 8 / (1 + t**2 / 8)
    assert (low, high) == pytest.approx((1 - furthest, 1) if value else (0, furthest))


def test_a_value_that_never_varies_between_the_bounds_has_no_width():
    """Precision@10 is 0.1 for each query whose one passage is found; a miss changes little."""
    assert interval_of([0.1] * 10, range(10), bounded=True) == pytest.approx((0.1, 0.1))
    low, high = interval_of([0.1] * 9 + [0.0], range(10), bounded=True)
    assert 0.05 < low < 0.09 < high < 0.2


def test_equal_values_in_a_cluster_count_once():
    documents = np.random.default_rng(0).normal(size=30)
    values, clusters = documents.repeat(16), np.arange(30).repeat(16).tolist()
    assert interval_of(values, clusters) == pytest.approx(interval_of(documents, range(30)))


def test_clusters_never_make_a_mean_more_certain_than_independent_values_would():
    values = [1.0, 0.0] * 20  # in every cluster the same mean
    clustered = interval_of(values, np.arange(20).repeat(2).tolist())
    assert width(clustered) > width(interval_of(values, range(40)))


def test_variance_and_degrees_of_freedom_by_hand():
    # Clusters of 1, 1 and 2 values, each constant: 0, 1 and 1; m = 3/4.
    means = ClusteredMeans.of([[0, 1, 1, 1]], ["a", "b", "c", "c"])
    assert means.means == pytest.approx([0.75])
    e = np.array([-0.75, 0.25, 0.5])
    n = np.array([1, 1, 2])
    assert means.variances == pytest.approx([(e**2 / (1 - n / 4)).sum() / 16])
    hat = np.eye(3) - np.outer(n / 4, np.ones(3))  # e = hat · sums
    scale = np.diag(1 / np.sqrt(1 - n / 4))
    covariance = scale @ hat @ np.diag(n**2) @ hat.T @ scale
    expected = np.trace(covariance) ** 2 / (covariance**2).sum()
    assert means.degrees_of_freedom == pytest.approx(expected)
    assert 1 < expected < 2


def test_equal_clusters_have_the_usual_degrees_of_freedom():
    means = ClusteredMeans.of([np.zeros(24)], np.arange(8).repeat(3).tolist())
    assert means.degrees_of_freedom == pytest.approx(7)


# Differences


def test_sign_flip_by_hand():
    # Five clusters that all differ by +1: of 32 signs 2 are as extreme.
    assert flipped([1] * 5, range(5)).p == 2 / 32
    # The same five, twenty rows each, are still five clusters; other signs are drawn beyond 14.
    assert flipped([1] * 100, np.arange(5).repeat(20).tolist()).p == 2 / 32
    assert flipped([1] * 100, range(100), samples=99).p == 1 / 100
    assert [least_p(k) for k in (1, 2, 5, 6)] == [1, 1 / 2, 1 / 16, 1 / 32]


def test_the_interval_is_what_the_test_does_not_reject():
    values = np.array([0.3, 0.1, -0.2, 0.5, 0.4, 0.2, 0.6, 0.1])
    low, high = flipped(values, range(8)).interval

    def p_of(delta):
        sums = [abs(np.dot(signs, values - delta)) for signs in product((1, -1), repeat=8)]
        return np.mean(np.array(sums) >= sums[0] - 1e-12)

    assert p_of(low - 1e-6) <= 0.05 < p_of(low + 1e-6)
    assert p_of(high + 1e-6) <= 0.05 < p_of(high - 1e-6)


@pytest.mark.parametrize("documents", [6, 9, 30])
def test_an_interval_excludes_zero_exactly_if_p_is_at_most_one_in_twenty(documents):
    random = np.random.default_rng(documents)
    clusters = random.integers(documents, size=60).tolist()
    columns = random.choice([-0.5, 0, 0, 0, 1], size=(300, 60))
    tests = sign_flip_tests(list(columns), clusters, seed=1, samples=999)
    for test in tests:
        low, high = test.interval
        assert (test.p <= 0.05) == (low > 0 or high < 0)
    assert 20 < sum(test.p <= 0.05 for test in tests) < 280


def test_too_few_clusters_reject_nothing():
    test = flipped([1.0] * 5, range(5))
    assert test.interval is None
    assert flipped([1.0] * 6, range(6)).interval is not None


def test_sign_flip_of_nothing_is_one():
    assert flipped([0, 0] * 5, range(10)) == (1, None)
    assert flipped([1, -1], range(2)).p == 1
    assert flipped([0.1, 0.2, 0.3], ["a", "a", "a"]).p == 1
    assert sign_flip_tests([], range(2), seed=0) == []


def test_sign_flip_is_calibrated():
    random = np.random.default_rng(0)
    differences = list(random.normal(size=(400, 30)))
    ps = np.array([t.p for t in sign_flip_tests(differences, range(30), seed=0, samples=500)])
    assert np.mean(ps < 0.1) == pytest.approx(0.1, abs=0.04)


def test_pairing_cancels_what_queries_have_in_common():
    random = np.random.default_rng(0)
    difficulty = random.random(500)
    a, b = difficulty + 0.01 + 0.001 * random.random(500), difficulty
    assert flipped(a - b, range(500)).interval.low > 0.01
    assert width(interval_of(a, range(500))) > 0.04


# Power


def test_what_is_called_detectable_is_found_in_four_of_five_test_sets():
    random = np.random.default_rng(0)
    clusters, documents = np.arange(36).repeat(4).tolist(), np.arange(36).repeat(4)
    shifts = random.normal(size=(400, 36))[:, documents]
    noise = shifts + random.normal(size=(400, 144))
    shown = np.array(detectable_differences(list(noise), clusters))
    truth = np.sqrt((1 + 1 / 4) / 36) * stats.t.ppf([0.975, 0.8], 35).sum()
    assert shown.mean() == pytest.approx(truth, rel=0.05)
    tests = sign_flip_tests(list(noise + truth), clusters, seed=0, samples=999)
    assert np.mean([test.p <= 0.05 for test in tests]) == pytest.approx(0.8, abs=0.05)


def test_nothing_is_detectable_in_five_documents_or_without_a_difference():
    assert detectable_differences([[1.0, 0, 0.5, 0, 1]], range(5)) == [None]
    assert detectable_differences([[0.0] * 8], range(8)) == [None]
    assert detectable_differences([], range(8)) == []


# All of them


def test_the_order_of_the_queries_plays_no_part():
    random = np.random.default_rng(3)
    values, clusters = random.normal(size=60), [f"c{i % 17}" for i in range(60)]
    order = random.permutation(60)
    shuffled = values[order], [clusters[i] for i in order]
    assert interval_of(*shuffled) == pytest.approx(interval_of(values, clusters), abs=1e-12)
    one, other = (flipped(*each, seed=5) for each in (shuffled, (values, clusters)))
    assert one.p == other.p
    assert one.interval == pytest.approx(other.interval, abs=1e-12)
    assert flipped(values, clusters, seed=6) != other


def test_columns_share_their_samples():
    a, b = np.random.default_rng(0).random((2, 50))
    alone = [flipped(column, range(50), seed=1).p for column in (a - 0.5, b - 0.5)]
    together = sign_flip_tests([a - 0.5, b - 0.5], range(50), seed=1)
    assert [test.p for test in together] == alone


def test_memory_is_bounded():
    tracemalloc.start()
    sign_flip_tests([np.ones(20_000)], range(20_000), seed=0, samples=600)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="two clusters"):
        interval_of([1, 2], ["a", "a"])
    with pytest.raises(ValueError, match="finite"):
        interval_of([1, float("nan")], ["a", "b"])
    with pytest.raises(ValueError, match="2 clusters, but"):
        interval_of([1, 2, 3], ["a", "b"])
    with pytest.raises(ValueError, match="level"):
        interval_of([1, 2], ["a", "b"], level=95)


def test_holm_by_hand():
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 rises to what stands before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []
