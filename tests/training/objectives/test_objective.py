"""The registry of objectives: every entry loads, and the options name joint ones only."""

from importlib.metadata import EntryPoint
from typing import get_args, get_type_hints

import pytest

from dalm.config import RagE2E, RetrieverOnly
from dalm.errors import UserError
from dalm.training.objectives import objective as registry
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.joint import JointObjective
from dalm.training.objectives.objective import OBJECTIVES, Objective, objective_class
from dalm.training.objectives.retriever_objective import RetrieverObjective


@pytest.mark.parametrize("name", OBJECTIVES)
def test_every_entry_is_a_class_that_says_what_it_is(name):
    found = objective_class(name)
    assert issubclass(found, Objective)
    assert found.name == name
    assert found.label
    assert found.needs <= {"passage", "answer", "text", "scores", "margins"}


@pytest.mark.parametrize(
    ("options", "base"), [(RagE2E, JointObjective), (RetrieverOnly, RetrieverObjective)]
)
def test_the_option_of_a_command_offers_its_objectives(options, base):
    known = {name for name in OBJECTIVES if objective_class(name).command == options.command}
    assert known == {name for name in OBJECTIVES if issubclass(objective_class(name), base)}
    hint = get_type_hints(options)["objective"]
    choices = set()
    pending = [hint]
    while pending:
        each = pending.pop()
        choices |= {each} if isinstance(each, str) else set()
        pending += get_args(each)
    assert choices == known
    assert all(hasattr(objective_class(name), "from_config") for name in known)


@pytest.mark.parametrize(
    ("name", "command", "said"),
    [
        ("listwise", "train-rag-e2e", "of dalm train-rag-e2e; dalm train-retriever-only takes it"),
        ("pdist", "train-retriever-only", "only; dalm train-rag-e2e takes it"),
        ("sft", "train-retriever-only", "not an objective of dalm train-retriever-only$"),
    ],
)
def test_an_objective_of_another_command_is_refused(name, command, said):
    with pytest.raises(UserError, match=f"^--objective {name}: .*{said}"):
        objective_class(name, command)


def test_another_package_adds_an_objective_by_an_entry_point(monkeypatch):
    found = EntryPoint("mine", "dalm.training.objectives.contrastive:Contrastive", registry.GROUP)
    monkeypatch.setattr(
        "dalm.plugins.entry_points", lambda group: [found] * (group == registry.GROUP)
    )
    assert objective_class("mine") is Contrastive
    with pytest.raises(UserError, match="no such objective; registered are causal_lm, contrastive"):
        objective_class("nobody's")
