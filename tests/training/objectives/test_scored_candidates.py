"""Objectives on a teacher's scores: beside sentence-transformers' and by hand; what they teach."""

from functools import partial

import pytest
import torch
from sentence_transformers.sentence_transformer import losses as theirs

from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.models.tiny import build_encoder
from dalm.records import NO_SCORE, Passage, ScoredCandidate, ScoredQuestion
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.objectives.listwise import Listwise
from dalm.training.objectives.margin_mse import MarginMSE, fitting_scale
from dalm.training.objectives.scored_candidates import agreement

SCALE = 20.0


def scored(query, passages, scores, positive=None, negatives=()):
    pairs = sorted(zip(passages, scores, strict=True), key=lambda pair: -pair[1])
    return ScoredQuestion(
        query, None, tuple(ScoredCandidate(*pair) for pair in pairs), positive, negatives
    )


@pytest.fixture
def questions(examples):
    """Five questions, each with four candidates, of which one is its positive."""
    passages = [example.passage for example in examples]
    made = torch.Generator().manual_seed(3)
    found = []
    for row, example in enumerate(examples):
        others = [p for p in passages if p is not example.passage][:3]
        scores = torch.randn(4, generator=made, dtype=torch.float64).sort(descending=True).values
        found.append(
            scored(
                example.query,
                [example.passage, *others],
                scores.tolist(),
                None if row == 3 else example.passage,
                tuple(others[1:]),
            )
        )
    return found


@pytest.fixture
def retriever(models):
    return models[0].eval()


def vectors(retriever, questions):
    """Return each question's vector and those of its candidates, one text at a time."""

    def embed(text, kind):
        return retriever.embed(retriever.batch(retriever.tokenise([text], kind), kind), kind)[0]

    queries = torch.stack([embed(question.query, "query") for question in questions])
    passages = [[embed(c.passage.text, "passage") for c in q.candidates] for q in questions]
    return queries, torch.stack([torch.stack(row) for row in passages])


def scores_of(questions):
    return torch.tensor([[c.score for c in q.candidates] for q in questions], dtype=torch.float64)


def compare(retriever, objective, batch, expected):
    """Compare loss and gradient with another implementation's."""
    expected.backward()
    gradient = {n: p.grad.clone() for n, p in retriever.named_parameters() if p.grad is not None}
    retriever.zero_grad()
    found = objective(batch)
    torch.testing.assert_close(found.total, expected.detach(), rtol=1e-9, atol=0)
    found.total.backward()
    assert max(each.abs().max() for each in gradient.values()) > 1e-3
    for name, each in gradient.items():
        ours = dict(retriever.named_parameters())[name].grad
        torch.testing.assert_close(ours, each, rtol=1e-7, atol=1e-10, msg=name)
    return found


@pytest.mark.parametrize("chunk", [None, 2])
def test_listwise_is_the_divergence_of_sentence_transformers(retriever, questions, chunk):
    rows = ScoredRows(questions, retriever, num_candidates=9, target_temperature=0.7)
    queries, passages = vectors(retriever, questions)
    loss = theirs.DistillKLDivLoss(
        retriever.model, student_temperature=0.1, teacher_temperature=0.7
    ).compute_loss_from_embeddings([queries, *passages.unbind(1)], scores_of(questions))
    objective = Listwise(retriever, chunk=chunk)
    assert objective.temperature == 0.1, "of cosines"
    found = compare(retriever, objective, rows.collate(range(5)), loss / 0.1**2)
    assert found.parts["listwise"] == found.total
    target = (scores_of(questions) / 0.7).softmax(1)
    assert found.parts["target_passages"].item() == pytest.approx(
        (1 / target.square().sum(1)).mean().item()
    )


def test_margin_mse_is_that_of_sentence_transformers(retriever, questions):
    rows = ScoredRows(questions, retriever, num_candidates=9, scored_only=True)
    queries, passages = vectors(retriever, questions)
    loss = theirs.MarginMSELoss(retriever.model).compute_loss_from_embeddings(
        [3.0 * queries, *passages.unbind(1)], scores_of(questions)
    )
    compare(retriever, MarginMSE(retriever, margin_scale=3.0), rows.collate(range(5)), loss)


def test_both_leave_out_what_has_no_score(retriever, questions):
    ruled_out = [
        ScoredQuestion(q.query, None, (*q.candidates[:3], ScoredCandidate(c.passage, None)))
        for q, c in ((q, q.candidates[3]) for q in questions)
    ]
    queries, passages = vectors(retriever, questions)
    similarity = torch.einsum("bd,bkd->bk", queries, passages)
    rows = ScoredRows(ruled_out, retriever, num_candidates=9, target_temperature=1.0)
    log_p = (similarity / 0.1).log_softmax(1)[:, :3]
    target = scores_of(questions)[:, :3].softmax(1)
    expected = (target * (target.log() - log_p)).sum(1).mean()
    compare(retriever, Listwise(retriever), rows.collate(range(5)), expected)

    retriever.zero_grad()
    queries, passages = vectors(retriever, questions)
    rows = ScoredRows(ruled_out, retriever, num_candidates=9, scored_only=True)
    found = MarginMSE(retriever, margin_scale=2.0)(rows.collate(range(5))).total
    loss = theirs.MarginMSELoss(retriever.model).compute_loss_from_embeddings(
        [2.0 * queries, *passages[:, :3].unbind(1)], scores_of(questions)[:, :3]
    )
    torch.testing.assert_close(found, loss, rtol=1e-9, atol=0)


def test_the_contrast_is_over_all_passages_of_the_batch(retriever, questions):
    """InfoNCE by loops over what the teacher's words make positives and negatives."""
    rows = ScoredRows(
        questions, retriever, num_candidates=9, target_temperature=1.0, contrasts=True
    )
    batch = rows.collate(range(5))
    queries, passages = vectors(retriever, questions)
    by_id = {
        c.passage.id: passages[row, n]
        for row, question in enumerate(questions)
        for n, c in enumerate(question.candidates)
    }
    asked = [row for row, question in enumerate(questions) if question.positive]

    def is_negative(row, identity):
        question = questions[row]
        candidates = {c.passage.id for c in question.candidates}
        return identity not in candidates or identity in {p.id for p in question.negatives}

    both = []
    for row in asked:
        own = questions[row].positive.id
        columns = [own, *(each for each in by_id if each != own and is_negative(row, each))]
        scores = SCALE * torch.stack([by_id[each] for each in columns]) @ queries[row]
        others = [q for q in asked if q != row and is_negative(q, own)]
        back = SCALE * queries[[row, *others]] @ by_id[own]
        both.append(-(scores.log_softmax(0)[0] + back.log_softmax(0)[0]) / 2)
    info_nce = torch.stack(both).mean()
    plain = Listwise(retriever, scale=SCALE)(batch).total.detach()
    expected = Listwise(retriever, scale=SCALE)(batch).total + 0.5 * info_nce
    objective = Listwise(retriever, scale=SCALE, contrastive_weight=0.5)
    found = compare(retriever, objective, batch, expected)
    assert found.total > plain + 0.1
    assert found.parts["info_nce"].item() == pytest.approx(info_nce.item(), rel=1e-9)


def test_a_batch_without_a_positive_has_no_contrast(retriever, questions):
    options = {"num_candidates": 9, "target_temperature": 1.0}
    batch = ScoredRows(questions, retriever, contrasts=True, **options).collate([3])
    found = Listwise(retriever, scale=SCALE, contrastive_weight=1.0)(batch)
    assert found.parts["info_nce"] == 0
    assert found.total == found.parts["listwise"]


def test_agreement_counts_ties_of_the_teacher():
    similarity = torch.tensor([[0.1, 0.9], [0.9, 0.1], [0.1, 0.9]])
    scores = torch.tensor([[1.0, 1.0], [0.0, 2.0], [1.0, 2.0]])
    assert agreement(similarity, scores).item() == pytest.approx(2 / 3)


def test_the_default_scale_of_margins(retriever, questions):
    rows = ScoredRows(questions, retriever, num_candidates=2, scored_only=True)
    scores = scores_of(questions)
    margins = scores[:, :1] - scores[:, 1:]
    expected = margins.square().mean().sqrt().item() / 0.2
    assert fitting_scale(rows) == pytest.approx(expected)
    retriever.gives_unit_vectors = False
    assert fitting_scale(rows) == 1.0


# What they teach

COLOURS = ("red", "blue", "green", "black", "white", "brown")
TOOLS = ("saw", "axe", "drill", "plane", "file", "vice")


@pytest.fixture(scope="module")
def fresh(tmp_path_factory):
    texts = [f"A {colour} {tool}." for colour in COLOURS for tool in TOOLS]
    folder = tmp_path_factory.mktemp("fresh") / "encoder"
    sizes = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 120}
    return build_encoder([*texts, "Which is it?"], folder, **sizes)


def by_rule(colour, tool):
    """The teacher's rule, which the words don't tell: the nearer in the lists, the better."""
    return -abs(COLOURS.index(colour) - TOOLS.index(tool)) / 2


@pytest.mark.parametrize(
    ("kind", "options"),
    [(Listwise, {"target_temperature": 0.5}), (MarginMSE, {"scored_only": True})],
)
def test_a_retriever_learns_to_rank_by_the_teachers_rule(fresh, kind, options):
    retriever = load_retriever(str(fresh), place("cpu", "fp32"))
    passages = {tool: Passage.of(f"A {tool}.") for tool in TOOLS}
    questions = [
        scored(f"Which {colour}?", passages.values(), [by_rule(colour, tool) for tool in TOOLS])
        for colour in COLOURS
    ]
    rows = ScoredRows(questions, retriever, num_candidates=4, **options)
    objective = kind(retriever)

    def ranks_of_the_best():
        queries = retriever.encode_queries([q.query for q in questions])
        texts = [passages[tool].text for tool in TOOLS]
        order = (queries @ retriever.encode_passages(texts).T).argsort(dim=1, descending=True)
        return [order[n].tolist().index(n) for n in range(len(COLOURS))]

    before = ranks_of_the_best()
    optimizer = torch.optim.AdamW(retriever.parameters(), lr=1e-2)
    for epoch in range(40):
        rows.set_epoch(epoch)
        loss = objective(rows.collate(range(len(rows)))).total
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    assert sum(before) > 6, "not yet"
    assert ranks_of_the_best() == [0] * len(COLOURS)


@pytest.mark.parametrize("make", [Listwise, partial(MarginMSE, margin_scale=2.0)])
def test_cut_vectors_in_chunks_are_the_mean_of_a_whole_and_a_truncated_model(
    retriever, questions, gradients, make
):
    options = {"num_candidates": 9, "target_temperature": 0.7, "contrasts": True}
    batch = ScoredRows(questions, retriever, scored_only=True, **options).collate(range(5))
    shared = {"scale": SCALE, "contrastive_weight": 0.5}
    objective = make(retriever, chunk=2, dims=[6], **shared)
    found = gradients(objective, objective(batch).total)
    plain = make(retriever, **shared)
    parts = [gradients(plain, plain(batch).total)]
    retriever.model.truncate_dim = 6
    parts.append(gradients(plain, plain(batch).total))
    assert found.keys() == parts[0].keys()
    for name, gradient in found.items():
        expected = (parts[0][name] + parts[1][name]) / 2
        torch.testing.assert_close(gradient, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("made", [Listwise, MarginMSE])
def test_only_differences_between_scores_count(retriever, made):
    """In fp32 scores about 1e9 would all be equal."""
    similarity = torch.tensor([[0.5, 0.25, 0.125], [0.25, 0.5, float("-inf")]])
    scores = torch.tensor([[3.0, 2.0, 0.5], [1.0, 0.25, NO_SCORE]], dtype=torch.float64)
    temperatures = torch.ones(2, dtype=torch.float64)
    objective = made(retriever)
    near, far = (
        objective.per_query(similarity, {"scores": each, "temperatures": temperatures})[0]
        for each in (scores, scores + 1e9)
    )
    assert near.dtype == torch.float32
    assert torch.equal(near, far)
    assert near.isfinite().all()
