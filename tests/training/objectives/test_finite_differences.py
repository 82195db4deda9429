"""Every objective's gradient against finite differences of its loss, in float64.

The weights that embed queries, those that embed passages and those of the generator are moved apart
from each other, along random directions. The loss and the gradient are those of the training step,
`objective(batch).total` and its backward pass. Dropout is on: each evaluation draws the same masks.

What an objective takes without gradient is held at its value while the weights move: the scores by
which `emdr2`, `pdist` and `lsr` judge the candidates, and with them the targets of the last two. So
for the generator it is the derivative of the reader loss that is checked, and for the retriever
that of the loss at a fixed target. Which passages are candidates is discrete, and doesn't change
over such short steps.
"""

import copy
from dataclasses import replace
from functools import partial
from typing import get_args

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.packed_attention import Way
from dalm.models.reranker import load_reranker
from dalm.models.retriever import load_retriever
from dalm.records import Passage, ScoredCandidate, ScoredQuestion
from dalm.retrieval.training_index import TrainingIndex
from dalm.training import gradient_cache
from dalm.training.data.batches import Rows
from dalm.training.data.corpus import documents
from dalm.training.data.labelled_candidates import LabelledCandidates
from dalm.training.data.packing import PackedRows
from dalm.training.data.reranker_rows import RerankerRows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.data.sft_rows import SftRows
from dalm.training.objectives import joint
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.causal_lm import CausalLM
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.dalm_loss import DalmObjective
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.objective import OBJECTIVES, objective_class
from dalm.training.objectives.reranker_objective import Reranking
from dalm.training.objectives.sft import SupervisedFineTuning

JOINT = ("rag_token", "rag_sequence", "emdr2", "pdist", "lsr")
ALL = range(5)
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")

STEP = 1e-5
"""Distance that the weights are moved to either side, along a direction of length 1."""
SIDES = ("queries", "passages", "generator")
CUT = ({"chunk": 2}, {"dims": [4, 8]}, {"chunk": 2, "dims": [4, 8]})
"""Options of a retriever's objective: texts at a time, sizes that vectors are cut to."""


@pytest.fixture(scope="module")
def gpt2_folder(pair_folder, tmp_path_factory):
    """A generator that computes in float64 throughout: a Llama's norms round to fp32."""
    folder = tmp_path_factory.mktemp("gpt2")
    tokenizer = AutoTokenizer.from_pretrained(pair_folder / "generator")
    sizes = {"n_embd": 16, "n_layer": 1, "n_head": 2, "n_positions": 256}
    torch.manual_seed(0)
    config = GPT2Config(
        vocab_size=len(tokenizer), eos_token_id=tokenizer.eos_token_id, bos_token_id=None, **sizes
    )
    GPT2LMHeadModel(config).save_pretrained(folder)
    tokenizer.save_pretrained(folder)
    return folder


@pytest.fixture
def pair(pair_folder, gpt2_folder, request, monkeypatch):
    """A retriever with weights of its own for each side, and a generator; both have dropout."""
    here = place("cpu", "fp32")
    lengths = {"query": 16, "passage": 24}
    retriever = load_retriever(str(pair_folder / "encoder"), here, lengths=lengths).double()
    folder = gpt2_folder
    if getattr(request, "param", "") == "llama":
        folder = pair_folder / "generator"
        monkeypatch.setattr(LlamaRMSNorm, "forward", normalised)
    generator = load_generator(str(folder), here, max_length=256).double()
    with torch.no_grad():  # new weights have no opinion of any passage; larger ones have
        for parameter in generator.parameters():
            parameter.mul_(6 if parameter.ndim > 1 else 1)
    retriever.passages = copy.deepcopy(retriever)
    sides = {"query": retriever.embed, "passage": retriever.passages.embed}
    retriever.embed = lambda features, kind: sides[kind](features, kind)
    for module in [*retriever.modules(), *generator.modules()]:
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.1
    return retriever, generator


def normalised(norm, hidden):
    """Return what a Llama's norm gives where it doesn't round to fp32 within."""
    scale = (hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return norm.weight * hidden * scale


def in_batch(pair, examples, name, **options):
    rows = Rows(examples, *pair, scored=options.pop("scored", None))
    source = BatchCandidates(pair[0], options.pop("num_candidates", 4), 0.1)
    return objective_class(name)(*pair, source, scale=20.0, **options), rows.collate(ALL)


def over_an_index(pair, examples, name, **options):
    """Return an objective over ten passages, some rows without a gold one, and statements."""
    given = [replace(e, passage=None) if row in (1, 3) else e for row, e in enumerate(examples)]
    more = [Passage.of(f"{e.passage.text} And {e.query.lower()}") for e in examples]
    more += [e.passage for e in examples]
    rows = RetrievedRows(
        given, *pair, more=more, reconstruction_weight=0.5, scored=options.pop("scored", None)
    )
    index = TrainingIndex(len(rows.base), rows.base.identity(), torch.device("cpu"))
    most = options.pop("num_candidates", 4)
    source = IndexCandidates(
        pair[0], rows.base, index, num_candidates=most, temperature=0.1, over_retrieve=2
    )
    objective = objective_class(name)(*pair, source, scale=20.0, **options)
    objective.begin_update(0.0)
    return objective, rows.collate(ALL)


def weights(objective, side):
    """Return the weights that embed queries, or passages, or those of the generator."""
    found = {each: [] for each in SIDES}
    for name, parameter in objective.named_parameters():
        if name.startswith("generator."):
            found["generator"].append(parameter)
        else:
            found["passages" if "passages." in name else "queries"].append(parameter)
    return found[side]


def loss_of(objective, batch):
    torch.manual_seed(7)
    return objective(batch).total


def slope(objective, batch, parameters, direction):
    """Return the derivative of the loss along a direction, by a central difference."""
    start = [parameter.detach().clone() for parameter in parameters]
    found = []
    for step in (STEP, -STEP, 0):
        with torch.no_grad():
            for parameter, begin, part in zip(parameters, start, direction, strict=True):
                parameter.copy_(begin + step * part)
        if step:
            found.append(loss_of(objective, batch).item())
    return (found[0] - found[1]) / (2 * STEP)


def check(objective, batch, sides=SIDES):
    """Check the gradient of each side along two random directions."""
    objective.train()
    loss_of(objective, batch).backward()
    for side in sides:
        parameters = [p for p in weights(objective, side) if p.requires_grad]
        gradient = [torch.zeros_like(p) if p.grad is None else p.grad for p in parameters]
        assert torch.stack([part.norm() for part in gradient]).norm() > 1e-2, side
        for seed in (1, 2):
            drawn = torch.Generator().manual_seed(seed)
            direction = [torch.randn(p.shape, generator=drawn).to(p) for p in parameters]
            length = torch.stack([part.norm() for part in direction]).norm()
            direction = [part / length for part in direction]
            along = zip(gradient, direction, strict=True)
            expected = sum(float((part * each).sum()) for part, each in along)
            found = slope(objective, batch, parameters, direction)
            assert found == pytest.approx(expected, rel=1e-6, abs=1e-9), (side, seed)


# The joint objectives


@pytest.fixture
def held(monkeypatch):
    """Hold the scores that objectives with a reader loss take without gradient."""
    score, kept = joint.score_no_grad, []

    def once(*arguments):
        if not kept:
            kept.append(score(*arguments))
        return kept[0]

    monkeypatch.setattr(joint, "score_no_grad", once)


def with_negatives(pair, examples, name, **options):
    """Give every question a passage that is known not to answer it."""
    texts = [
        f"Number {row}: a lanth needs {e.answer} of nothing." for row, e in enumerate(examples)
    ]
    pairs = zip(examples, texts, strict=True)
    given = [replace(example, negatives=(Passage.of(text),)) for example, text in pairs]
    return in_batch(pair, given, name, **options)


SOURCES = {"in-batch": in_batch, "hard negatives": with_negatives, "index": over_an_index}


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("source", SOURCES)
@pytest.mark.parametrize("name", JOINT)
def test_joint(pair, examples, name, source):
    check(*SOURCES[source](pair, examples, name, reader_passages=2))


@pytest.mark.parametrize("pair", ["llama"], indirect=True)
@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_with_a_llama(pair, examples, source):
    check(*SOURCES[source](pair, examples, "rag_token"))


@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_with_every_activation_kept(pair, examples, monkeypatch, kept, source):
    """Without gradient caching: the same loss has the same derivative."""
    monkeypatch.setattr(gradient_cache, "recomputed", kept)
    check(*SOURCES[source](pair, examples, "rag_token"))


@pytest.mark.parametrize("source", ["in-batch", "index"])
def test_one_candidate(pair, examples, source):
    """It is the gold one, or the best; the retriever learns from the contrast alone."""
    check(*SOURCES[source](pair, examples, "rag_token", num_candidates=1))


@pytest.mark.parametrize("pair", ["llama"], indirect=True)
def test_adapters_with_dropout(pair, examples):
    adapters = lora(rank=2, alpha=4, dropout=0.2, targets=None, task="CAUSAL_LM")
    pair[1].add_lora(adapters)
    pair[1].double()
    with torch.no_grad():  # adapters that begin at zero change nothing yet
        for name, parameter in pair[1].named_parameters():
            if "lora_B" in name:
                parameter.normal_(std=0.5, generator=torch.Generator().manual_seed(0))
    check(*in_batch(pair, examples, "rag_token"))


@pytest.mark.parametrize("negatives", [False, True])
def test_dalm(pair, examples, negatives):
    _, batch = (with_negatives if negatives else in_batch)(pair, examples, "rag_token")
    check(DalmObjective(*pair, scale=20.0), batch)


@pytest.mark.usefixtures("held")
@pytest.mark.parametrize("source", ["in-batch", "index"])
@pytest.mark.parametrize("name", ["pdist", "lsr"])
def test_with_a_tables_teacher_in_the_target(pair, examples, name, source):
    texts = [example.passage for example in examples]
    scored = [
        ScoredQuestion(
            e.query,
            e.answer,
            tuple(ScoredCandidate(p, len(p.text) / 10) for p in texts[row % 2 :: 2]),
            temperature=0.7,
        )
        for row, e in enumerate(examples)
    ]
    options = {"reader_passages": 2, "teacher_mix": 0.4, "scored": scored}
    objective, batch = SOURCES[source](pair, examples, name, **options)
    check(objective, batch)
    assert objective(batch).parts["teacher_rows"] > 0


# One model alone


@pytest.mark.parametrize("negatives", [False, True])
def test_contrastive(pair, examples, negatives):
    _, batch = (with_negatives if negatives else in_batch)(pair, examples, "rag_token")
    check(Contrastive(pair[0], 20.0), batch, ("queries", "passages"))


@pytest.mark.parametrize("options", CUT)
def test_contrastive_in_chunks_on_cut_vectors(pair, examples, options):
    _, batch = with_negatives(pair, examples, "rag_token")
    check(Contrastive(pair[0], 20.0, **options), batch, ("queries", "passages"))


@pytest.mark.parametrize("weight", [0.0, 0.5])
@pytest.mark.parametrize("name", ["listwise", "margin_mse"])
@pytest.mark.parametrize("cut", [{}, CUT[-1]], ids=["whole", "in chunks, cut"])
def test_on_a_teachers_scores(pair, examples, name, weight, cut):
    texts = [example.passage for example in examples]
    scores = torch.randn(5, 5, generator=torch.Generator().manual_seed(1)).tolist()
    scores[3][4] = scores[3][0] = None
    asked = [
        ScoredQuestion(
            e.query, None, tuple(map(ScoredCandidate, texts, scores[row])), e.passage, texts[:2]
        )
        for row, e in enumerate(examples)
    ]
    options = {"scored_only": True} if name == "margin_mse" else {"target_temperature": 0.5}
    rows = ScoredRows(asked, pair[0], num_candidates=4, contrasts=weight > 0, **options)
    objective = objective_class(name)(pair[0], scale=20.0, contrastive_weight=weight, **cut)
    check(objective, rows.collate(ALL), ("queries", "passages"))


def test_sft(pair, examples):
    rows = SftRows(examples, pair[1], reader_passages=2)
    check(SupervisedFineTuning.of(rows), rows.collate(ALL), ("generator",))


@pytest.mark.parametrize("way", get_args(Way))
def test_causal_lm(pair, examples, way):
    texts = [example.passage.text for example in examples]
    rows = PackedRows(documents(pair[1], texts, ends=True), 48)
    check(CausalLM(pair[1], way), rows.collate(range(len(rows))), ("generator",))


@pytest.mark.parametrize(
    ("kind", "labels"), [("binary", (1.0, 0.0, 0.0)), ("listwise", (2.0, 0.5, float("-inf")))]
)
def test_reranking(tiny_models, examples, monkeypatch, kind, labels):
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)  # the losses round to fp32
    monkeypatch.setattr(torch, "full", partial(torch.full, dtype=torch.float64))
    here = place("cpu", "fp32")
    reranker = load_reranker(str(tiny_models.reranker), here, to_train=True).double()
    texts = [example.passage.text for example in examples]
    questions = [
        LabelledCandidates(e.query, tuple((texts + texts)[row : row + 3]), labels)
        for row, e in enumerate(examples)
    ]
    rows = RerankerRows(questions, reranker, num_candidates=3)
    batch = rows.collate(ALL)
    batch["labels"] = [each.double() for each in batch["labels"]]
    check(Reranking(reranker, kind, right_weight=1.5), batch, ("queries",))


def test_every_objective_is_checked():
    alone = {"contrastive", "listwise", "margin_mse", "sft", "causal_lm", "reranking"}
    assert set(OBJECTIVES) == {*JOINT, "dalm", *alone}
