import tracemalloc

import numpy as np
import pytest

from dalm.eval.significance import bootstrap_intervals, holm, sign_flip_ps


def interval_of(values, clusters, **options):
    (interval,) = bootstrap_intervals([values], clusters, **options)
    return interval


def p_of(differences, clusters, **options):
    (p,) = sign_flip_ps([differences], clusters, **options)
    return p


def width(interval):
    return interval.high - interval.low


def test_the_interval_of_a_mean_is_the_normal_one():
    values = np.random.default_rng(0).normal(3, 2, 4000)
    interval = interval_of(values, range(4000), seed=1)
    error = values.std() / np.sqrt(4000)
    assert interval.low == pytest.approx(values.mean() - 1.96 * error, abs=0.1 * error)
    assert interval.high == pytest.approx(values.mean() + 1.96 * error, abs=0.1 * error)
    wider = interval_of(values, range(4000), seed=1, level=0.99)
    assert wider.low < interval.low < interval.high < wider.high


def test_repeated_values_in_a_cluster_widen_the_interval():
    documents = np.random.default_rng(0).normal(size=100)
    values, clusters = documents.repeat(16), np.arange(100).repeat(16).tolist()
    clustered = interval_of(values, clusters, seed=1)
    assert width(clustered) == pytest.approx(width(interval_of(documents, range(100), seed=1)))
    ratio = width(clustered) / width(interval_of(values, range(1600), seed=1))
    assert ratio == pytest.approx(4, rel=0.1)


def test_two_clusters_of_unequal_size_by_hand():
    # Drawn twice from {[0], [1, 1]}: means 0 (1/4), 2/3 (1/2), 1 (1/4).
    interval = interval_of([0, 1, 1], ["a", "b", "b"], seed=0, level=0.4)
    assert interval == pytest.approx((2 / 3, 2 / 3))
    assert interval_of([0, 1, 1], ["a", "b", "b"], seed=0) == (0, 1)


def test_seeded_and_order_of_clusters_by_first_appearance():
    values = np.random.default_rng(0).random(30)
    clusters = [f"d{i % 7}" for i in range(30)]
    first = interval_of(values, clusters, seed=3)
    assert interval_of(values, [name.upper() for name in clusters], seed=3) == first
    assert interval_of(values, clusters, seed=4) != first


def test_columns_share_their_samples():
    a, b = np.random.default_rng(0).random((2, 50))
    alone = [interval_of(column, range(50), seed=1) for column in (a, b)]
    together = bootstrap_intervals([a, b], range(50), seed=1)
    np.testing.assert_allclose(together, alone, rtol=1e-12)


def test_pairing_cancels_what_queries_have_in_common():
    random = np.random.default_rng(0)
    difficulty = random.random(500)
    a, b = difficulty + 0.01 + 0.001 * random.random(500), difficulty
    assert interval_of(a - b, range(500), seed=1).low > 0.01
    assert width(interval_of(a, range(500), seed=1)) > 0.04


def test_memory_is_bounded():
    tracemalloc.start()
    interval_of(np.zeros(20_000), range(20_000), seed=0, samples=600)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 200 << 20


def test_sign_flip_by_hand():
    # Five clusters that all differ by +1: of 32 signs 2 are as extreme, so p is about 1/16.
    p = p_of([1] * 5, range(5), seed=0, samples=20_000)
    assert p == pytest.approx(2 / 32, abs=0.006)
    # The same five, twenty rows each, are still five clusters.
    clusters = np.arange(5).repeat(20).tolist()
    assert p_of([1] * 100, clusters, seed=0, samples=20_000) == p
    assert p_of([1] * 100, range(100), seed=0, samples=99) == 1 / 100


def test_sign_flip_of_nothing_is_one():
    assert p_of([0, 0], range(2), seed=0) == 1
    assert p_of([1, -1], range(2), seed=0) == 1
    assert p_of([0.1, 0.2, 0.3], ["a", "a", "a"], seed=0) == 1
    assert sign_flip_ps([], range(2), seed=0) == []


def test_sign_flip_is_calibrated():
    random = np.random.default_rng(0)
    differences = list(random.normal(size=(400, 30)))
    ps = np.array(sign_flip_ps(differences, range(30), seed=0, samples=500))
    assert np.mean(ps < 0.1) == pytest.approx(0.1, abs=0.04)


def test_what_cannot_be_estimated_is_refused():
    with pytest.raises(ValueError, match="two clusters"):
        interval_of([1, 2], ["a", "a"], seed=0)
    with pytest.raises(ValueError, match="finite"):
        interval_of([1, float("nan")], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="2 clusters, but"):
        interval_of([1, 2, 3], ["a", "b"], seed=0)
    with pytest.raises(ValueError, match="level"):
        interval_of([1, 2], ["a", "b"], seed=0, level=95)


def test_holm_by_hand():
    # In order: 4 x 0.005, 3 x 0.01, 2 x 0.03, then 0.04 rises to what stands before it.
    assert holm([0.01, 0.04, 0.03, 0.005]) == pytest.approx([0.03, 0.06, 0.06, 0.02])
    assert holm([0.5, 0.9]) == [1.0, 1.0]
    assert holm([0.2]) == [0.2]
    assert holm([]) == []


def test_the_order_of_the_queries_plays_no_part():
    random = np.random.default_rng(3)
    values, clusters = random.normal(size=60), [f"c{i % 7}" for i in range(60)]
    order = random.permutation(60)
    shuffled = values[order], [clusters[i] for i in order]
    assert interval_of(*shuffled, seed=5) == pytest.approx(
        interval_of(values, clusters, seed=5), abs=1e-12
    )
    assert p_of(*shuffled, seed=5) == p_of(values, clusters, seed=5)
