"""Intervals cover the truth with few documents, where a percentile bootstrap doesn't."""

import pytest

from experiments.interval_coverage import Setting, coverage, ours, percentile

DOCUMENTS = [(8, 0.2), (16, 0.2), (36, 0.2), (100, 0.2), (40, 0.0)]


@pytest.mark.parametrize(("documents", "rho"), DOCUMENTS)
@pytest.mark.parametrize("mean", [0.5, 0.8, 0.95])
@pytest.mark.parametrize("graded", [False, True])
def test_intervals_of_means_cover_the_truth(documents, rho, mean, graded):
    found = coverage(ours, Setting(documents, rho, mean, graded), 800)
    assert found.share >= 0.93
    assert found.intervals == 800


@pytest.mark.parametrize(("documents", "rho"), DOCUMENTS)
@pytest.mark.parametrize(("mean", "difference"), [(0.5, 0.0), (0.5, 0.2), (0.8, 0.1)])
def test_intervals_of_differences_cover_the_truth(documents, rho, mean, difference):
    setting = Setting(documents, rho, mean, difference=difference)
    assert coverage(ours, setting, 800).share >= 0.93


def test_the_simulation_shows_what_few_documents_do_to_a_percentile_bootstrap():
    assert coverage(percentile, Setting(8, 0.2, 0.8), 400).share < 0.9
    assert coverage(percentile, Setting(100, 0.2, 0.5), 400).share > 0.92
