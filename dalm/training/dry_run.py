"""A run that is about to start in; what it would read, count, need and take, in words, out."""

import logging
import math
import time
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from dalm.config import Training
from dalm.distributed import world_size
from dalm.models.loading import Placement
from dalm.records import Passage
from dalm.training.data.batches import TrainingRows, on
from dalm.training.data.sampler import LengthBatches
from dalm.training.objectives.objective import Objective
from dalm.training.preview import Shown, show

logger = logging.getLogger(__name__)

FEW = 2_000
"""Passages that a dry run may encode."""
PATIENCE = 10.0
"""Seconds that a measured batch may be expected to take; a longer one is measured on two rows."""
OPTIMIZER_BYTES = 8
"""AdamW's two moments of a trained weight, in fp32."""


def few(passages: list[Passage]) -> list[Passage]:
    """Return what a dry run encodes of the passages."""
    if len(passages) > FEW:
        logger.info("searching  the first %d of %d passages: a dry run", FEW, len(passages))
    return passages[:FEW]


def report(
    objective: Objective,
    rows: TrainingRows,
    settings: Training,
    placement: Placement,
    shown: Sequence[Shown],
    *,
    measure: bool = True,
) -> None:
    """Show rows, count steps and tokens, estimate memory and time; write nothing.

    Memory: weights, gradients and AdamW's moments by their counts and types, and what one batch
    keeps for its way back, measured. Time: that batch both ways, times all tokens; the optimizer,
    checkpoints and an index's refreshes come on top. With `measure` False no batch is run.
    """
    for row in shown:
        show(row)
    per_update, updates, passes = _count(rows, settings)
    logger.info("steps      %d updates of %d rows, %.4g epochs", updates, per_update, passes)
    tokens, fixed = passes * float(rows.lengths().sum()), _fixed_bytes(objective)
    if measure:
        _report_measured(_measured(objective, rows, settings, placement), fixed, tokens, placement)
    else:
        logger.info(
            "tokens     about %s, without padding, each candidate counted once", _many(tokens)
        )
        logger.info("memory     %s and the activations of a batch", _size(sum(fixed)))
        logger.info("time       not measured: the index would have to be built first")
    logger.info("next       the same command without --dry-run; nothing was written")


def _count(rows: TrainingRows, settings: Training) -> tuple[int, int, float]:
    """Return the rows of an update, the updates, and how often all rows are met."""
    size = settings.per_device_train_batch_size * world_size()
    accumulated = settings.gradient_accumulation_steps
    in_epoch = math.ceil(math.ceil(len(rows) / size) / accumulated)
    updates = settings.max_train_steps or math.ceil(in_epoch * settings.num_train_epochs)
    return min(size * accumulated, len(rows)), updates, updates / in_epoch


def _fixed_bytes(objective: Objective) -> tuple[int, int, int]:
    """Return the bytes of the weights, of their gradients and of the optimizer's moments."""
    every = [p for model in objective.models().values() for p in model.parameters()]
    trained = [p for p in every if p.requires_grad]
    weights, gradients = (sum(p.numel() * p.element_size() for p in ps) for ps in (every, trained))
    return weights, gradients, OPTIMIZER_BYTES * sum(p.numel() for p in trained)


@dataclass(frozen=True)
class _Ran:
    rows: int
    share: float
    """Of a whole batch's length."""
    length: int
    """Tokens as the rows count them."""
    tokens: int
    """Tokens that the models read."""
    seconds: float
    kept: int
    """Bytes kept for the way back."""


def _measured(
    objective: Objective, rows: TrainingRows, settings: Training, placement: Placement
) -> _Ran:
    """Run two rows both ways to warm up, then a whole batch, or the two again if it would last."""
    size = settings.per_device_train_batch_size
    plan = LengthBatches(rows.lengths(), rows.gold_keys(), size, settings.seed)
    chosen = max(plan, key=lambda batch: int(rows.lengths()[batch].sum()))
    whole = int(rows.lengths()[chosen].sum())
    objective.begin_update(1.0)
    few = _run(objective, rows, chosen[:2], placement, whole)
    used = chosen if few.seconds / few.share < PATIENCE else chosen[:2]
    return _run(objective, rows, used, placement, whole)


def _run(
    objective: Objective,
    rows: TrainingRows,
    chosen: Sequence[int],
    placement: Placement,
    whole: int,
) -> _Ran:
    """Run a batch both ways and leave no trace; `whole` is the length of a whole batch."""
    state = torch.random.get_rng_state()
    batch = on(rows.collate(chosen), placement.device)
    kept: dict[int, int] = {}
    weights = {p.untyped_storage().data_ptr() for p in objective.parameters()}

    def note(tensor: torch.Tensor) -> torch.Tensor:
        storage = tensor.untyped_storage()
        if storage.data_ptr() not in weights:
            kept[storage.data_ptr()] = storage.nbytes()
        return tensor

    start = time.perf_counter()
    with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
        with placement.autocast():
            loss = objective(batch)
        loss.total.backward()
        if placement.device.type == "cuda":
            torch.cuda.synchronize(placement.device)
    seconds = time.perf_counter() - start
    objective.zero_grad(set_to_none=True)
    torch.random.set_rng_state(state)
    length = int(rows.lengths()[list(chosen)].sum())
    return _Ran(len(chosen), length / whole, length, loss.tokens, seconds, sum(kept.values()))


def _report_measured(
    ran: _Ran, fixed: tuple[int, int, int], length: float, placement: Placement
) -> None:
    """Tell of all tokens, by what a batch has shown; `length` as the rows count them."""
    read, seconds = (length * part / ran.length for part in (ran.tokens, ran.seconds))
    logger.info("tokens     about %s for the models to read, without padding", _many(read))
    activations = int(ran.kept / ran.share)
    source = "the largest batch" if ran.share == 1 else f"{ran.rows} rows, scaled to a batch"
    logger.info(
        "memory     about %s: weights %s, gradients %s, AdamW %s, activations %s (%s)",
        *(_size(sum(fixed) + activations), *map(_size, fixed), _size(activations), source),
    )
    logger.info(
        "time       about %s on %s: %d rows took %.2f s both ways; optimizer and saving not in it",
        *(_duration(seconds), placement.device, ran.rows, ran.seconds),
    )


def _many(count: float) -> str:
    return f"{round(count):,}"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"


def _duration(seconds: float) -> str:
    if seconds >= 7200:
        return f"{seconds / 3600:.1f} hours"
    return f"{seconds / 60:.1f} minutes" if seconds >= 120 else f"{seconds:.0f} seconds"
