"""The arms in which teachers are compared: every one's options exist, and a domain's agree."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

import dalm
from dalm.config.joint_training import check_joint
from dalm.config.options import check
from dalm.config.retriever_training import check_retriever_only

CHECKS: dict[str, tuple[Any, Any]] = {
    "train-retriever-only": (dalm.RetrieverOnly, check_retriever_only),
    "train-rag-e2e": (dalm.RagE2E, check_joint),
    "train-reranker": (dalm.RerankerTraining, check),
}
FOLDER = Path(__file__).parents[2] / "experiments"


@pytest.fixture(scope="module")
def teacher_arms() -> Iterator[Any]:
    """Import the script as it imports its neighbours: from its own folder."""
    threads = torch.get_num_threads()
    sys.path.insert(0, str(FOLDER))
    try:
        import teacher_arms

        yield teacher_arms
    finally:
        sys.path.remove(str(FOLDER))
        torch.set_num_threads(threads)


def test_every_arm_has_valid_options(teacher_arms: Any) -> None:
    for name in teacher_arms.SETTINGS | teacher_arms.LARGER:
        for arm in teacher_arms.arms(name):
            options = teacher_arms.options_of(name, arm, "passages.csv")
            if options is not None:
                made, check_whole = CHECKS[arm.command]
                settings = made(output_dir="run", **options)
                check(settings)
                check_whole(settings)


def test_every_kind_of_labels_has_valid_options(teacher_arms: Any) -> None:
    for name in teacher_arms.SETTINGS | teacher_arms.LARGER:
        for labels in teacher_arms.LABELS:
            options = teacher_arms.label_options(name, labels, "reader")
            check(dalm.ScoreCandidates(passages=["passages.csv"], output="scored.jsonl", **options))


def test_the_arms_of_a_domain_differ_in_their_labels_and_objective_alone(teacher_arms: Any) -> None:
    shared = ("per_device_train_batch_size", "learning_rate", "max_train_steps", "passage_max_len")
    for name in teacher_arms.SETTINGS | teacher_arms.LARGER:
        arms = list(teacher_arms.arms(name))
        found = [
            teacher_arms.options_of(name, arm, "passages.csv")
            for arm in arms
            if arm.command != "train-reranker" and "eight times as long" not in arm.name
        ]
        of_arms = {tuple(each[key] for key in shared) for each in found if each is not None}
        assert len(of_arms) == 1, name
        assert len({arm.name for arm in arms}) == len(arms)
        assert arms[0].table is None
