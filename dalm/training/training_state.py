"""Write and read a checkpoint's weights and optimizer state with torch.distributed.checkpoint.

Each process writes its part, and reads the part that it needs, whoever wrote it: a run is resumed
on another number of processes, sharded or not.
"""

import warnings
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.checkpoint import state_dict_loader, state_dict_saver
from torch.distributed.checkpoint.api import CheckpointException
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import TensorStorageMetadata

from dalm.distributed import has_group
from dalm.errors import UserError
from dalm.training import sharding

FOLDER = "state"
_WEIGHT, _OPTIMIZER = "weights/", "optimizer/"


def save(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Write the weights that are trained, and what the optimizer knows of each."""
    state: dict[str, Any] = {}
    for name, weight in sharding.trained_parameters(model).items():
        state[_WEIGHT + name] = weight.detach()
        for key, value in optimizer.state.get(weight, {}).items():
            state[f"{_OPTIMIZER}{key}/{name}"] = value
    _run(partial(state_dict_saver.save, state), checkpoint)


def load_weights(checkpoint: Path, model: nn.Module) -> None:
    """Load the weights that are trained.

    Raises:
        UserError: the checkpoint has others.
    """
    weights = {_WEIGHT + name: weight for name, weight in sharding.trained(model).items()}
    wanted = {name: weight.shape for name, weight in weights.items()}
    stored = _stored(checkpoint).items()
    if {name: each.size for name, each in stored if name.startswith(_WEIGHT)} != wanted:
        raise UserError(
            f"checkpoint {checkpoint} holds other weights than this run trains; "
            "resume with the models and the LoRA options that it was started with"
        )
    _load(checkpoint, weights)


def load_optimizer(checkpoint: Path, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
    """Load what the optimizer knows of each weight; of one that had no gradient yet, nothing."""
    parameters = sharding.trained_parameters(model)
    state: dict[str, Any] = {}
    owners: dict[str, tuple[nn.Parameter, str]] = {}
    for place, stored in _stored(checkpoint).items():
        if place.startswith(_OPTIMIZER):
            key, _, name = place.removeprefix(_OPTIMIZER).partition("/")
            owners[place] = parameters[name], key
            state[place] = _empty(stored, parameters[name].detach(), key)
    _load(checkpoint, state)
    for place, (parameter, key) in owners.items():
        optimizer.state[parameter][key] = state[place]


def _empty(stored: Any, weight: Tensor, key: str) -> Any:
    """Return what a value is loaded into: one like the weight, and sharded as it is, or whole."""
    if not isinstance(stored, TensorStorageMetadata):
        return None  # a plain number, which replaces it
    dtype = stored.properties.dtype
    if key != "step" and stored.size == weight.shape:
        return torch.zeros_like(weight, dtype=dtype)
    return torch.zeros(stored.size, dtype=dtype, device=weight.device)


def _stored(checkpoint: Path) -> dict[str, Any]:
    """Return what is known of a checkpoint's tensors, sizes and types, and of its numbers.

    Raises:
        UserError: it was written by an earlier version.
    """
    folder = checkpoint / FOLDER
    if not folder.is_dir():
        raise UserError(
            f"checkpoint {checkpoint} was written by an earlier version, without {FOLDER}; resume "
            "with that version, or start a run in another folder"
        )
    return dict(FileSystemReader(folder).read_metadata().state_dict_metadata)


def _load(checkpoint: Path, state: dict[str, Any]) -> None:
    _run(partial(state_dict_loader.load, state), checkpoint)


def _run(call: Callable[..., Any], checkpoint: Path) -> None:
    """Let all processes write or read, and raise what went wrong in one, such as a full disk.

    torch raises a collection of errors.
    """
    try:
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", "torch.distributed is disabled")  # one process
            call(checkpoint_id=checkpoint / FOLDER, no_dist=not has_group())
            return
    except CheckpointException as error:
        failure = next(iter(error.failures.values()))[0]
    raise failure  # here, so that it keeps its own cause
