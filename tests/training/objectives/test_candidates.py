"""Candidates of the batch and of a living index: which passages, which scores, and its life."""

import logging

import numpy as np
import pytest
import torch

from dalm.errors import UserError
from dalm.records import Example, Passage
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.objectives.candidates import choose
from dalm.training.objectives.index_candidates import overlap, weights_per_token

ALL = range(5)
INF = float("inf")


def live(objective):
    """Return the vectors of all passages by the encoder of this moment."""
    base = objective.source.base
    with torch.no_grad():
        vectors = [objective.retriever.embed(base.features([n]), "passage") for n in range(10)]
    return torch.cat(vectors)


def queries(objective, batch):
    with torch.no_grad():
        return objective.retriever.embed(batch["query"], "query")


def places(objective, found):
    """Return the places of the candidates in the knowledge base, from their tokens."""
    base = objective.source.base
    known = {tuple(base.pieces[n].tolist()): n for n in range(len(base))}
    return [[known[tuple(passage)] for passage in row] for row in found.passages]


# Which passages


@pytest.mark.parametrize(
    ("scores", "gold", "forced", "most", "chosen"),
    [
        ([[1.0, 3.0, 2.0]], 0, True, 2, [[0, 1]]),  # the gold one first, though it scores least
        ([[1.0, 3.0, 2.0]], 0, False, 2, [[1, 2]]),
        ([[1.0, 3.0, 2.0]], 1, True, 9, [[1, 2, 0]]),  # no more than there are
        ([[1.0, -INF, 2.0], [3.0, 4.0, 5.0]], 0, False, 3, [[2, 0], [2, 1]]),  # as many for all
        ([[-INF, 1.0, 2.0]], 0, False, 3, [[2, 1]]),  # a gold passage that was not found
    ],
)
def test_choose(scores, gold, forced, most, chosen):
    rows = len(scores)
    golds, forces = torch.full((rows,), gold), torch.full((rows,), forced)
    assert choose(torch.tensor(scores), golds, forces, most).tolist() == chosen


def test_overlap():
    stale = torch.tensor([[0, 1, 2], [3, 4, 5]])
    assert overlap(stale, stale.flip(1)).item() == 1
    assert overlap(stale, torch.tensor([[0, 1, 9], [9, 8, 7]])).item() == pytest.approx(2 / 6)


@pytest.mark.parametrize(("probability", "forced"), [(1.0, 5), (0.0, 0)])
def test_gold_passages_are_forced_as_often_as_asked(searched, probability, forced):
    objective, rows = searched(gold_probability=probability, num_candidates=2)
    batch = rows.collate(ALL)
    assert int(batch["force_gold"].sum()) == forced
    found = places(objective, objective.source(batch))
    similarity = queries(objective, batch) @ live(objective).T
    for row, gold, best in zip(found, batch["gold"].tolist(), similarity, strict=True):
        ranked = best.argsort(descending=True).tolist()
        if forced:
            assert row == [gold, *[n for n in ranked if n != gold][:1]]
        else:
            assert row == ranked[:2]


def test_some_gold_passages_are_forced_at_one_half(searched):
    """Drawn anew in every epoch, and the same in every run."""
    _, rows = searched(gold_probability=0.5, seed=3)
    drawn = []
    for epoch in range(40):
        rows.set_epoch(epoch)
        forced = rows.collate(ALL)["force_gold"]
        assert torch.equal(forced, rows.collate(ALL)["force_gold"])
        drawn.append(forced)
    share = torch.stack(drawn).double().mean(0)
    assert share.min() > 0.2
    assert share.max() < 0.8


@pytest.mark.parametrize("probability", [0.0, 1.0])
def test_no_candidate_twice(searched, probability):
    objective, rows = searched(gold_probability=probability, num_candidates=5, over_retrieve=2)
    for row in places(objective, objective.source(rows.collate(ALL))):
        assert len(set(row)) == len(row) == 5


def test_more_candidates_than_passages(searched):
    objective, rows = searched(num_candidates=64, reconstruction_weight=1.0)
    found = objective.source(rows.collate(ALL))
    # Statements may not find their own passage, and every query has as many candidates.
    assert found.log_prior.shape == (7, 9)
    assert torch.allclose(found.log_prior.exp().sum(1), torch.ones(7).double())


def test_a_statement_never_finds_the_passage_it_stands_in(searched):
    objective, rows = searched(num_candidates=9, reconstruction_weight=1.0)
    for epoch in range(6):
        rows.set_epoch(epoch)
        batch = rows.collate(ALL)
        hidden = batch["excluded"].tolist()
        assert hidden[:5] == [-1] * 5
        for row, place in list(
            zip(places(objective, objective.source(batch)), hidden, strict=True)
        )[5:]:
            assert sorted([*row, place]) == list(range(10))


def test_candidates_of_the_batch(models, in_batch, examples):
    """Without forcing, a passage is a candidate of its query if it is near enough."""
    rows = Rows(examples, *models, gold_probability=0.0)
    batch = rows.collate(ALL)
    source = in_batch("rag_token", num_candidates=2).source
    similarity = queries(source, batch) @ models[0].embed(batch["passage"], "passage").T
    best = similarity.topk(2)
    found = source(batch)
    pieces = batch["pieces"].passages
    assert found.passages == [[pieces[n] for n in row] for row in best.indices.tolist()]
    expected = (best.values / 0.1).log_softmax(1)
    torch.testing.assert_close(found.log_prior, expected, rtol=0, atol=1e-12)


# Which scores


def test_after_a_full_refresh_a_passage_scores_as_it_does_live(searched):
    objective, rows = searched(over_retrieve=1)
    batch, index = rows.collate(ALL), objective.source.index
    asked = queries(objective, batch)
    scores, found = index.search(asked, 10)
    expected = (asked @ live(objective).T).gather(1, found)
    torch.testing.assert_close(scores.double(), expected, rtol=0, atol=1e-6)
    looked_up = index.lookup(torch.arange(10)[None])[0]
    torch.testing.assert_close(looked_up.double(), live(objective), rtol=0, atol=1e-6)


def test_the_prior_is_over_live_scores_whatever_the_index_holds(searched):
    objective, rows = searched(num_candidates=4, over_retrieve=3)
    batch = rows.collate(ALL)
    fresh = objective.source(batch)
    index = objective.source.index
    index.vectors = torch.nn.functional.normalize(index.vectors + 0.2 * noise(index.vectors))
    stale = objective.source(batch)
    assert places(objective, stale) == places(objective, fresh)
    torch.testing.assert_close(stale.log_prior, fresh.log_prior, rtol=0, atol=1e-12)


def noise(like):
    return torch.randn(like.shape, generator=torch.Generator().manual_seed(0)).to(like)


@pytest.mark.parametrize(("over_retrieve", "corrected"), [(1, False), (2, True)])
def test_the_live_encoder_corrects_a_stale_order(searched, over_retrieve, corrected):
    """The index puts the truly best passage fourth: out of the top 3, within the pool of 6."""
    objective, rows = searched(
        without=tuple(ALL), num_candidates=3, over_retrieve=over_retrieve, write_back=False
    )
    batch = rows.collate([0])
    asked = queries(objective, batch)
    best = (asked @ live(objective).T)[0].argsort(descending=True).tolist()
    wrong = [*best[1:4], best[0], *best[4:]]
    # Vectors whose product with the question falls in the wrong order.
    vectors = torch.empty(10, objective.retriever.dim)
    for rank, place in enumerate(wrong):
        vectors[place] = (1 - rank / 20) * asked[0].float()
    objective.source.index.vectors = vectors
    [row] = places(objective, objective.source(batch))
    assert row == (best[:3] if corrected else wrong[:3])


@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_scores_are_not_rounded_by_autocast(in_batch, searched, rows, monkeypatch, source):
    """The encoders may compute in bf16; what they say of each other is compared in fp32."""
    objective, batch = in_batch("rag_token"), rows.collate(ALL)
    if source == "index":
        objective, rows = searched("rag_token")
        batch = rows.collate(ALL)
    retriever = objective.retriever.float()

    def embed(features, kind):
        angles = features["input_ids"].sum(1, keepdim=True) * torch.arange(1, retriever.dim + 1)
        return torch.nn.functional.normalize((0.37 * angles).sin(), dim=1)

    monkeypatch.setattr(retriever, "embed", embed)
    plain = objective.source(batch)
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = objective.source(batch)
        scores = found.pairs.scores(20.0), found.pairs.scores_by_passage(20.0)
    assert found.log_prior.dtype == torch.float32
    assert torch.equal(found.log_prior, plain.log_prior)
    assert torch.equal(scores[0], plain.pairs.scores(20.0))
    assert torch.equal(scores[1], plain.pairs.scores_by_passage(20.0))


def test_frozen_passages_are_looked_up_not_encoded(searched, train_only, monkeypatch):
    train_only("query", True)
    objective, rows = searched(num_candidates=3)
    seen = []
    embed = objective.retriever.embed

    def watched(features, kind):
        seen.append(kind)
        return embed(features, kind)

    monkeypatch.setattr(objective.retriever, "embed", watched)
    found = objective.source(rows.collate(ALL))
    found.log_prior.sum().backward()
    assert seen == ["query"]


# Written back


@pytest.mark.parametrize("write_back", [True, False])
def test_vectors_of_encoded_passages_go_into_the_index_and_no_others(searched, write_back):
    objective, rows = searched(num_candidates=2, over_retrieve=2, write_back=write_back)
    index = objective.source.index
    marked = index.vectors + 1
    index.vectors = marked.clone()
    batch = rows.collate([0, 1])
    pool = index.search(queries(objective, batch), 4)[1]
    encoded = {*batch["gold"].tolist(), *pool.flatten().tolist()} if write_back else set()
    assert len(encoded) < 10
    objective.train()
    objective(batch).total.backward()
    current = live(objective)
    for place in range(10):
        if place in encoded:
            torch.testing.assert_close(
                index.vectors[place].double(), current[place], rtol=0, atol=1e-6
            )
        else:
            assert torch.equal(index.vectors[place], marked[place])


def test_rows_without_a_gold_passage_write_none_back(searched):
    """A place of -1 is no passage: nobody's vector becomes zero or another's."""
    objective, rows = searched(
        without=tuple(ALL), num_candidates=1, over_retrieve=1, write_back=True
    )
    index = objective.source.index
    batch = rows.collate([3])
    asked = queries(objective, batch)[0].float()
    index.vectors = torch.stack([-asked] + [asked * (1 - n / 20) for n in range(9)])
    before = index.vectors.clone()
    objective.source(batch)
    changed = (index.vectors != before).any(1).nonzero().flatten().tolist()
    assert 1 in changed
    for place in changed:
        torch.testing.assert_close(
            index.vectors[place].double(), live(objective)[place], rtol=0, atol=1e-6
        )


# Its life


def test_the_index_is_made_once_and_then_grows_old(searched):
    objective, _ = searched(refresh_budget=0.0)
    index = objective.source.index
    for update in range(1, 4):
        objective.begin_update(update / 10)
        assert (index.age, index.refreshes) == (update, 1)


def test_a_refresh_comes_when_its_cost_is_earned(searched):
    objective, _ = searched(refresh_budget=0.25)
    source, index = objective.source, objective.source.index
    base = source.base
    cost = weights_per_token(objective.retriever) * base.tokens.lengths.sum()
    source.count_work(3.0, source.weights, base.tokens.lengths.sum())
    source.begin_update(frozen=False)
    assert index.refreshes == 1
    assert index.work == 3 * cost
    source.count_work(0.99, source.weights, base.tokens.lengths.sum())
    source.begin_update(frozen=False)
    assert (index.refreshes, index.age) == (1, 2)
    source.count_work(0.02, source.weights, base.tokens.lengths.sum())
    source.begin_update(frozen=False)
    assert (index.refreshes, index.age, index.work) == (2, 0, 0)


def test_a_refresh_follows_the_weights(searched):
    objective, _ = searched(refresh_budget=1.0)
    before = objective.source.index.vectors.clone()
    with torch.no_grad():
        for parameter in objective.retriever.parameters():
            parameter.add_(0.1 * noise(parameter))
    objective.source.count_work(1.0, 1e12, 1e6)
    objective.begin_update(0.5)
    after = objective.source.index.vectors
    assert (before - after).abs().max() > 0.01
    torch.testing.assert_close(after.double(), live(objective), rtol=0, atol=1e-6)


@pytest.mark.parametrize("resting", ["encoders", "warm-up"])
def test_passages_that_do_not_move_are_not_encoded_again(searched, train_only, resting):
    if resting == "encoders":
        train_only("none", True)
    objective, _ = searched(refresh_budget=1.0, reader_warmup=0.9)
    objective.source.count_work(1.0, 1e12, 1e6)
    objective.begin_update(0.95 if resting == "encoders" else 0.5)
    assert (objective.source.index.age, objective.source.index.refreshes) == (0, 1)


def test_work_is_counted_the_same_in_every_run(searched):
    objective, rows = searched("pdist", refresh_budget=0.1, reader_passages=2)
    index, batch = objective.source.index, rows.collate(ALL)
    counted = []
    for _ in range(2):
        index.work = 0
        objective(batch).total.backward()
        counted.append(index.work)
    assert counted[0] == counted[1] > weights_per_token(objective.generator)


def test_tables_of_embeddings_do_no_work(models):
    retriever = models[0]
    embedded = sum(
        module.weight.numel()
        for module in retriever.modules()
        if isinstance(module, torch.nn.Embedding)
    )
    assert weights_per_token(retriever) == sum(p.numel() for p in retriever.parameters()) - embedded


def test_an_index_is_taken_up_and_a_broken_one_refused(searched, tmp_path, caplog):
    objective, _ = searched()
    index, file = objective.source.index, tmp_path / "index_0.safetensors"
    index.age, index.work, index.refreshes = 7, 123.5, 3
    kept = index.vectors + 1
    index.vectors = kept.clone()
    objective.save_state(tmp_path, 0)
    index.vectors = None
    index.age = 0
    with caplog.at_level(logging.INFO):
        objective.load_state(tmp_path, 0)
    assert caplog.messages[-1] == f"index      loaded from {file}"
    assert torch.equal(index.vectors, kept)
    assert (index.age, index.work, index.refreshes) == (7, 123.5, 3)
    objective.begin_update(0.5)
    assert torch.equal(index.vectors, kept), "made again for nothing"

    file.write_bytes(file.read_bytes()[:-100])
    with pytest.raises(UserError, match="missing or broken; resume from another checkpoint"):
        objective.load_state(tmp_path, 0)


def test_an_index_of_which_another_process_lost_its_share_is_refused_by_all(
    searched, tmp_path, monkeypatch
):
    objective, _ = searched()
    objective.save_state(tmp_path, 0)
    monkeypatch.setattr(
        "dalm.training.objectives.index_candidates.total", lambda number, device: number + 1
    )
    with pytest.raises(UserError, match="another process can't load its share"):
        objective.load_state(tmp_path, 0)


# What is told


def test_the_probe_tells_how_the_index_does(searched):
    objective, rows = searched(num_candidates=3, write_back=True)
    objective.diagnostic_batch = rows.diagnostic_batch(5)
    line = objective.observe()
    assert line["stale_overlap"] == 1.0
    similarity = queries(objective, objective.diagnostic_batch) @ live(objective).T
    assert line["distinct_passages"] == len(similarity.topk(3).indices.unique())
    index = objective.source.index
    index.vectors = -index.vectors  # the worst become the best
    pool = similarity.topk(6, largest=False).indices
    best = pool.gather(1, similarity.gather(1, pool).topk(3).indices)
    shared = overlap(pool[:, :3], best).item()
    assert objective.observe()["stale_overlap"] == pytest.approx(shared)
    assert shared < 0.5


# Rows without gold passages


def test_rows_without_gold_take_no_part_in_the_contrast(searched, gradients):
    """Their questions may find anything: the contrastive loss is that of the other rows."""
    objective, rows = searched(without=(1, 3))
    some = objective(rows.collate(ALL)).parts
    other, others = searched(without=(1, 3))
    alone = other(others.collate([0, 2, 4])).parts
    for name in ("info_nce", "in_batch_accuracy"):
        assert some[name].item() == pytest.approx(alone[name].item(), abs=1e-12)


def test_without_any_gold_passage_there_is_no_contrast(searched):
    objective, rows = searched(without=tuple(ALL))
    loss = objective(rows.collate(ALL))
    assert loss.parts["info_nce"] == 0
    assert loss.total.item() == pytest.approx(loss.parts["rag_token"].item(), abs=1e-12)
    loss.total.backward()
    assert all(p.grad is None or p.grad.isfinite().all() for p in objective.parameters())


def test_a_mixed_table_is_dealt_out_in_batches(models, examples):
    rows = RetrievedRows(
        [Example(e.query, e.answer, e.passage if n % 2 else None) for n, e in enumerate(examples)],
        *models,
        more=[Passage.of("One more passage.")],
    )
    assert rows.gold.tolist() == [-1, 0, -1, 1, -1]
    passages, questions = rows.keys_apart().T.tolist()
    assert len(set(passages)) == 5, "rows without gold are no passage twice"
    assert len({*passages, *questions}) == 10
    assert np.all(rows.lengths() > 0)
