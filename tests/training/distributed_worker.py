"""One of several processes: its share of batches, through objectives and DDP, and of an index.

    torchrun --nproc-per-node 2 distributed_worker.py RETRIEVER GENERATOR INPUTS RESULT

INPUTS is a JSON file of rows and cases; rank 0 saves what comes out in RESULT, by case. Without
torchrun, `run` gives the same in one process.
"""

import json
import sys
from datetime import timedelta
from pathlib import Path
from unittest import mock

import numpy as np
import torch
import torch.distributed as dist
from torch.nn.parallel import DistributedDataParallel
from transformers.models.llama.modeling_llama import LlamaRMSNorm

from dalm.collectives import gather
from dalm.distributed import rank, world_size
from dalm.models.generator import load_generator
from dalm.models.loading import lora, place
from dalm.models.retriever import load_retriever
from dalm.records import Example, Passage, ScoredCandidate, ScoredQuestion
from dalm.retrieval.training_index import TrainingIndex
from dalm.training import gradient_cache
from dalm.training.data.batches import Rows
from dalm.training.data.retrieved_rows import RetrievedRows
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.gradient_cache import recomputed
from dalm.training.objectives.candidates import BatchCandidates
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.objectives.index_candidates import IndexCandidates
from dalm.training.objectives.objective import objective_class

CPU = place("cpu", "fp32")


def examples_of(given, without=(), negatives=()):
    """Return examples; `without` rows have no gold passage, `negatives` are pairs of two rows."""
    passages = [Passage.of(passage) for _, _, passage in given]
    hard = [tuple(passages[b] for a, b in negatives if a == row) for row in range(len(given))]
    return [
        Example(query, answer, None if row in without else passages[row], hard[row])
        for row, (query, answer, _) in enumerate(given)
    ]


def part(count):
    """Return this rank's rows, those of rank 0 first."""
    me, ranks = rank(), world_size()
    return range(count * me // ranks, count * (me + 1) // ranks)


def measured(objective, batch):
    """Return the mean loss and gradients over ranks."""
    objective.train()
    tokens = torch.tensor(objective.weighted_tokens(batch), dtype=torch.float64)
    ranks = world_size()
    parallel = objective
    if ranks > 1:
        dist.all_reduce(tokens)
        parallel = DistributedDataParallel(objective)
    batch["weighted_tokens"] = tokens.item() / ranks
    loss = parallel(batch).total
    loss.backward()
    gradients = {n: p.grad for n, p in objective.named_parameters() if p.grad is not None}
    return {"loss": gather(loss.detach()[None]).mean(), "gradients": gradients}


def contrastive(retriever, _generator, rows, negatives=(), unmasked=(), adapted=False, **options):
    """`unmasked`: false negatives by query or by passage that are taken for negatives.

    `adapted`: with LoRA, whose second half doesn't begin at zero, and checkpointed activations.
    """
    retriever = load_retriever(retriever, CPU)
    if adapted:
        options_of = {"targets": None, "task": "FEATURE_EXTRACTION"}
        retriever.add_lora(lora(rank=2, alpha=4, dropout=0.0, **options_of))
        retriever.checkpoint_activations()
        seeded = torch.Generator().manual_seed(0)
        with torch.no_grad():
            for name, parameter in retriever.named_parameters():
                if "lora" in name:
                    parameter.normal_(std=0.3, generator=seeded)
    batch = Rows(examples_of(rows, (), negatives), retriever).collate_share(range(len(rows)))
    for name in unmasked:
        batch["false_negatives"][name] = torch.zeros_like(batch["false_negatives"][name])
    return measured(Contrastive(retriever, 20.0, **options).double(), batch)


def scored_questions(rows, without=()):
    """Return questions whose candidates are their own passage and those of the next three rows.

    The scores are 1, 1/2, 1/3 ...; `without` rows have no positive.
    """
    passages = [Passage.of(passage) for _, _, passage in rows]
    for row, (query, answer, _) in enumerate(rows):
        near = [passages[(row + n) % len(rows)] for n in range(4)]
        candidates = tuple(ScoredCandidate(p, 1 / (n + 1)) for n, p in enumerate(near))
        positive = (near[0], tuple(near[2:])) if row not in without else (None, ())
        yield ScoredQuestion(query, answer, candidates, *positive)


def on_scores(retriever, _generator, rows, joint, without=(), unmasked=(), **options):
    """`unmasked`: false negatives by query or by passage that are taken for negatives."""
    retriever = load_retriever(retriever, CPU)
    questions = list(scored_questions(rows, without))
    made = ScoredRows(
        questions, retriever, num_candidates=3, target_temperature=0.5, contrasts=True, seed=1
    )
    batch = made.collate_share(range(len(rows)))
    for name in unmasked:
        batch["false_negatives"][name] = torch.zeros_like(batch["false_negatives"][name])
    objective = objective_class(joint)(retriever, scale=20.0, **options)
    return measured(objective.double(), batch)


def in_batch(
    retriever,
    generator,
    rows,
    joint,
    negatives=(),
    unmasked=False,
    gold_probability=1.0,
    scored=False,
    chunk=None,
    kept=None,
    **options,
):
    """`unmasked`: every passage of the batch may be a candidate; `scored`: by a teacher, too.

    `kept` (None: no dropout): whether the activations of all chunks are kept.
    """
    retriever = load_retriever(retriever, CPU)
    generator = load_generator(generator, CPU, max_length=128)
    given = examples_of(rows, (), negatives)
    asked = list(scored_questions(rows)) if scored else []
    chosen = {"gold_probability": gold_probability, "seed": 1, "scored": asked}
    made = Rows(given, retriever, generator, **chosen)
    source = [BatchCandidates(retriever, 4, 0.1, chunk=chunk)]
    if joint == "dalm":
        source, options = [], options | {"chunk": chunk}
    objective = objective_class(joint)(retriever, generator, *source, scale=20.0, **options)
    batch = made.collate_share(range(len(rows)))
    if unmasked:
        batch["no_candidates"] = torch.zeros_like(batch["no_candidates"])
    if kept is None:
        return measured(objective.double(), batch)
    torch.manual_seed(rank())
    for module in objective.modules():
        if isinstance(module, torch.nn.Dropout):
            module.p = 0.3
    with mock.patch.object(gradient_cache, "recomputed", keep if kept else recomputed):
        return measured(objective.double(), batch)


def keep(plan, _parameters):
    """Compute the micro-batches of a plan once, and keep their activations."""
    groups = plan.groups(np.arange(len(plan.lengths)))
    parts = [plan.run(group) for group in groups]
    width = max(part.shape[1] for part in parts)
    rows = torch.cat([torch.nn.functional.pad(p, (0, width - p.shape[1])) for p in parts])
    return rows[torch.from_numpy(np.concatenate(groups).argsort())]


def searched(retriever, generator, rows, without, joint, of_rows=None, scored=False, **options):
    retriever = load_retriever(retriever, CPU).double()
    generator = load_generator(generator, CPU, max_length=128).double()
    base = [Passage.of(passage) for _, _, passage in rows]
    given = examples_of(rows, without)
    asked = list(scored_questions(rows)) if scored else []
    chosen = {"scored": asked} | (of_rows or {})
    made = RetrievedRows(given, retriever, generator, more=base, **chosen)
    index = TrainingIndex(len(made.base), made.base.identity(), torch.device("cpu"))
    source = IndexCandidates(
        *(retriever, made.base, index),
        **{"num_candidates": 3, "temperature": 0.1, "over_retrieve": 2, "write_back": True},
        chunk=options.pop("chunk", None),
    )
    objective = objective_class(joint)(retriever, generator, source, scale=20.0, **options)
    objective.begin_update(0.0)
    index.vectors *= 1.01  # written back vectors can be told from these
    found = measured(objective, made.collate_share(range(len(rows))))
    return found | {"index": whole(index)}


def whole(index):
    return index.lookup(torch.arange(len(index))[None])[0]


def index(_retriever, _generator, _rows):
    """Search, look up and write rows of all shares; some vectors are equal, across shares too."""
    made = torch.Generator().manual_seed(0)
    vectors = torch.randint(-2, 3, (11, 3), generator=made).float()
    vectors[[2, 9]] = vectors[5].clone()
    living = TrainingIndex(11, "eleven", torch.device("cpu"))
    living.refresh(lambda places: vectors[torch.from_numpy(places)])
    asked = torch.randint(-2, 3, (4, 3), generator=made).float()
    asked[1] = vectors[5]
    mine = list(part(4))
    found = {}
    for k in (1, 3, 8, 99):
        scores, places = living.search(asked[mine], k)
        found[f"scores {k}"], found[f"places {k}"] = gather(scores), gather(places)
    looked_up = torch.tensor([[0, 10], [5, -1], [6, 6], [10, 0]])
    found["lookup"] = gather(living.lookup(looked_up[mine]))
    # Ranks write unlike many rows, of their own share and of others.
    written = {4: [10, 0, 7], 2: [10, 0] if 0 in mine else [7]}[len(mine)]
    written = torch.tensor(written)
    living.write(written, written[:, None] * torch.ones(3))
    found["written"] = whole(living)
    return found


def run(retriever, generator, inputs):
    """Return what comes out of every case, in this process or, together, in all of them."""
    cases = {"contrastive": contrastive, "in-batch": in_batch, "searched": searched}
    cases["scored"] = on_scores
    cases["index"] = index
    with mock.patch.object(LlamaRMSNorm, "forward", normalised):
        return {
            name: cases[case["kind"]](
                *(retriever, generator, inputs["rows"]),
                **{k: v for k, v in case.items() if k != "kind"},
            )
            for name, case in inputs["cases"].items()
        }


def normalised(norm, hidden):
    """Return what a Llama's norm gives where it doesn't round to fp32 within.

    Processes have other prompts in a row, and add gradients in another order before it rounds.
    """
    scale = (hidden.pow(2).mean(-1, keepdim=True) + norm.variance_epsilon).rsqrt()
    return norm.weight * hidden * scale


def main(retriever, generator, inputs, result):
    dist.init_process_group("gloo", timeout=timedelta(seconds=60))
    found = run(retriever, generator, json.loads(Path(inputs).read_text()))
    if dist.get_rank() == 0:
        torch.save(found, result)
    dist.destroy_process_group()


if __name__ == "__main__":
    main(*sys.argv[1:])
