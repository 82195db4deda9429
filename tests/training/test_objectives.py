"""Objectives against references written from their formulas, in float64."""

from pathlib import Path

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from dalm.models.generator import Generator, load_generator
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.models.tiny import build_encoder, build_generator
from dalm.records import Example, Passage
from dalm.training import scoring
from dalm.training.batches import Batch, Rows
from dalm.training.objectives import Contrastive, Loss, RagEndToEnd

TEXTS = [
    "The velt of a skerrow stands at nine bars when the gate is shut.",
    "A brindle is oiled with tam.",
    "Every morrow the lanth is turned twice, and once more after rain.",
    "Skerrows from Dulmaven carry a red seal.",
    "No lanth may stand near water.",
]
QUERIES = [
    "What pressure has the pump?",
    "Which oil?",
    "When is it turned?",
    "What colour?",
    "Where?",
]
ANSWERS = ["nine bars", "tam", "every morrow twice", "red", "not near water at all"]


@pytest.fixture(scope="module")
def models(tmp_path_factory: pytest.TempPathFactory) -> tuple[Retriever, Generator]:
    folder: Path = tmp_path_factory.mktemp("models")
    texts = TEXTS + QUERIES + ANSWERS
    sizes = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 300}
    build_encoder(texts, folder / "encoder", **sizes)
    build_generator(texts, folder / "generator", **sizes)
    here = place("cpu", "fp32")
    lengths = {"query": 16, "passage": 24}
    retriever = load_retriever(str(folder / "encoder"), here, lengths=lengths).double()
    generator = load_generator(str(folder / "generator"), here, max_length=256).double()
    return retriever, generator


@pytest.fixture
def rows(models: tuple[Retriever, Generator]) -> Rows:
    passages = [Passage.of(text) for text in TEXTS]
    examples = [Example(*pair) for pair in zip(QUERIES, ANSWERS, passages, strict=True)]
    return Rows(examples, *models)


def _objective(models: tuple[Retriever, Generator], marginal: str, **options: float) -> RagEndToEnd:
    given = {"scale": 20.0, "num_candidates": 3, "temperature": 0.1, **options}
    return RagEndToEnd(*models, marginal=marginal, **given)


def _gradients(objective: torch.nn.Module, total: Tensor) -> dict[str, Tensor]:
    objective.zero_grad()
    total.backward()
    return {n: p.grad.clone() for n, p in objective.named_parameters() if p.grad is not None}


def _logits(generator: Generator, ids: Tensor, mask: Tensor) -> Tensor:
    return generator.model(input_ids=ids, attention_mask=mask).logits


def _dalm_reference(models: tuple[Retriever, Generator], batch: Batch, scale: float) -> Tensor:
    """½(CE(S) + CE(Sᵀ)) − (1/N) Σ_i Σ_t m_{i,t+1} [log_softmax(Z_it)[x_{i,t+1}] + 1(t≥n_i−1)·d_i].

    Written from the formula, with loops and full logits.
    """
    retriever, generator = models
    q, p = retriever.embed(batch["query"]), retriever.embed(batch["passage"])
    scores = scale * q @ p.T
    gold = torch.arange(len(q))
    d = scores.log_softmax(1).diagonal()
    pieces, frame = batch["pieces"], generator.frame
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
        x = torch.tensor([[*prompt, *pieces.answers[i], frame.end]])
        z = _logits(generator, x, torch.ones_like(x))[0].log_softmax(-1)
        for t in range(x.shape[1] - 1):
            total = total + z[t, x[0, t + 1]]
            if t >= len(prompt) - 1:
                total = total + d[i]
        count += x.shape[1] - 1
    return (F.cross_entropy(scores, gold) + F.cross_entropy(scores.T, gold)) / 2 - total / count


def test_dalm_equals_its_formula_in_value_and_gradient(
    models: tuple[Retriever, Generator], rows: Rows
) -> None:
    objective = _objective(models, "dalm")
    batch = rows.collate([0, 1, 2, 3, 4])
    ours = objective(batch).total
    gradients = _gradients(objective, ours)
    reference = _dalm_reference(models, batch, 20.0)
    expected = _gradients(objective, reference)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-12)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-12), name


def _naive_marginal(objective: RagEndToEnd, batch: Batch) -> Tensor:
    """The marginal loss with every candidate's activations kept, one prompt at a time."""
    q = objective.retriever.embed(batch["query"])
    p = objective.retriever.embed(batch["passage"])
    similarity = q @ p.T
    pieces, frame = batch["pieces"], objective.generator.frame
    total, tokens = torch.zeros((), dtype=torch.float64), 0
    for i in range(len(q)):
        others = [j for j in similarity[i].argsort(descending=True).tolist() if j != i]
        found = [i, *others][: objective.num_candidates]
        prior = (similarity[i, found] / objective.temperature).log_softmax(0)
        answer = [*pieces.answers[i], frame.end]
        scores = []
        for j in found:
            prompt = frame.join([pieces.passages[j]], pieces.queries[i], pieces.answers[i], 256)
            x = torch.tensor([prompt.tokens])
            z = _logits(objective.generator, x, torch.ones_like(x))[0].log_softmax(-1)
            places = range(prompt.answer_start - 1, prompt.length - 1)
            scores.append(torch.stack([z[t, x[0, t + 1]] for t in places]))
        table = prior[:, None] + torch.stack(scores)  # (K, T)
        if objective.marginal == "rag_token":
            total = total - table.logsumexp(0).sum()
        else:
            total = total - (prior + torch.stack(scores).sum(1)).logsumexp(0)
        tokens += len(answer)
    nce = Contrastive(objective.retriever, objective.scale)(batch).total
    return nce * objective.contrastive_weight + total / tokens


@pytest.mark.parametrize("marginal", ["rag_token", "rag_sequence"])
def test_low_memory_marginal_equals_the_naive_one(
    models: tuple[Retriever, Generator],
    rows: Rows,
    marginal: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(scoring, "NEGLIGIBLE", 0.0)
    objective = _objective(models, marginal)
    batch = rows.collate([0, 1, 2, 3, 4])
    ours = objective(batch).total
    gradients = _gradients(objective, ours)
    reference = _naive_marginal(objective, batch)
    expected = _gradients(objective, reference)
    assert ours.item() == pytest.approx(reference.item(), abs=1e-12)
    assert gradients.keys() == expected.keys()
    for name, gradient in gradients.items():
        assert torch.allclose(gradient, expected[name], atol=1e-12), name


def test_leaving_out_light_passages_changes_little(
    models: tuple[Retriever, Generator], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = _objective(models, "rag_sequence", temperature=0.002)
    batch = rows.collate([0, 1, 2, 3, 4])
    light = _gradients(objective, objective(batch).total)
    monkeypatch.setattr(scoring, "NEGLIGIBLE", 0.0)
    full = _gradients(objective, objective(batch).total)
    flat = [torch.cat([g.flatten() for g in found.values()]) for found in (light, full)]
    assert (flat[0] - flat[1]).norm() <= 5e-3 * flat[1].norm()


def test_light_passages_are_not_run_backwards(
    models: tuple[Retriever, Generator], rows: Rows, monkeypatch: pytest.MonkeyPatch
) -> None:
    objective = _objective(models, "rag_sequence", temperature=0.002)  # all but one-hot
    batch = rows.collate([0, 1, 2, 3, 4])
    seen: list[tuple[bool, int]] = []
    score = scoring.score_answers

    def counted(generator: Generator, prompts: list) -> Tensor:
        seen.append((torch.is_grad_enabled(), len(prompts)))
        return score(generator, prompts)

    monkeypatch.setattr(scoring, "score_answers", counted)
    objective(batch).total.backward()
    assert sum(n for graded, n in seen if not graded) == 15
    assert 5 <= sum(n for graded, n in seen if graded) < 15


@pytest.mark.parametrize("marginal", ["rag_token", "rag_sequence", "dalm"])
def test_which_gradient_reaches_whom(
    models: tuple[Retriever, Generator], rows: Rows, marginal: str
) -> None:
    """Without the contrastive loss, what a retriever learns is what its passages are worth.

    For the marginal objectives that depends on the generator's weights; for `dalm` it doesn't.
    """
    objective = _objective(models, marginal, contrastive_weight=0.0)
    batch = rows.collate([0, 1, 2, 3, 4])
    before = _gradients(objective, objective(batch).total)
    assert any(n.startswith("retriever") and g.abs().sum() > 0 for n, g in before.items())
    assert any(n.startswith("generator") and g.abs().sum() > 0 for n, g in before.items())
    head = objective.generator.model.get_output_embeddings().weight
    kept = head.detach().clone()
    with torch.no_grad():
        head += 0.5 * torch.randn(head.shape, dtype=head.dtype, generator=_seeded())
    after = _gradients(objective, objective(batch).total)
    with torch.no_grad():
        head.copy_(kept)
    shift = sum(
        (before[n] - after[n]).abs().sum().item() for n in before if n.startswith("retriever")
    )
    assert shift == pytest.approx(0, abs=1e-12) if marginal == "dalm" else shift > 1e-3


def _seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def test_a_gold_text_that_stands_twice_is_no_negative(models: tuple[Retriever, Generator]) -> None:
    passages = [Passage.of(TEXTS[0]), Passage.of(TEXTS[0].upper()), Passage.of(TEXTS[1])]
    examples = [Example(*pair) for pair in zip(QUERIES, ANSWERS, passages, strict=False)]
    rows = Rows(examples, *models)
    assert len(rows.passages) == 2
    batch = rows.collate([0, 1, 2])
    loss = Contrastive(models[0], 20.0)(batch).total
    q, p = models[0].embed(batch["query"]), models[0].embed(batch["passage"])
    scores = 20 * q @ p.T
    scores[0, 1] = scores[1, 0] = float("-inf")
    own = torch.arange(3)
    expected = (F.cross_entropy(scores, own) + F.cross_entropy(scores.T, own)) / 2
    assert loss.item() == pytest.approx(expected.item(), abs=1e-12)
    joint = _objective(models, "rag_token")(batch)
    assert joint.total.isfinite()


def test_hard_negatives_compete_in_the_contrastive_and_the_marginal_loss(
    models: tuple[Retriever, Generator],
) -> None:
    negative = Passage.of(TEXTS[4])
    examples = [
        Example(QUERIES[0], ANSWERS[0], Passage.of(TEXTS[0]), (negative,)),
        Example(QUERIES[1], ANSWERS[1], Passage.of(TEXTS[1])),
    ]
    rows = Rows(examples, *models)
    batch = rows.collate([0, 1])
    assert batch["passage"]["input_ids"].shape[0] == 3
    q, p = models[0].embed(batch["query"]), models[0].embed(batch["passage"])
    own = torch.arange(2)
    by_query, by_passage = 20 * q @ p.T, 20 * p[:2] @ q.T
    expected = (F.cross_entropy(by_query, own) + F.cross_entropy(by_passage, own)) / 2
    assert Contrastive(models[0], 20.0)(batch).total.item() == pytest.approx(expected.item())
    loss = _objective(models, "rag_token", num_candidates=8)(batch)
    assert loss.parts["prior_passages"] <= 3


def test_the_loss_is_logged_in_parts(models: tuple[Retriever, Generator], rows: Rows) -> None:
    loss: Loss = _objective(models, "rag_token", contrastive_weight=0.5)(rows.collate([0, 1, 2]))
    parts = loss.parts
    assert loss.total.item() == pytest.approx(
        (0.5 * parts["info_nce"] + parts["rag_token"]).item(), abs=1e-12
    )
    assert loss.slots >= loss.tokens > 0
    assert not any(value.requires_grad for value in parts.values())
