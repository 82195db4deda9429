"""Report what a training run would read, count and need, without training.

A row is shown as the models read it, each token with a loss between ⟦ and ⟧.
"""

import logging
import math
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from itertools import groupby
from operator import itemgetter
from typing import Any, cast

import torch

from dalm.config import Training
from dalm.display import duration
from dalm.distributed import world_size
from dalm.models.batching import to_device
from dalm.models.generator import Generator
from dalm.models.loading import Placement
from dalm.models.retriever import Retriever
from dalm.models.retriever_sides import Kind
from dalm.prompts import Prompt
from dalm.records import NO_SCORE, Passage
from dalm.training import memory
from dalm.training.data.batches import Rows, TrainingRows, spread_rows
from dalm.training.data.packing import PackedBatch, PackedRows
from dalm.training.data.reranker_rows import RerankerRows
from dalm.training.data.sampler import LengthBatches
from dalm.training.data.scored_rows import ScoredRows
from dalm.training.objectives.objective import IndexForecast, Objective

logger = logging.getLogger(__name__)

MAX_PASSAGES = 2_000
"""Passages that a dry run encodes at most."""
MAX_SECONDS = 10.0
"""Expected seconds of a batch above which only two rows are measured."""
OPTIMIZER_BYTES = {"adamw": 8, "adamw-8bit": 2}
"""AdamW's two moments of a trained weight, in fp32 or in 8 bits."""
OPEN, CLOSE = "⟦", "⟧"
"""Marks around a token of the loss."""


@dataclass(frozen=True)
class Forecast:
    """What a training run takes: updates, seconds, and bytes of a process."""

    updates: int
    seconds: float
    memory: int


_collecting: list[list[Forecast]] = []


@contextmanager
def forecasts() -> Iterator[list[Forecast]]:
    """Collect the forecasts of the dry runs within the block, for the command they are part of."""
    found: list[Forecast] = []
    _collecting.append(found)
    try:
        yield found
    finally:
        _collecting.pop()


@dataclass(frozen=True)
class PreviewRow:
    """A row as a model reads it, and which of its tokens have a loss."""

    name: str
    tokenizer: Any
    tokens: Sequence[int]
    in_loss: Sequence[bool]


def preview_prompt(generator: Generator, prompt: Prompt, *, whole: bool = False) -> PreviewRow:
    """Return a generator's prompt; in the loss is the answer, or with `whole` nearly all."""
    first = 1 if whole else prompt.answer_start
    in_loss = [place >= first for place in range(prompt.length)]
    return PreviewRow("generator", generator.tokenizer, prompt.tokens, in_loss)


def preview_text(retriever: Retriever, tokens: Sequence[int], kind: Kind) -> PreviewRow:
    """Return a text as the retriever reads it: its embedding has a loss, not its tokens."""
    return PreviewRow(kind, retriever.tokenizer(kind), tokens, [False] * len(tokens))


def preview_pair(rows: RerankerRows) -> PreviewRow:
    """Return the first question with its first candidate, as the reranker reads them."""
    reranker, first = rows.reranker, rows.questions[0]
    tokens = reranker.tokenise([(first.query, first.texts[0])])["input_ids"][0].tolist()
    return PreviewRow("pair", reranker.model.tokenizer, tokens, [False] * len(tokens))


def preview_rows(rows: Rows, *, whole: bool = False) -> list[PreviewRow]:
    """Return the first row, with its gold passage or another, as each model reads it.

    If its passages are scored candidates, these are those of a batch, with their scores.
    """
    if isinstance(rows, ScoredRows):
        return _preview_scored(rows)
    gold, retriever, generator = int(rows.gold[0]), rows.retriever, rows.generator
    preview = [preview_text(retriever, rows.query_tokens[0].tolist(), "query")]
    if gold >= 0:
        preview.append(preview_text(retriever, rows.base.tokens[gold].tolist(), "passage"))
    if generator is not None:
        passage = rows.base.pieces[max(0, gold)].tolist()
        query, answer = rows.query_pieces[0].tolist(), rows.answer_pieces[0].tolist()
        joined = generator.frame.join([passage], query, answer, generator.max_length)
        preview.append(preview_prompt(generator, joined, whole=whole))
    return preview


def _preview_scored(rows: ScoredRows) -> list[PreviewRow]:
    preview = [preview_text(rows.retriever, rows.query_tokens[0].tolist(), "query")]
    for chosen in rows.drawn(0):
        tokens = rows.base.tokens[rows.candidates[0][chosen]].tolist()
        score = rows.scores[0][chosen]
        scored = "no score" if score == NO_SCORE else f"score {score:.4g}"
        row = preview_text(rows.retriever, tokens, "passage")
        preview.append(replace(row, name=f"candidate with {scored}"))
    return preview


def preview_packed(rows: PackedRows, generator: Generator) -> PreviewRow:
    """Return the packed row with the most documents."""
    fullest = max(range(len(rows)), key=lambda row: len(rows.rows[row]))
    packed = cast(PackedBatch, rows.collate([fullest]))
    tokens, scored = packed["tokens"][0].tolist(), packed["scored"][0].tolist()
    return PreviewRow("generator", generator.tokenizer, tokens, scored)


def marked(row: PreviewRow) -> str:
    """Return the row as text, each token with a loss between ⟦ and ⟧, special tokens shown."""
    parts: list[str] = []
    before: list[int] = []
    for in_loss, run in groupby(zip(row.in_loss, row.tokens, strict=True), key=itemgetter(0)):
        tokens = [token for _, token in run]
        for piece in _pieces(row.tokenizer, tokens) if in_loss else [tokens]:
            text = _text_after(row.tokenizer, before, piece)
            parts.append(f"{OPEN}{text}{CLOSE}" if in_loss else text)
            before = piece[-8:]
    return "".join(parts)


def _pieces(tokenizer: Any, tokens: list[int]) -> Iterator[list[int]]:
    """Yield the tokens one by one; the tokens of one character stay together."""
    pending: list[int] = []
    for token in tokens:
        pending.append(token)
        if not tokenizer.decode(pending, skip_special_tokens=False).endswith("\ufffd"):
            yield pending
            pending = []
    if pending:
        yield pending


def _text_after(tokenizer: Any, before: list[int], tokens: list[int]) -> str:
    """Return the text of tokens as it is after others: alone, some lose their leading space."""
    known, both = (
        tokenizer.decode(ids, skip_special_tokens=False) for ids in (before, before + tokens)
    )
    if not both.startswith(known):  # `before` began or ended within a character
        return str(tokenizer.decode(tokens, skip_special_tokens=False))
    return str(both[len(known) :])


def first_passages(passages: list[Passage]) -> list[Passage]:
    """Return the passages that a dry run encodes."""
    if len(passages) > MAX_PASSAGES:
        logger.info(
            "searching  the first %d of %d passages: a dry run", MAX_PASSAGES, len(passages)
        )
    return passages[:MAX_PASSAGES]


def report(
    objective: Objective,
    rows: TrainingRows,
    settings: Training,
    placement: Placement,
    preview: Sequence[PreviewRow],
) -> None:
    """Show rows, count steps and tokens, estimate memory and time; write nothing.

    Memory: weights, gradients and AdamW's moments from their counts and types, an index by its
    size, and the activations of one batch, measured. Time: forward and backward pass of that batch,
    scaled to all tokens, and an index's encodings; the optimizer and checkpoints come on top. Of an
    index of more than `MAX_PASSAGES` passages so many are encoded, searched and scaled up.
    """
    for row in preview:
        _show(row)
    per_update, updates, passes = _count(rows, settings)
    logger.info("steps      %d updates of %d rows, %.4g epochs", updates, per_update, passes)
    ran = _measured(objective, rows, settings, placement)
    batches = passes * float(rows.lengths().sum()) / ran.length
    index = objective.index_forecast(ran.work * batches / updates, updates)
    fixed = _fixed_bytes(objective, settings)
    needed, seconds = _report_measured(ran, fixed, batches, index)
    for each in _collecting:
        each.append(Forecast(updates, seconds, needed))
    free = memory.free_bytes(placement.device)
    if free is not None and needed - fixed[0] > free:  # the weights are there already
        logger.warning(
            "memory     %s are free on %s, besides the weights: try %s",
            *(_size(free), placement.device, memory.remedies(settings)),
        )
    logger.info("dry run    nothing was written; without --dry-run the same command trains")


def _show(row: PreviewRow) -> None:
    """Log a row with its marks."""
    count = sum(row.in_loss)
    loss = f"{count} of them in the loss, each in {OPEN}{CLOSE}" if count else "none in the loss"
    logger.info("row        %s, %d tokens, %s:", row.name, len(row.tokens), loss)
    for line in marked(row).splitlines():
        logger.info("           | %s", line)


def _count(rows: TrainingRows, settings: Training) -> tuple[int, int, float]:
    """Return the rows of an update, the number of updates, and the epochs."""
    size = settings.per_device_train_batch_size * world_size()
    accumulated = settings.gradient_accumulation_steps
    in_epoch = math.ceil(math.ceil(len(rows) / size) / accumulated)
    updates = settings.max_train_steps or math.ceil(in_epoch * settings.num_train_epochs)
    return min(size * accumulated, len(rows)), updates, updates / in_epoch


def _fixed_bytes(objective: Objective, settings: Training) -> tuple[int, int, int]:
    """Return a process's bytes of the weights, of their gradients and of the optimizer's moments.

    Of sharded weights embeddings, head and a layer at a time come on top.
    """
    shard, each = settings.shard, OPTIMIZER_BYTES[settings.optimizer]
    ranks = 1 if shard == "none" else world_size()
    every = [p for model in objective.models().values() for p in model.parameters()]
    trained = [p for p in every if p.requires_grad]
    weights, gradients = (sum(p.numel() * p.element_size() for p in ps) for ps in (every, trained))
    moments = each * sum(p.numel() for p in trained)
    return weights // (ranks if shard == "full" else 1), gradients // ranks, moments // ranks


@dataclass(frozen=True)
class _Measured:
    rows: int
    fraction: float
    """Of a whole batch's length."""
    length: int
    """Tokens as the rows count them."""
    tokens: int
    """Tokens that the models read."""
    seconds: float
    kept: int
    """Bytes kept for the backward pass, at most at a time."""
    work: float
    """Arithmetic, as an index counts it."""
    device: torch.device
    chunk: int | None
    """Texts whose activations are kept at a time; None: all of a batch."""


def _measured(
    objective: Objective, rows: TrainingRows, settings: Training, placement: Placement
) -> _Measured:
    """Run a few rows to warm up, then a whole batch, or these again if it would take too long.

    Of several processes each measures a batch of its own, alone: no process group is made. Where
    its rows have fewer candidates than those of all processes together, it measures more.
    """
    own = settings.per_device_train_batch_size
    size = max(own, min(objective.fewest_rows(), own * world_size()))
    plan = LengthBatches(rows, size, settings.seed)
    chosen = max(plan, key=lambda batch: int(rows.lengths()[batch].sum()))
    whole = int(rows.lengths()[chosen].sum() * own / size)
    objective.begin_update(1.0)
    some = [chosen[row] for row in spread_rows(len(chosen), objective.fewest_rows())]
    few = _run(objective, rows, some, placement, whole)
    used = chosen if few.seconds / few.fraction < MAX_SECONDS else some
    return _run(objective, rows, used, placement, whole)


def _run(
    objective: Objective,
    rows: TrainingRows,
    chosen: Sequence[int],
    placement: Placement,
    whole: int,
) -> _Measured:
    """Run a batch forward and backward, and restore the state; `whole` is a full batch's length."""
    state, work = torch.random.get_rng_state(), objective.index_work()
    batch = to_device(rows.collate(chosen), placement.device)
    kept = memory.KeptBytes({p.untyped_storage().data_ptr() for p in objective.parameters()})
    start = time.perf_counter()
    with kept.counting():
        with placement.autocast():
            loss = objective(batch)
        loss.total.backward()
        if placement.device.type == "cuda":
            torch.cuda.synchronize(placement.device)
    seconds = time.perf_counter() - start
    objective.zero_grad(set_to_none=True)
    torch.random.set_rng_state(state)
    length = int(rows.lengths()[list(chosen)].sum())
    return _Measured(
        rows=len(chosen),
        fraction=length / whole,
        length=length,
        tokens=loss.tokens,
        seconds=seconds,
        kept=kept.most,
        work=objective.index_work() - work,
        device=placement.device,
        chunk=objective.chunk,
    )


def _report_measured(
    ran: _Measured,
    fixed: tuple[int, int, int],
    batches: float,
    index: IndexForecast | None,
) -> tuple[int, float]:
    """Report what a run takes of `batches` times what was measured, and its index if it has one.

    `fixed` are the bytes of weights, gradients and AdamW. Return the bytes of everything, and the
    seconds.
    """
    logger.info(
        "tokens     about %s for the models to read, without padding", many(batches * ran.tokens)
    )
    activations = ran.kept if ran.chunk else int(ran.kept / ran.fraction)
    needed, shown = sum(fixed) + activations, ""
    seconds, encoding = batches * ran.seconds / world_size(), ""
    if index is not None:
        size = index.size // world_size()  # each process has a shard
        needed, shown = needed + size, f"index {_size(size)}, "
        seconds += (1 + index.refreshes) * index.seconds / world_size()
        encoding = f", {1 + index.refreshes} encodings of the index"
        _report_index(index)
    source = "the largest batch" if ran.fraction == 1 else f"{ran.rows} rows, scaled to a batch"
    if ran.chunk:
        source = f"a chunk of {ran.chunk} texts"
    logger.info(
        "memory     about %s: weights %s, gradients %s, AdamW %s, %sactivations %s (%s)",
        *(_size(needed), *map(_size, fixed), shown, _size(activations), source),
    )
    logger.info(
        "time       about %s on %s: %d rows took %.2f s forward and backward%s; optimizer and "
        "saving not included",
        *(duration(seconds), ran.device, ran.rows, ran.seconds, encoding),
    )
    return needed, seconds


def _report_index(index: IndexForecast) -> None:
    """Say how long the index takes to encode, how often, and by how many passages it is known."""
    sample = ""
    if index.measured < index.passages:
        sample = f", by {index.measured:,} of them; searching them all takes longer"
    logger.info(
        "index      %s passages of %s tokens, about %s to encode, before the first update and %d "
        "times after%s",
        *(many(index.passages), many(index.tokens), duration(index.seconds / world_size())),
        *(index.refreshes, sample),
    )


def many(count: float) -> str:
    """Return a count in words."""
    return f"{round(count):,}"


def _size(count: float) -> str:
    return f"{count / 2**30:.1f} GB" if count >= 2**30 else f"{count / 2**20:.1f} MB"
