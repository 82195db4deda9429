"""Combinations of options that can't work, or of which one does nothing, are refused."""

import pytest

from dalm.config import RagE2E, check
from dalm.config.joint_training import check_joint
from dalm.errors import UserError

# What nothing in the rest of a run would make use of; each needs what it needs, or is refused.
REFUSED = [
    ({"objective": "dalm", "candidates": "index"}, "--objective dalm"),
    ({"objective": "dalm", "reader_warmup": 0.2}, "--reader-warmup"),
    ({"objective": "dalm", "gold_probability": 0.5}, "--gold-probability"),
    ({"objective": "dalm", "num_candidates": 3}, "--num-candidates"),
    ({"objective": "pdist", "train_encoders": "none", "contrastive_weight": 0.5}, "--contrastive"),
    ({"candidates": "index", "train_encoders": "query", "over_retrieve": 4}, "--over-retrieve"),
    ({"candidates": "index", "train_encoders": "query", "refresh_budget": 0.3}, "--refresh-budget"),
    ({"candidates": "index", "train_encoders": "none", "over_retrieve": 4}, "--over-retrieve"),
    ({"over_retrieve": 4}, "--over-retrieve"),
    ({"write_back": True}, "--write-back"),
    ({"refresh_budget": 0.3}, "--refresh-budget"),
    ({"passages": ["table"]}, "--passages"),
    ({"reconstruction_weight": 0.3}, "--reconstruction-weight"),
    ({"reader_passages": 2}, "--reader-passages"),
    ({"objective": "emdr2", "target_temperature": 0.3}, "--target-temperature"),
    ({"objective": "emdr2", "teacher_mix": 0.3}, "--teacher-mix has no effect without --objective"),
    ({"objective": "pdist", "train_encoders": "none", "teacher_mix": 0.3}, "--teacher-mix"),
    ({"objective": "lsr", "teacher_mix": 0.3, "query_column": "Q"}, "--query-column"),
    (
        {"objective": "pdist", "teacher_mix": 0.3, "num_candidates": 1},
        "--teacher-mix has no effect with --num-candidates 1",
    ),
    *(
        (options | {"skip_gradient_below": 0.001}, "--skip-gradient-below 0.001")
        for options in (
            {"objective": "dalm"},
            {"objective": "pdist"},
            {"num_candidates": 1},
            {"preset": "independent"},
            {"train_generator": False},
            {"train_generator": False, "candidates": "index", "train_encoders": "query"},
            {"objective": "emdr2", "candidates": "index", "train_encoders": "none"},
        )
    ),
    ({"train_encoders": "none", "train_generator": False}, "nothing is left to train"),
    ({"train_encoders": "none", "reader_warmup": 0.2}, "--reader-warmup"),
    ({"train_generator": False, "reader_warmup": 0.2}, "--reader-warmup"),
    ({"train_encoders": "query", "use_peft": "retriever"}, "--use-peft retriever"),
    ({"train_encoders": "none", "use_peft": "both"}, "--use-peft both"),
    ({"train_generator": False, "use_peft": "generator"}, "--use-peft generator"),
    ({"train_generator": False, "generator_learning_rate": 1e-3}, "--generator-learning-rate"),
]


@pytest.mark.parametrize(("options", "said"), REFUSED)
def test_what_can_not_work_or_does_nothing_is_refused(options, said):
    with pytest.raises(UserError) as refused:
        refuse(RagE2E(output_dir="out", **options))
    assert said in str(refused.value)


def refuse(settings):
    """What a run does before it reads anything."""
    check_joint(settings)
    check(settings)


@pytest.mark.parametrize("objective", ["dalm", "rag_token", "pdist"])
@pytest.mark.parametrize("encoders", ["both", "query", "none"])
def test_what_can_work_is_not(objective, encoders):
    refuse(RagE2E(output_dir="out", objective=objective, train_encoders=encoders))


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"objective": "rag_sequence", "train_encoders": "none"},
        {"objective": "pdist", "candidates": "index"},
        {"num_candidates": 1, "candidates": "index"},
        {"train_generator": False, "candidates": "index"},
    ],
)
def test_light_candidates_can_be_left_out_where_any_are_computed_again(options):
    refuse(RagE2E(output_dir="out", skip_gradient_below=0.001, **options))


def test_none_is_left_out_where_none_is_computed_again():
    refuse(RagE2E(output_dir="out", preset="independent", skip_gradient_below=0.0))


@pytest.mark.parametrize("encoders", ["query", "none"])
def test_what_keeps_an_index_fresh_may_be_switched_off_where_it_never_grows_old(encoders):
    off = {"refresh_budget": 0.0, "over_retrieve": 1, "write_back": False}
    refuse(RagE2E(output_dir="out", candidates="index", train_encoders=encoders, **off))
