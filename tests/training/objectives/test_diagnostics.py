"""Collapses are told in words, and a run that does well is left alone."""

import logging

import pytest

from dalm.cli import app, run
from dalm.training.objectives.diagnostics import Reach, collapses

REACH = Reach(questions=16, each=4, most=64)
WELL = {"distinct_passages": 40.0, "target_passages": 2.0, "prior_passages": 2.5}


def test_a_run_that_does_well_is_left_alone():
    assert collapses(WELL, 4, REACH) == {}
    assert collapses({}, 4, REACH) == {}
    assert collapses({}, 4) == {}


@pytest.mark.parametrize(
    ("kind", "figure", "bad", "fine", "advice"),
    [
        ("same_passages", "distinct_passages", 10.0, 11.0, "--learning-rate"),
        ("flat_target", "target_passages", 3.95, 3.8, "--reader-warmup"),
        ("one_hot_prior", "prior_passages", 1.001, 1.1, "--marginal-temperature"),
    ],
)
def test_each_collapse_says_what_to_try(kind, figure, bad, fine, advice):
    told = collapses(WELL | {figure: bad}, 4, REACH)
    assert told.keys() == {kind}
    assert advice in told[kind]
    assert "\n" not in told[kind]
    assert collapses(WELL | {figure: fine}, 4, REACH) == {}


def test_one_candidate_has_neither_prior_nor_target():
    assert collapses(WELL | {"target_passages": 1.0, "prior_passages": 1.0}, 1) == {}


def test_where_there_are_few_passages_all_questions_find_the_same_ones():
    """Nine passages, eight found by each question: nothing is told by their being nine in all."""
    line = WELL | {"distinct_passages": 9.0}
    assert collapses(line, 8, Reach(16, 8, 9)) == {}
    assert collapses(line, 8, Reach(16, 8, 23)) == {}
    told = collapses(line, 8, Reach(16, 8, 24))["same_passages"]
    assert told.startswith("the 16 diagnostic questions find 9 distinct passages, 8 each: ")


def test_a_run_tells_of_a_collapse_once(tiny_models, tiny_table, tmp_path, caplog):
    """At a temperature near 0 the prior considers one passage, from the first update on."""
    line = ["train-rag-e2e", tiny_table, tiny_models.encoder, tiny_models.generator]
    line += ["--output-dir", tmp_path, *"--marginal-temperature 1e-8 --batch-size 4".split()]
    line += "--max-train-steps 3 --logging-steps 1 --device cpu --generator-max-len 128".split()
    line += ["--precision", "fp32"]  # in bf16 two passages may score the same
    with caplog.at_level(logging.WARNING):
        assert run(app, [str(part) for part in line]) == 0
    told = [said for said in caplog.messages if "the prior is one-hot" in said]
    assert len(told) == 1
    assert told[0].startswith("step 1: ")
    assert "--marginal-temperature" in told[0]
