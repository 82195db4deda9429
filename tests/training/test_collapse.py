"""Collapses are told in words, and a run that does well is left alone."""

import pytest

from dalm.training.collapse import collapses

WELL = {"distinct_passages": 40.0, "target_passages": 2.0, "prior_passages": 2.5}


def test_a_run_that_does_well_is_left_alone():
    assert collapses(WELL, 4) == {}
    assert collapses({}, 4) == {}


@pytest.mark.parametrize(
    ("kind", "figure", "bad", "fine", "advice"),
    [
        ("same_passages", "distinct_passages", 6.0, 7.0, "--learning-rate"),
        ("flat_target", "target_passages", 3.95, 3.8, "--reader-warmup"),
        ("one_hot_prior", "prior_passages", 1.001, 1.1, "--marginal-temperature"),
    ],
)
def test_each_collapse_says_what_to_try(kind, figure, bad, fine, advice):
    told = collapses(WELL | {figure: bad}, 4)
    assert told.keys() == {kind}
    assert advice in told[kind]
    assert "\n" not in told[kind]
    assert collapses(WELL | {figure: fine}, 4) == {}


def test_one_candidate_has_neither_prior_nor_target():
    assert collapses(WELL | {"target_passages": 1.0, "prior_passages": 1.0}, 1) == {}
