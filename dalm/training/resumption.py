"""Check that a resumed run goes on as the run that wrote its checkpoint.

A checkpoint records the options, the number of processes, and hashes of the data and of the frozen
weights. What can't be continued to the bit with another value is refused; what can be changed on
purpose, such as the learning rate or the number of epochs, is said. Another number of processes
goes on with the same batches, if it divides them.
"""

import hashlib
import json
import logging
from collections.abc import Iterator, Sequence
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np
from torch import nn

from dalm import artifacts, file_reading
from dalm import config as options
from dalm.config.options import spelled
from dalm.distributed import world_size
from dalm.errors import UserError
from dalm.models.batching import Ragged
from dalm.models.loading import hash_weights
from dalm.records import Passage
from dalm.training.data.batches import TrainingRows
from dalm.training.data.sampler import LengthBatches
from dalm.training.objectives.objective import Objective

logger = logging.getLogger(__name__)

FILE = "run.json"
BATCH = "per_device_train_batch_size"
FIXED = (
    "gradient_accumulation_steps",
    "seed",
    "optimizer",
    "use_peft",
    "use_bnb",
    "lora_rank",
    "lora_alpha",
    "lora_target_modules",
    "train_encoders",
    "train_generator",
    "objective",
    "max_length",
    "candidates",
    "from_scratch",
    "extend_vocabulary",
    "prompt",
)
"""Options that a resumed run can't change."""
FREE = (
    *("logging_steps", "checkpointing_steps", "checkpoints_kept", "with_tracking", "report_to"),
    *("output_dir", "hub_model_id", "cache", "cache_dir", "trust_remote_code"),
    *("shard", "per_device_train_batch_size"),  # the batch of all processes is compared
    # What these read is compared itself.
    *("passage_column", "query_column", "title_column", "answer_column", "text_column"),
    *("negatives_column", "prepend_title", "encoding", "passages", "replay", "replay_ratio"),
    *("held_out", "held_out_share", "held_out_bytes", "sequence_length", "html"),
)
"""Options that don't change what is computed."""
_SAMPLE = 1024
"""Numbers of each frozen weight that are hashed: enough to tell models apart, at no cost."""
_REMEDY = "resume with the same, or start a run in another folder"


def record(
    settings: options.Training, objective: Objective, data: Sequence[TrainingRows]
) -> dict[str, Any]:
    """Return what a checkpoint records of its run; `data` are rows to train and evaluate on."""
    hashes: dict[str, str] = {}
    for number, rows in enumerate(data):
        named = {name: value for name, value in vars(rows).items() if name not in rows.of_options}
        prefix = f"held-out {number} " if number else ""
        hashes |= {f"{prefix}{name}": content_hash(value) for name, value in named.items()}
    return {
        "processes": world_size(),
        "data": hashes,
        "frozen_weights": _frozen_weights(objective),
        "options": options.public(settings),
    }


def check_options(checkpoint: Path, settings: options.Training) -> None:
    """Refuse options that a resumed run can't change, and log the others that have changed.

    Raises:
        UserError: names the option.
    """
    before = file_reading.read_json(checkpoint / FILE, "resume from another checkpoint")
    known = before.get("options")
    if isinstance(known, dict):
        _check_batch(checkpoint, before.get("processes"), known.get(BATCH), settings)
    changed = []
    for name, value in json.loads(json.dumps(options.public(settings))).items():
        if not isinstance(known, dict) or name not in known or name in FREE or known[name] == value:
            continue
        if name in FIXED:
            raise UserError(
                f"{spelled(name)} {value}: {checkpoint} was written with {known[name]}; {_REMEDY}"
            )
        changed.append(f"{spelled(name)} {value} ({known[name]} before)")
    if changed:
        logger.warning(
            "resuming with %s: from %s on, this is not the run that one without a break would be",
            *(", ".join(changed), checkpoint.name),
        )


def _check_batch(checkpoint: Path, processes: Any, size: Any, settings: options.Training) -> None:
    """Refuse batches that have another size over all processes.

    Raises:
        UserError: names the size, and one that fits.
    """
    now, own = world_size(), settings.per_device_train_batch_size
    if not isinstance(processes, int) or not isinstance(size, int):
        return
    if now * own != processes * size:
        by = f" by each of {processes} processes" if now != processes else ""
        fits, left = divmod(processes * size, now)
        remedy = f"set it to {fits}" if by and not left else "resume with the same"
        raise UserError(
            f"{spelled(BATCH)} {own}{f' on {now} processes' if now > 1 else ''}: {checkpoint} was "
            f"written with {size}{by}; {remedy}, or start a run in another folder"
        )
    if now != processes:
        logger.warning("resuming on %d processes, %d before: dropout is drawn anew", now, processes)


def check_content(checkpoint: Path, now: dict[str, Any]) -> None:
    """Refuse other data or other frozen weights than a checkpoint was written with.

    Raises:
        UserError: says what differs.
    """
    before = file_reading.read_json(checkpoint / FILE, "resume from another checkpoint")
    for key, what in (("data", "data"), ("frozen_weights", "frozen weights")):
        known = before.get(key)
        known = known if isinstance(known, dict) else {}
        names = sorted({*known, *now[key]})
        differing = [name for name in names if known.get(name) != now[key].get(name)]
        if differing:
            raise UserError(
                f"{checkpoint} was written with other {what} ({', '.join(differing)}); {_REMEDY}"
            )


def tell_batches(checkpoint: Path, rows: TrainingRows, settings: options.Training) -> None:
    """Warn if another number of processes divides the rows into other batches."""
    before = file_reading.read_json(checkpoint / FILE, "resume from another checkpoint")
    if before.get("processes") == world_size():
        return
    ranks = (
        (before["options"][BATCH], before["processes"]),
        (getattr(settings, BATCH), world_size()),
    )
    then, now = (LengthBatches(rows, size, 0, ranks=each).sizes() for size, each in ranks)
    if then != now:
        logger.warning(
            "batches    %d rows are divided into other batches than on %d processes: the first "
            "epoch from here on may repeat some rows and leave out others",
            *(len(rows), before["processes"]),
        )


def write(checkpoint: Path, run: dict[str, Any]) -> None:
    """Write a run's record into a checkpoint."""
    artifacts.write_json(checkpoint / FILE, run)


def _frozen_weights(objective: Objective) -> dict[str, str]:
    """Return a hash of a sample of each model's frozen weights; the others are in checkpoints."""
    hashes = {}
    for name, model in objective.models().items():
        hashed = hashlib.blake2b(digest_size=16)
        frozen = ((n, p) for n, p in model.named_parameters() if not p.requires_grad)
        hash_weights(hashed, ((n, p.detach().reshape(-1)[:_SAMPLE]) for n, p in frozen))
        hashes[name] = hashed.hexdigest()
    return hashes


# Hashes of what rows hold


def content_hash(value: Any) -> str:
    """Return a hash of nested lists, dicts, arrays, token sequences and objects that hold them.

    Models, tokenizers and functions are left out: their identity isn't their content.
    """
    hashed = hashlib.blake2b(digest_size=16)
    for part in _parts(value):
        hashed.update(part)
    return hashed.hexdigest()


def _parts(value: Any) -> Iterator[bytes]:
    if isinstance(value, np.ndarray):
        yield f"{value.dtype} {value.shape}".encode()
        yield value.tobytes()
    elif isinstance(value, Ragged):
        yield from _parts([value.lengths, value.flat])
    elif isinstance(value, Passage):
        yield value.id.encode()
    elif isinstance(value, dict):
        yield from _parts(list(value.items()))
    elif isinstance(value, set | frozenset):
        yield from _parts(sorted(value))
    elif isinstance(value, list | tuple):
        yield f"[{len(value)}".encode()
        for item in value:
            yield from _parts(item)
    elif value is None or isinstance(value, str | int | float | np.generic):
        yield f"{value!r},".encode()
    elif is_dataclass(value):
        yield from _parts([getattr(value, each.name) for each in fields(value)])
    elif type(value).__module__.startswith("dalm.") and not isinstance(value, nn.Module):
        yield from _parts(vars(value) if hasattr(value, "__dict__") else [])
