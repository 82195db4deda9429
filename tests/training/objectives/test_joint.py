"""Joint objectives: against their formulas, what reaches whom, and what is told of them."""

import math

import pytest
import torch
import torch.nn.functional as F

from dalm.models.batching import to_device
from dalm.models.loading import lora
from dalm.models.prefix_tree import shares_prefixes
from dalm.prompts import Prompt
from dalm.training import gradient_cache, losses, scoring
from dalm.training.objectives import joint
from dalm.training.objectives.contrastive import contrast, embed_pairs
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.retriever_objective import token_counts

JOINT = ("rag_token", "rag_sequence", "emdr2", "pdist", "lsr")
ALL = range(5)
LIGHT = 0.01
SEVERAL = 5
"""Candidates: of three a target takes one alone, at a temperature that magnifies each rounding."""
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def separate(models, **options):
    return DalmObjective(*models, scale=20.0, **options)


def embedded(retriever, batch):
    return retriever.embed(batch["query"], "query"), retriever.embed(batch["passage"], "passage")


def token_log_probs(generator, prompt: Prompt):
    """Return every token's log-probability but the first's, from full logits of one prompt."""
    x = torch.tensor([prompt.tokens])
    logits = generator.model(input_ids=x, attention_mask=torch.ones_like(x)).logits
    return logits[0, :-1].log_softmax(-1).gather(1, x[0, 1:, None])[:, 0]


def same(found, expected):
    assert found.keys() == expected.keys()
    for name, gradient in found.items():
        torch.testing.assert_close(gradient, expected[name], rtol=0, atol=1e-12, msg=name)


# `dalm`


def dalm_reference(models, batch, scale):
    """½(CE(S) + CE(Sᵀ)) − (1/N) Σ_i Σ_t m_{i,t+1} [log_softmax(Z_it)[x_{i,t+1}] + 1(t≥n_i−1)·d_i].

    Written from the formula, with loops and full logits.
    """
    q, p = embedded(models[0], batch)
    scores = scale * q @ p.T
    gold = torch.arange(len(q))
    d = scores.log_softmax(1).diagonal()
    pieces, frame = batch["pieces"], models[1].frame
    total, count = torch.zeros((), dtype=torch.float64), 0
    for i in range(len(q)):
        prompt = [
            *frame.opening,
            *frame.passage,
            *pieces.passages[i],
            *frame.query,
            *pieces.queries[i],
            *frame.answer,
        ]
        whole = Prompt([*prompt, *pieces.answers[i], frame.end], len(prompt))
        z = token_log_probs(models[1], whole)
        for t in range(len(z)):
            total = total + z[t]
            if t >= len(prompt) - 1:
                total = total + d[i]
        count += len(z)
    return (F.cross_entropy(scores, gold) + F.cross_entropy(scores.T, gold)) / 2 - total / count


def test_dalm_equals_its_formula_in_value_and_gradient(models, rows, gradients):
    objective = separate(models)
    batch = rows.collate(ALL)
    ours = objective(batch).total
    reference = dalm_reference(models, batch, 20.0)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-12)
    same(gradients(objective, ours), gradients(objective, reference))


# The marginal and the distilled objectives, with every activation kept


def in_batch_candidates(objective, batch):
    """Return each query's candidates' tokens and the prior: the gold one, then the best others."""
    q, p = embedded(objective.retriever, batch)
    similarity = q @ p.T
    found = []
    for i in range(len(q)):
        others = [j for j in similarity[i].argsort(descending=True).tolist() if j != i]
        found.append([i, *others][: objective.source.num_candidates])
    passages = [[batch["pieces"].passages[j] for j in row] for row in found]
    return passages, similarity.gather(1, torch.tensor(found)), (q, p, torch.ones(len(q)).bool())


def searched_candidates(objective, batch):
    """The same over the knowledge base, all of which is embedded, one passage after another."""
    source, base = objective.source, objective.source.base
    q = objective.retriever.embed(batch["query"], "query")
    vectors = [objective.retriever.embed(base.features([n]), "passage") for n in range(len(base))]
    p = torch.cat(vectors)
    similarity = q @ p.T
    statements = int((batch["excluded"] >= 0).any())
    pool = source.index.search(q, source.num_candidates * source.over_retrieve + statements)[1]
    found = []
    for i in range(len(q)):
        gold = int(batch["gold"][i]) if batch["force_gold"][i] else -1
        live = sorted(pool[i].tolist(), key=lambda n: -similarity[i, n].item())
        others = [n for n in live if n not in (gold, int(batch["excluded"][i]))]
        found.append(([gold] * (gold >= 0) + others)[: source.num_candidates])
    passages = [[base.pieces[n].tolist() for n in row] for row in found]
    gold = batch["gold"].clamp(min=0)
    return passages, similarity.gather(1, torch.tensor(found)), (q, p[gold], batch["gold"] >= 0)


def naive(objective, batch):
    """The loss from its formula, in loops over prompts, every candidate's activations kept."""
    searched = "gold" in batch
    gather = searched_candidates if searched else in_batch_candidates
    passages, similarity, (q, p, known) = gather(objective, batch)
    generator, pieces = objective.generator, batch["pieces"]
    prior = (similarity / objective.source.temperature).log_softmax(1)
    weights = batch.get("weights", torch.ones(len(q))).double().tolist()
    tokens = sum(w * n for w, n in zip(weights, pieces.answer_lengths(), strict=True))

    def read(i, some):
        prompt = generator.frame.join(some, pieces.queries[i], pieces.answers[i], 256)
        return token_log_probs(generator, prompt)[prompt.answer_start - 1 :]

    tables = [torch.stack([read(i, [each]) for each in row]) for i, row in enumerate(passages)]
    total = torch.zeros((), dtype=torch.float64)
    if objective.name in ("pdist", "lsr"):
        target = torch.stack([table.mean(1) for table in tables]).detach()
        target = target.exp() if objective.name == "lsr" else target
        temperature = objective.target_temperature
        if temperature == "auto":
            temperature = losses.temperature_for(target, max(1, target.shape[1] / 3))
        for i, row in enumerate((target / temperature).log_softmax(1)):
            kl = sum(t.exp() * (t - prior[i, k]) for k, t in enumerate(row))
            total = total + weights[i] * kl / sum(weights)
    else:
        for i, table in enumerate(tables):
            judged = table.detach() if objective.name == "emdr2" else table
            if objective.name == "rag_sequence":
                loss = -(prior[i] + judged.sum(1)).logsumexp(0)
            else:
                loss = -(prior[i][:, None] + judged).logsumexp(0).sum()
            total = total + weights[i] * loss / tokens
    if objective.name not in ("rag_token", "rag_sequence"):
        for i, row in enumerate(passages):
            best = row[: objective.reader_passages]
            mixed = [best[place] for place in torch.randperm(len(best))]
            total = total - weights[i] * read(i, mixed).sum() / tokens
    scores = objective.scale * q[known] @ p[known].T
    own = torch.arange(len(scores))
    nce = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    return total + objective.contrastive_weight * nce


def both_ways(objective, batch, gradients):
    """Check the objective against the naive way, in value and in every gradient."""
    torch.manual_seed(0)
    ours = objective(batch).total
    found = gradients(objective, ours)
    torch.manual_seed(0)
    reference = naive(objective, batch)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-12)
    expected = gradients(objective, reference)
    assert max(g.abs().max() for n, g in expected.items() if n.startswith("retriever")) > 1e-3
    assert max(g.abs().max() for n, g in expected.items() if n.startswith("generator")) > 1e-3
    same(found, expected)


@pytest.mark.parametrize("joint", JOINT)
def test_low_memory_equals_the_naive_way_in_the_batch(in_batch, rows, gradients, joint):
    both_ways(in_batch(joint, SEVERAL, reader_passages=2), rows.collate(ALL), gradients)


@pytest.mark.parametrize("joint", JOINT)
def test_low_memory_equals_the_naive_way_over_an_index(searched, gradients, joint):
    """Gold passages of some questions, a statement that weighs half, a pool that is re-ranked."""
    objective, rows = searched(
        joint,
        without=(1, 3),
        num_candidates=SEVERAL,
        over_retrieve=2,
        reconstruction_weight=0.5,
        reader_passages=2,
        contrastive_weight=0.7,
    )
    stale = objective.source.index.vectors
    stale += 0.02 * torch.randn(stale.shape, generator=torch.Generator().manual_seed(0))
    batch = rows.collate(ALL)
    assert len(batch["gold"]) == 7  # five questions, two statements
    both_ways(objective, batch, gradients)


CHUNKED = {"chunk": 2, "reader_passages": 2}


@pytest.mark.parametrize("joint", JOINT)
def test_chunks_equal_the_naive_way_in_the_batch(in_batch, rows, gradients, joint):
    both_ways(in_batch(joint, SEVERAL, **CHUNKED), rows.collate(ALL), gradients)


@pytest.mark.parametrize("joint", JOINT)
def test_chunks_equal_the_naive_way_over_an_index(searched, gradients, joint):
    objective, rows = searched(joint, without=(1, 3), reconstruction_weight=0.5, **CHUNKED)
    both_ways(objective, rows.collate(ALL), gradients)


def test_dalm_in_chunks_equals_its_formula(models, rows, gradients):
    objective, batch = separate(models, chunk=2), rows.collate(ALL)
    ours = objective(batch).total
    same(gradients(objective, ours), gradients(objective, dalm_reference(models, batch, 20.0)))


@pytest.mark.parametrize("joint", ["dalm", *JOINT])
def test_a_chunk_is_what_is_read_at_a_time(models, in_batch, rows, monkeypatch, joint):
    """Of texts, and of prompts, by the tokens of the longest ones."""
    objective = separate(models, chunk=2) if joint == "dalm" else in_batch(joint, **CHUNKED)
    texts, tokens, longest = [], [], []
    embed, read, join = (
        type(models[0]).embed,
        type(models[1]).hidden_states,
        type(models[1].frame).join,
    )

    def embedding(self, features, kind):
        texts.append(len(features["input_ids"]))
        return embed(self, features, kind)

    def reading(self, ids, *rest):
        tokens.append((torch.is_grad_enabled(), ids.numel()))
        return read(self, ids, *rest)

    def joining(*arguments):
        longest.append(join(*arguments).length)
        return join(*arguments)

    shares_prefixes(models[1])
    monkeypatch.setattr(type(models[0]), "embed", embedding)
    monkeypatch.setattr(type(models[1]), "hidden_states", reading)
    monkeypatch.setattr(type(models[1].frame), "join", joining)
    objective(rows.collate(ALL)).total.backward()
    assert max(texts) == 2
    assert max(longest) < max(count for _, count in tokens) <= 2 * max(longest)
    assert sum(with_gradient for with_gradient, _ in tokens) >= 2


def test_a_chunk_of_everything_computes_nothing_twice(models, in_batch, rows, monkeypatch):
    objective, read = in_batch("rag_token", chunk=15), []
    score = type(models[1]).hidden_states

    def reading(self, ids, *rest):
        read.append(torch.is_grad_enabled())
        return score(self, ids, *rest)

    shares_prefixes(models[1])
    monkeypatch.setattr(type(models[1]), "hidden_states", reading)
    objective(rows.collate(ALL)).total.backward()
    assert read == [True]


@pytest.mark.parametrize("source", ["in-batch", "index"])
@pytest.mark.parametrize(
    ("joint", "chunk"), [*((name, None) for name in JOINT), ("rag_token", 2), ("pdist", 2)]
)
def test_with_dropout_low_memory_equals_plain_autograd(
    models, in_batch, searched, rows, gradients, monkeypatch, drop, kept, joint, source, chunk
):
    """The same masks in scores and gradient: in value and in every weight's gradient."""
    drop(*models, 0.3)
    if source == "in-batch":
        objective, batch = in_batch(joint, SEVERAL, chunk=chunk), rows.collate(ALL)
    else:
        options = {"num_candidates": SEVERAL, "over_retrieve": 2, "chunk": chunk}
        objective, made = searched(joint, **options)
        batch = made.collate(ALL)
    results = []
    for way in (gradient_cache.recomputed, kept):
        monkeypatch.setattr(gradient_cache, "recomputed", way)
        torch.manual_seed(0)
        loss = objective(batch).total
        results.append((loss.item(), gradients(objective, loss)))
    (ours, found), (plain, expected) = results
    assert ours == pytest.approx(plain, abs=1e-12)
    same(found, expected)
    torch.manual_seed(1)
    assert objective(batch).total.item() != pytest.approx(ours, rel=1e-3), "nothing was dropped"


@pytest.mark.parametrize("kept_groups", [0, 1])
def test_adapters_with_dropout_and_checkpointed_activations(
    models, in_batch, rows, gradients, monkeypatch, kept, kept_groups
):
    models[1].add_lora(lora(rank=2, alpha=4, dropout=0.3, targets=None, task="CAUSAL_LM"))
    seeded = torch.Generator().manual_seed(0)
    with torch.no_grad():  # adapters that begin at zero change nothing yet
        for name, parameter in models[1].double().named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.3, generator=seeded)
    models[1].checkpoint_activations()
    monkeypatch.setattr(scoring, "KEPT", kept_groups)
    objective, batch = in_batch("rag_token", SEVERAL).train(), rows.collate(ALL)
    found = []
    for way in (gradient_cache.recomputed, kept):
        monkeypatch.setattr(gradient_cache, "recomputed", way)
        torch.manual_seed(0)
        found.append(gradients(objective, objective(batch).total))
    same(*found)


def test_what_prompts_begin_with_alike_is_read_once(models, in_batch, rows):
    """And counted once, in the log and for the refreshes of an index."""
    objective, batch = in_batch("rag_token"), rows.collate(ALL)
    texts, _ = token_counts(batch)
    shared = objective(batch)
    prompts = int(shared.parts["prompt_tokens"])
    assert texts < shared.tokens < texts + 0.9 * prompts
    assert shared.tokens <= shared.padded_tokens
    models[1].shares_prefixes = False
    apart = objective(batch)
    assert apart.tokens == texts + prompts
    assert apart.total.item() == pytest.approx(shared.total.item(), abs=1e-12)


@pytest.mark.parametrize("joint", ["pdist", "lsr"])
def test_a_fixed_target_temperature(in_batch, rows, gradients, joint):
    both_ways(in_batch(joint, target_temperature=0.3), rows.collate(ALL), gradients)


def test_rows_accumulate_whatever_joint_loss(in_batch, rows):
    """The trainer's count of tokens is what the answers' terms are divided by."""
    objective = in_batch("emdr2", contrastive_weight=0.0)
    batch = rows.collate(ALL)
    tokens = objective.weighted_tokens(batch)
    assert tokens == sum(batch["pieces"].answer_lengths())
    assert objective(batch | {"weighted_tokens": 2 * tokens}).total.item() == pytest.approx(
        objective(batch).total.item() / 2
    )


# Light passages


def test_leaving_out_light_passages_changes_little(in_batch, rows, gradients):
    objective = in_batch("rag_sequence", temperature=0.002)
    batch = rows.collate(ALL)
    full = gradients(objective, objective(batch).total)
    objective.skip_gradient_below = LIGHT
    light = gradients(objective, objective(batch).total)
    flat = [torch.cat([g.flatten() for g in found.values()]) for found in (light, full)]
    assert 0 < (flat[0] - flat[1]).norm() <= 1.5 * LIGHT * flat[1].norm()


def test_light_passages_are_not_run_backwards(in_batch, rows, monkeypatch):
    objective = in_batch("rag_sequence", temperature=0.002, skip_gradient_below=LIGHT)
    batch = rows.collate(ALL)
    seen = []
    score = scoring._score_together

    def counted(generator, prompts, size):
        seen.append((torch.is_grad_enabled(), len(prompts)))
        return score(generator, prompts, size)

    monkeypatch.setattr(scoring, "_score_together", counted)
    monkeypatch.setattr(scoring, "KEPT", 0)
    objective(batch).total.backward()
    assert sum(n for graded, n in seen if not graded) == 15
    assert 5 <= sum(n for graded, n in seen if graded) < 15


# The gradient arrives


def trained(model):
    return [p for p in model.parameters() if p.requires_grad]


def direction(model, seed):
    """Return a direction of length 1 in a model's trained weights."""
    made = torch.Generator().manual_seed(seed)
    flat = torch.randn(sum(p.numel() for p in trained(model)), generator=made).double()
    return flat / flat.norm()


def move(model, step):
    parts = step.split([p.numel() for p in trained(model)])
    with torch.no_grad():
        for parameter, part in zip(trained(model), parts, strict=True):
            parameter.add_(part.view(parameter.shape))


def gradient(objective, batch, model):
    """Return the loss's gradient to a model's weights as one vector."""
    objective.zero_grad()
    objective(batch).total.backward()
    return torch.cat([(p.grad if p.grad is not None else 0 * p).flatten() for p in trained(model)])


def mixed(objective, batch, moved, measured, there=None, *, size=5e-3):
    """Return ∂²loss / ∂measured ∂moved, `moved` along a direction, by a central difference.

    The direction is a random one unless it is given. A Llama rounds to fp32 within: a much smaller
    step would measure that.
    """
    there = direction(moved, 1) if there is None else there
    found = []
    for step in (size, -2 * size):  # there, and back beyond the start
        move(moved, step * there)
        found.append(gradient(objective, batch, measured))
    move(moved, size * there)
    return (found[0] - found[1]) / (2 * size)


@pytest.mark.parametrize("joint", JOINT)
@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_what_the_retriever_learns_depends_on_the_generator(
    in_batch, searched, rows, joint, source
):
    """Without gold passages and contrast, it comes from the generator alone."""
    options = {"target_temperature": 1e-3 if joint == "lsr" else 0.3, "contrastive_weight": 0.0}
    if source == "in-batch":
        objective, batch = in_batch(joint, **options), rows.collate(ALL)
    else:
        objective, made = searched(joint, without=tuple(ALL), **options)
        batch = made.collate(ALL)
    found = mixed(objective, batch, objective.generator, objective.retriever)
    assert found.norm() > 1e-3
    halved = mixed(objective, batch, objective.generator, objective.retriever, size=2.5e-3)
    assert (halved - found).norm() < 0.05 * found.norm(), "a difference, and no derivative"


@pytest.mark.parametrize("joint", ["rag_token", "rag_sequence"])
def test_one_loss_teaches_both(in_batch, rows, joint):
    """A marginal likelihood is one function of both models: its mixed derivatives are the same."""
    objective, batch = in_batch(joint, num_candidates=5), rows.collate(ALL)
    retriever, generator = objective.retriever, objective.generator
    one = mixed(objective, batch, generator, retriever, direction(generator, 1))
    assert one.norm() > 1e-3
    other = mixed(objective, batch, retriever, generator, one / one.norm(), size=1e-4)
    assert (other @ direction(generator, 1)).item() == pytest.approx(one.norm().item(), rel=0.02)


@pytest.mark.parametrize("moved", ["generator", "retriever"])
def test_dalm_trains_the_two_apart(models, rows, moved):
    objective, batch = separate(models), rows.collate(ALL)
    one, other = models if moved == "retriever" else models[::-1]
    assert mixed(objective, batch, one, other).norm() < 1e-11


def test_one_candidate_passes_nothing_to_the_retriever(in_batch, rows):
    objective = in_batch("rag_token", num_candidates=1, contrastive_weight=0.0)
    objective(rows.collate(ALL)).total.backward()
    assert all(p.grad is None or not p.grad.any() for p in objective.retriever.parameters())


@pytest.mark.parametrize("joint", ["rag_token", "rag_sequence"])
def test_one_candidate_is_supervised_tuning(in_batch, rows, joint, gradients):
    objective = in_batch(joint, num_candidates=1, contrastive_weight=0.0)
    batch = rows.collate(ALL)
    pieces, frame = batch["pieces"], objective.generator.frame
    read = [
        token_log_probs(objective.generator, p)[p.answer_start - 1 :]
        for p in (
            frame.join([passage], query, answer, 256)
            for passage, query, answer in zip(
                pieces.passages, pieces.queries, pieces.answers, strict=True
            )
        )
    ]
    tuning = -torch.cat(read).mean()
    ours = objective(batch).total
    assert ours.item() == pytest.approx(tuning.item(), abs=1e-12)
    expected = gradients(objective, tuning)
    found = gradients(objective, ours)
    same({n: g for n, g in found.items() if n in expected}, expected)


# Contracts: who gets a gradient, and who doesn't


def reached(objective, batch, monkeypatch):
    """Return to which of query vectors, passage vectors and generator a gradient came."""
    found = set()
    embed = objective.retriever.embed

    def watched(features, kind):
        vectors = embed(features, kind)
        if vectors.requires_grad:
            vectors.register_hook(lambda g: found.add(kind) if g.abs().max() > 1e-9 else None)
        return vectors

    monkeypatch.setattr(objective.retriever, "embed", watched)
    objective.zero_grad()
    objective(batch).total.backward()
    grown = [p.grad for p in objective.generator.parameters() if p.grad is not None]
    return found | ({"generator"} if any(g.abs().max() > 1e-9 for g in grown) else set())


ENCODERS = {"both": {"query", "passage"}, "query": {"query"}, "none": set()}


TRAINED = [("both", True), ("both", False), ("query", True), ("query", False), ("none", True)]


@pytest.mark.parametrize("joint", [*JOINT, "dalm"])
@pytest.mark.parametrize(("encoders", "generator"), TRAINED)
def test_who_gets_a_gradient_in_the_batch(
    models, in_batch, rows, train_only, monkeypatch, joint, encoders, generator
):
    train_only(encoders, generator)
    options = {"contrastive_weight": 0.0}
    objective = separate(models, **options) if joint == "dalm" else in_batch(joint, **options)
    expected = ENCODERS[encoders] | ({"generator"} if generator else set())
    assert reached(objective, rows.collate(ALL), monkeypatch) == expected


@pytest.mark.parametrize("joint", JOINT)
@pytest.mark.parametrize(("encoders", "generator"), TRAINED)
def test_who_gets_a_gradient_over_an_index(
    searched, train_only, monkeypatch, joint, encoders, generator
):
    train_only(encoders, generator)
    objective, rows = searched(joint, without=tuple(ALL))
    expected = ENCODERS[encoders] | ({"generator"} if generator else set())
    assert reached(objective, rows.collate(ALL), monkeypatch) == expected
    weights = (p.grad for p in models_of(objective) if not p.requires_grad)
    assert all(gradient is None for gradient in weights)


def models_of(objective):
    return [*objective.retriever.parameters(), *objective.generator.parameters()]


@pytest.mark.parametrize("joint", JOINT)
@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_while_the_reader_warms_up_the_generator_alone_is_trained(
    in_batch, searched, rows, monkeypatch, joint, source
):
    if source == "in-batch":
        objective, batch = in_batch(joint, reader_warmup=0.5), rows.collate(ALL)
    else:
        objective, made = searched(joint, reader_warmup=0.5)
        batch = made.collate(ALL)
    objective.begin_update(0.49)
    assert objective.frozen_models() == {"retriever"}
    assert reached(objective, batch, monkeypatch) == {"generator"}
    # A zero for every weight all the same: processes that average gradients wait for each.
    assert all(p.grad is not None and not p.grad.any() for p in trained(objective.retriever))
    objective.begin_update(0.5)
    assert objective.frozen_models() == set()
    assert reached(objective, batch, monkeypatch) == {"query", "passage", "generator"}


@pytest.mark.parametrize("joint", ["emdr2", "pdist", "lsr"])
def test_a_judge_is_tuned_as_a_reader_alone(in_batch, rows, joint, gradients):
    """The generator's gradient is that of reading the best passage, whatever the prior says."""
    objective = in_batch(joint, num_candidates=3)
    batch = rows.collate(ALL)
    judge = gradients(objective, objective(batch).total)
    reader = in_batch("rag_token", num_candidates=1)  # forced: the gold passage comes first
    tuned = gradients(reader, reader(batch).total)
    names = [name for name in tuned if name.startswith("generator.")]
    assert names
    same({n: judge[n] for n in names}, {n: tuned[n] for n in names})


@pytest.mark.parametrize("joint", JOINT)
def test_the_probability_of_the_best_passage_rises_where_the_generator_likes_it(
    searched, gradients, joint
):
    """One small step of the retriever against the gradient lowers the joint loss.

    All ten passages are candidates: which passages are chosen is then no matter of the step.
    """
    objective, rows = searched(joint, without=tuple(ALL), num_candidates=10, target_temperature=0.3)
    batch = rows.collate(ALL)
    before = objective(batch)
    found = gradients(objective, before.total)
    with torch.no_grad():
        for name, parameter in objective.retriever.named_parameters():
            if f"retriever.{name}" in found:
                parameter.sub_(1e-4 * found[f"retriever.{name}"])
    assert objective(batch).parts[joint] < before.parts[joint]


# What is told


@pytest.mark.parametrize("joint", JOINT)
def test_the_loss_is_logged_in_parts(searched, joint):
    objective, rows = searched(joint, without=(1,), contrastive_weight=0.5)
    loss = objective(rows.collate(ALL))
    parts = loss.parts
    terms = [joint] + (["reader"] if joint in ("emdr2", "pdist", "lsr") else [])
    assert loss.total.item() == pytest.approx(
        (0.5 * parts["info_nce"] + sum(parts[name] for name in terms)).item(), abs=1e-12
    )
    assert {"in_batch_accuracy", "best_nll", "prior_entropy", "prior_passages"} < set(parts)
    assert {"target_passages", "index_age"} < set(parts)
    assert 0 < parts["prior_entropy"] <= math.log(3)
    assert 1 <= parts["target_passages"] <= 3
    assert loss.padded_tokens >= loss.tokens > 0
    assert not any(value.requires_grad for value in parts.values())


def test_the_automatic_temperature_gives_a_third_of_the_candidates_the_target(in_batch, rows):
    loss = in_batch("pdist", num_candidates=5)(rows.collate(ALL))
    assert loss.parts["target_passages"].item() == pytest.approx(5 / 3, abs=0.01)


@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_the_probe_tells_what_a_passage_is_worth(in_batch, searched, rows, source):
    """`gap_none` and `gap_random` from prompts scored one by one."""
    objective, made = (in_batch("rag_token"), rows)
    if source == "index":
        objective, made = searched("rag_token")
    assert objective.observe() == {}
    objective.diagnostic_batch = made.diagnostic_batch(5)
    objective.train()
    line = objective.observe()
    assert all(module.training for module in objective.retriever.model.modules())
    pieces, frame = objective.diagnostic_batch["pieces"], objective.generator.frame
    gold = rows.collate(ALL)["pieces"].passages

    def mean(passages):
        found = []
        for passage, query, answer in zip(passages, pieces.queries, pieces.answers, strict=True):
            prompt = frame.join([passage] if passage else [], query, answer, 256)
            found.append(token_log_probs(objective.generator, prompt)[prompt.answer_start - 1 :])
        return torch.cat(found).mean().item()

    assert line["gap_none"] == pytest.approx(mean(gold) - mean([None] * 5), abs=1e-9)
    assert line["gap_random"] == pytest.approx(mean(gold) - mean(gold[1:] + gold[:1]), abs=1e-9)
    if source == "index":
        assert {"distinct_passages", "stale_overlap", "refreshes", "refresh_seconds"} < set(line)


def test_dalm_is_watched_like_the_others(models, rows):
    """Its prior is over the batch; there is no target."""
    objective, batch = separate(models), rows.collate(ALL)
    parts = objective(batch).parts
    q, p = embedded(models[0], batch)
    prior = (20 * q @ p.T).softmax(1)
    assert parts["prior_passages"].item() == pytest.approx(
        (1 / prior.square().sum(1)).mean().item()
    )
    entropy = -(prior * prior.log()).sum(1).mean()
    assert parts["prior_entropy"].item() == pytest.approx(entropy.item())
    assert not any(value.requires_grad for value in parts.values())
    pieces = batch["pieces"]
    read = []
    for gold, query, answer in zip(pieces.passages, pieces.queries, pieces.answers, strict=True):
        prompt = models[1].frame.join([gold], query, answer, 256)
        read.append(token_log_probs(models[1], prompt)[prompt.answer_start - 1 :])
    assert parts["best_nll"].item() == pytest.approx(-torch.cat(read).mean().item(), abs=1e-9)

    assert objective.observe() == {}
    objective.diagnostic_batch = rows.diagnostic_batch(5)
    beside = separate(models)
    beside.diagnostic_batch = rows.diagnostic_batch(5)
    line = objective.observe()
    assert line == beside.observe()
    assert {"gap_none", "gap_random", "distinct_passages"} == set(line)


@pytest.mark.parametrize("collapsed", [False, True])
def test_questions_that_all_find_the_same_passages_of_the_probe(
    in_batch, rows, monkeypatch, collapsed
):
    """Each of five finds one passage of five; the same text twice is one passage."""
    objective = in_batch("rag_token")
    objective.diagnostic_batch = rows.diagnostic_batch(5)
    embed = objective.retriever.embed

    def turned(features, kind):
        vectors = torch.eye(5, objective.retriever.dim).double()
        return vectors[[2, 2, 2, 2, 2]] if collapsed and kind == "query" else vectors

    monkeypatch.setattr(objective.retriever, "embed", turned)
    line = objective.observe()
    assert line["distinct_passages"] == (1 if collapsed else 5)
    assert ("same_passages" in objective.warnings(line)) is collapsed
    objective.diagnostic_batch["keys"][3] = objective.diagnostic_batch["keys"][1]
    assert objective.observe()["distinct_passages"] == (1 if collapsed else 4)
    monkeypatch.setattr(objective.retriever, "embed", embed)


@pytest.mark.parametrize("source", ["in-batch", "index", "dalm"])
def test_the_diagnostic_batch_is_put_where_the_models_are(
    models, in_batch, searched, rows, monkeypatch, source
):
    """The trainer moves the batches of its loader, and no others."""
    objective = separate(models) if source == "dalm" else in_batch("rag_token")
    if source == "index":
        objective, rows = searched("rag_token")
    objective.diagnostic_batch = rows.diagnostic_batch(5)
    moved = {}

    def watched(batch, device):
        moved["device"] = device
        moved["batch"] = to_device(batch, device)
        return moved["batch"]

    monkeypatch.setattr(joint, "to_device", watched)
    seen = []
    embed = objective.retriever.embed

    def embedding(features, kind):
        if kind == "query":
            seen.append(features["input_ids"])
        return embed(features, kind)

    monkeypatch.setattr(objective.retriever, "embed", embedding)
    objective.observe()
    assert moved["device"] == objective.retriever.device
    assert [ids is moved["batch"]["query"]["input_ids"] for ids in seen] == [True]


def test_a_batch_is_moved_whole(rows):
    batch = rows.collate(ALL)
    there = to_device(batch, torch.device("meta"))
    assert there.keys() == batch.keys()
    for name in ("query", "passage"):
        assert {x.device.type for x in there[name].values() if torch.is_tensor(x)} == {"meta"}
    assert there["keys"].device.type == there["force_gold"].device.type == "meta"
    assert there["pieces"] is batch["pieces"]


def test_looking_changes_nothing(searched):
    """Figures for the log leave weights, gradients, the index and its work as they were."""
    objective, rows = searched("pdist", write_back=True, refresh_budget=0.1)
    objective.diagnostic_batch = rows.diagnostic_batch(5)
    index = objective.source.index
    index.vectors += 0.1
    before, work, state = index.vectors.clone(), index.work, torch.get_rng_state()
    objective.observe()
    assert torch.equal(index.vectors, before)
    assert (index.work, index.age) == (work, 0)
    assert torch.equal(torch.get_rng_state(), state)
    assert all(p.grad is None for p in objective.parameters())


def test_collapses_are_told(searched):
    objective, _ = searched("rag_token")
    assert objective.warnings({"prior_passages": 1.0}).keys() == {"one_hot_prior"}
    assert objective.warnings({"prior_passages": 2.0, "target_passages": 1.5}) == {}


def test_pairs_without_a_mark_are_all_known(models, rows):
    """The in-batch contrast of the joint objectives is that of contrastive training."""
    batch = rows.collate(ALL)
    q, p = embedded(models[0], batch)
    scores, own = 20 * q @ p.T, torch.arange(5)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    found = contrast(embed_pairs(models[0], batch), 20.0)
    assert found["info_nce"].item() == pytest.approx(expected.item(), abs=1e-12)
