"""Options of joint training reach the objective, its candidates and its rows."""

import pytest
import torch

from dalm.config import RagE2E
from dalm.records import Passage
from dalm.training.data.retrieved_rows import RetrievedRows, joint_rows
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.objective import objective_class
from dalm.training.objectives.rag import Emdr2, RagToken


@pytest.mark.parametrize(
    ("options", "kind", "source"),
    [
        ({"objective": "dalm"}, DalmObjective, None),
        ({"objective": "emdr2"}, Emdr2, BatchCandidates),
        ({"candidates": "index"}, RagToken, IndexCandidates),
    ],
)
def test_options_reach_the_objective(models, examples, searched, options, kind, source):
    given = RagE2E(
        output_dir="out", contrastive_weight=0.3, logit_scale=7.0, gold_probability=0.5, **options
    )
    rows = joint_rows(examples, [Passage.of("More.")], *models, given)
    index = searched()[0].source.index if source is IndexCandidates else None
    objective = objective_class(given.objective).from_config(given, rows, index)
    assert type(objective) is kind
    assert (objective.contrastive_weight, objective.scale) == (0.3, 7.0)
    assert rows.gold_probability == 0.5
    if source is not None:
        assert type(objective.source) is source
        assert objective.diagnostic_batch is not None
    if source is IndexCandidates:
        assert isinstance(rows, RetrievedRows)
        assert len(rows.base) == 6


def test_every_option_of_the_joint_objective_arrives(models, examples, searched):
    given = RagE2E(
        output_dir="out",
        objective="pdist",
        candidates="index",
        num_candidates=3,
        marginal_temperature=0.3,
        target_temperature=0.4,
        reader_passages=2,
        reader_warmup=0.25,
        over_retrieve=5,
        write_back=True,
        refresh_budget=0.6,
        reconstruction_weight=0.7,
        seed=9,
    )
    rows = joint_rows(examples, [], *models, given)
    objective = objective_class(given.objective).from_config(
        given, rows, searched()[0].source.index
    )
    source = objective.source
    assert (objective.name, objective.target_temperature) == ("pdist", 0.4)
    assert (objective.reader_passages, objective.reader_warmup) == (2, 0.25)
    assert (source.num_candidates, source.temperature, source.over_retrieve) == (3, 0.3, 5)
    assert (source.write_back, source.refresh_budget) == (True, 0.6)
    assert (rows.reconstruction_weight, rows.seed) == (0.7, 9)
    assert torch.equal(objective.diagnostic_batch["gold"], torch.arange(5))
