"""From options to what is trained: knowledge bases, frozen parts, combinations that are refused."""

import pytest
import torch

from dalm.config import RagE2E, check
from dalm.errors import UserError
from dalm.records import Example, Passage
from dalm.training import joint_training
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.objectives.candidates import BatchCandidates, IndexCandidates
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.joint import RagEndToEnd

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
    joint_training.check(settings)
    check(settings)


@pytest.mark.parametrize("objective", ["dalm", "rag_token", "pdist"])
@pytest.mark.parametrize("encoders", ["both", "query", "none"])
def test_what_can_work_is_not(objective, encoders):
    refuse(RagE2E(output_dir="out", objective=objective, train_encoders=encoders))


@pytest.mark.parametrize("encoders", ["query", "none"])
def test_what_keeps_an_index_fresh_may_be_switched_off_where_it_never_grows_old(encoders):
    off = {"refresh_budget": 0.0, "over_retrieve": 1, "write_back": False}
    refuse(RagE2E(output_dir="out", candidates="index", train_encoders=encoders, **off))


# The knowledge base

A, B, C = (Passage.of(text) for text in ("One passage.", "Two passages.", "Three passages."))


def settings(**options):
    return RagE2E(output_dir="out", candidates="index", **options)


@pytest.fixture
def table(tmp_path):
    file = tmp_path / "passages.jsonl"
    file.write_text('{"Passage": "Two passages."}\n{"Passage": "Three passages."}\n')
    return str(file)


def test_the_knowledge_base_is_what_is_named_and_the_tables_own(table):
    marked = [Example("q", "a", A), Example("r", "b")]
    assert joint_training.knowledge_base(marked, settings(passages=[table])) == [B, C]


def test_without_a_name_it_is_the_tables_own_passages():
    assert (
        joint_training.knowledge_base([Example("q", "a", A), Example("r", "b", B)], settings())
        == []
    )


@pytest.mark.parametrize(
    ("examples", "count"), [([Example("q", "a")], 0), ([Example("q", "a", A)] * 2, 1)]
)
def test_too_small_a_knowledge_base_is_refused(examples, count):
    with pytest.raises(UserError, match=f"has {count} passages; .* --passages"):
        joint_training.knowledge_base(examples, settings())


def test_a_contrast_without_gold_passages_is_refused(table):
    with pytest.raises(UserError, match="--contrastive-weight has no effect"):
        joint_training.knowledge_base(
            [Example("q", "a")], settings(passages=[table], contrastive_weight=0.5)
        )
    joint_training.knowledge_base(
        [Example("q", "a")], settings(passages=[table], contrastive_weight=0)
    )


def test_a_batchs_own_passages_need_two_of_them():
    with pytest.raises(UserError, match="one distinct passage"):
        joint_training.knowledge_base([Example("q", "a", A)], RagE2E(output_dir="out"))


# Objectives


@pytest.mark.parametrize(
    ("options", "kind", "source"),
    [
        ({"objective": "dalm"}, DalmObjective, None),
        ({"objective": "emdr2"}, RagEndToEnd, BatchCandidates),
        ({"candidates": "index"}, RagEndToEnd, IndexCandidates),
    ],
)
def test_options_reach_the_objective(models, examples, searched, options, kind, source):
    given = RagE2E(
        output_dir="out", contrastive_weight=0.3, logit_scale=7.0, gold_probability=0.5, **options
    )
    rows = joint_training.rows_of(examples, [Passage.of("More.")], *models, given)
    index = searched()[0].source.index if source is IndexCandidates else None
    objective = joint_training.objective_of(rows, *models, given, index)
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
    rows = joint_training.rows_of(examples, [], *models, given)
    objective = joint_training.objective_of(rows, *models, given, searched()[0].source.index)
    source = objective.source
    assert (objective.joint, objective.target_temperature) == ("pdist", 0.4)
    assert (objective.reader_passages, objective.reader_warmup) == (2, 0.25)
    assert (source.num_candidates, source.temperature, source.over_retrieve) == (3, 0.3, 5)
    assert (source.write_back, source.refresh_budget) == (True, 0.6)
    assert (rows.reconstruction_weight, rows.seed) == (0.7, 9)
    assert torch.equal(objective.diagnostic_batch["gold"], torch.arange(5))
