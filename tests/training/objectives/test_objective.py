"""The registry of objectives: every entry loads, and the options name joint ones only."""

from importlib.metadata import EntryPoint
from typing import get_args, get_type_hints

import pytest

from dalm.config import RagE2E
from dalm.errors import UserError
from dalm.training.objectives import objective as registry
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.joint import JointObjective
from dalm.training.objectives.objective import OBJECTIVES, Objective, objective_class


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_entry_is_a_class_that_says_what_it_is(name):
    found = objective_class(name)
    assert issubclass(found, Objective)
    assert found.name == name
    assert found.label
    assert found.needs <= {"passage", "answer", "text"}


def test_the_option_offers_the_joint_objectives():
    joint = {name for name in OBJECTIVES if issubclass(objective_class(name), JointObjective)}
    hint = get_type_hints(RagE2E)["objective"]
    choices = set()
    pending = [hint]
    while pending:
        each = pending.pop()
        choices |= {each} if isinstance(each, str) else set()
        pending += get_args(each)
    assert choices == joint


def test_another_package_adds_an_objective_by_an_entry_point(monkeypatch):
    found = EntryPoint("mine", "dalm.training.objectives.contrastive:Contrastive", registry.GROUP)
    monkeypatch.setattr(
        "dalm.plugins.entry_points", lambda group: [found] * (group == registry.GROUP)
    )
    assert objective_class("mine") is Contrastive
    with pytest.raises(UserError, match="no such objective; registered are causal_lm, contrastive"):
        objective_class("nobody's")
