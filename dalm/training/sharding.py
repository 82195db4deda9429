"""Shard models over processes with torch's `fully_shard` (FSDP2), and gather them for the export.

Each layer is gathered for its forward and backward pass; embeddings, head and what else is outside
the layers is gathered once an update. A gather is a call of all processes together, so each has to
run as many forward and backward passes as the others (`dalm.collectives.missing_passes`).
"""

import copy
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Literal

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import (
    CPUOffloadPolicy,
    FSDPModule,
    MixedPrecisionPolicy,
    OffloadPolicy,
    fully_shard,
    register_fsdp_forward_method,
)
from torch.distributed.tensor import DTensor, distribute_tensor

from dalm.distributed import is_main, world_size
from dalm.errors import UserError
from dalm.models.export_check import WHOLE, Model
from dalm.models.generator import Generator
from dalm.models.loading import Placement
from dalm.models.retriever import Retriever

Shard = Literal["none", "grad", "full"]
_ENTRIES: dict[type[nn.Module], tuple[str, ...]] = {
    Retriever: ("embed",),
    Generator: ("hidden_states", "head_log_probs"),
}
"""The methods through which a model is run; a reranker's model is called itself."""


class ShardedModels:
    """Models whose weights, gradients and optimizer states are sharded over all processes.

    With "grad" a layer stays gathered from its forward to its backward pass, with "full" it is
    gathered for each. In bf16 the layers are gathered in bf16, and gradients are summed in fp32.

    Raises:
        UserError: a weight that can't be sharded.
    """

    def __init__(self, models: Collection[Model], how: Shard, *, offload: bool = False) -> None:
        self._plain: list[tuple[Model, nn.Module | None]] = []
        for model in models:
            _check(model)
            _take_from_main(model)
            self._plain.append((model, _without_weights(model.model) if is_main() else None))
            _shard(model, how, offload)

    @torch.no_grad()
    def gather(self) -> None:
        """Let the models of the main process have whole weights again; the others' stay sharded.

        Models that are too large for a second copy on the device are gathered on the CPU.
        """
        for model, plain in self._plain:
            reshard(model)
            size = sum(p.numel() * p.element_size() for p in model.parameters())
            device = model.placement.device if size <= WHOLE else torch.device("cpu")
            weights = _whole(dict(model.model.named_parameters()), device)
            if plain is not None:
                _fill(plain, weights)
                _replace(model, plain.train(model.model.training))


def check_shard(settings: Any, placement: Placement) -> None:
    """Refuse what can't be sharded, before anything is loaded.

    Raises:
        UserError: one process, or options that exclude each other.
    """
    if settings.shard == "none":
        return
    option = f"--shard {settings.shard}"
    if world_size() == 1:
        raise UserError(
            f"{option}: one process has no other to share with; start several with torchrun "
            "--nproc-per-node N -m dalm ..., or leave it out"
        )
    if placement.device.type not in ("cpu", "cuda"):
        raise UserError(f"{option} needs NVIDIA GPUs or CPUs, and the device is {placement.device}")
    if settings.cpu_offload and placement.device.type == "cpu":
        raise UserError("--cpu-offload: the weights are in the CPU's memory already; leave it out")
    if placement.precision == "fp16":
        raise UserError(f"{option} doesn't scale fp16 gradients; use --precision bf16 or fp32")
    if settings.optimizer != "adamw":
        raise UserError(f"{option}: {settings.optimizer} needs whole weights; use adamw")
    if getattr(settings, "use_bnb", False):
        raise UserError(f"{option}: 4-bit weights can't be sharded; leave out --use-bnb")
    if getattr(settings, "train_encoders", "") == "query-adapter":
        raise UserError(f"{option}: a query adapter is one small matrix; leave out --shard")


def reshard(module: nn.Module) -> None:
    """Free what is gathered of a module's weights; its parameters are the shards then."""
    for each in module.modules():
        if isinstance(each, FSDPModule):
            each.reshard()


def trained_parameters(module: nn.Module) -> dict[str, nn.Parameter]:
    """Return the parameters that are trained by name; sharded ones are this process's shards."""
    reshard(module)
    return {name: p for name, p in module.named_parameters() if p.requires_grad}


def trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are trained by name, or this process's shards of them."""
    return {name: p.detach() for name, p in trained_parameters(module).items()}


def gather_trained(module: nn.Module) -> dict[str, Tensor]:
    """Return the weights that are trained, whole; all processes call it, and the main one has them.

    Weights that aren't sharded are returned as they are.
    """
    weights = trained(module)
    if not any(isinstance(weight, DTensor) for weight in weights.values()):
        return weights
    return _whole(weights, torch.device("cpu"))


def _whole(weights: Mapping[str, Tensor], device: torch.device) -> dict[str, Tensor]:
    """Gather weights one by one; the main process keeps them."""
    kept = {}
    for name, weight in weights.items():
        assert isinstance(weight, DTensor)
        whole = weight.full_tensor().detach()
        if is_main():
            kept[name] = whole.to(device)
    return kept


@torch.no_grad()
def set_weight(weight: Tensor, whole: Tensor) -> None:
    """Set a weight, or this process's shard of it."""
    whole = whole.to(weight.device, weight.dtype)
    if isinstance(weight, DTensor):
        whole = distribute_tensor(whole, weight.device_mesh, weight.placements, src_data_rank=None)
    weight.copy_(whole)


def _check(model: Model) -> None:
    single = next((name for name, p in model.named_parameters() if p.ndim == 0), None)
    if single is not None:
        raise UserError(f"--shard: {single} is a single number and can't be sharded; leave it out")
    if isinstance(model, Generator) and not model.padding.when_scoring:
        raise UserError(
            "--shard: the generator reads texts one by one, as padding changes its results, and "
            "processes can't keep in step; leave it out"
        )


def _take_from_main(model: Model) -> None:
    """Give every process the main one's trained weights and buffers, as DDP does."""
    for tensor in [*(p.data for p in model.parameters() if p.requires_grad), *model.buffers()]:
        dist.broadcast(tensor, 0)


def _without_weights(model: nn.Module) -> nn.Module:
    """Return a copy whose weights take no memory; equal ones are one there, too."""
    empty = {
        id(p): nn.Parameter(torch.empty_like(p, device="meta"), requires_grad=p.requires_grad)
        for p in model.parameters()
    }
    return copy.deepcopy(model, dict(empty))


def _fill(plain: nn.Module, weights: dict[str, Tensor]) -> None:
    filled = {
        id(empty): nn.Parameter(weights[name], requires_grad=empty.requires_grad)
        for name, empty in plain.named_parameters()
    }
    device = next(iter(weights.values())).device
    for module in plain.modules():
        for name, empty in module._parameters.items():
            if empty is not None:
                module._parameters[name] = filled[id(empty)]
        for name, buffer in module._buffers.items():
            if buffer is not None:
                module._buffers[name] = buffer.to(device)


def _replace(model: Model, plain: nn.Module) -> None:
    """Give a model an inner model that isn't sharded, and take the hooks from its own."""
    model.model = plain
    if isinstance(model, FSDPModule):
        model.__class__ = type(model).__mro__[2]
        for entry in _ENTRIES[type(model)]:
            vars(model).pop(entry)


def _shard(model: Model, how: Shard, offload: bool) -> None:
    """Shard the layers, then what is left of the model."""
    device = model.placement.device
    precision = MixedPrecisionPolicy()
    if model.placement.precision == "bf16":
        precision = MixedPrecisionPolicy(
            param_dtype=torch.bfloat16, reduce_dtype=torch.float32, cast_forward_inputs=False
        )
    offloading = CPUOffloadPolicy(device.type != "cpu") if offload else OffloadPolicy()
    mesh = init_device_mesh(device.type, (world_size(),))
    entries = _ENTRIES.get(type(model), ())
    root = model if entries else model.model
    for module in [*layers_of(root), root]:
        fully_shard(
            module,
            mesh=mesh,
            reshard_after_forward=how == "full" and module is not root,
            mp_policy=precision,
            offload_policy=offloading,
        )
    for entry in entries:
        register_fsdp_forward_method(model, entry)


def layers_of(root: nn.Module) -> list[nn.Module]:
    """Return the layers of a transformer; none if they have a weight in common with anything."""
    layers = list(dict.fromkeys(_lists(root)))
    inside = {module for layer in layers for module in layer.modules()}
    outside = [module for module in root.modules() if module not in inside]
    owned = [{id(p) for p in layer.parameters()} for layer in layers]
    owned.append({id(p) for module in outside for p in module._parameters.values()} - {id(None)})
    return layers if len(set().union(*owned)) == sum(map(len, owned)) else []


def _lists(module: nn.Module) -> Iterator[nn.Module]:
    """Yield what the outermost lists of modules hold, if it has weights."""
    for child in module.children():
        if isinstance(child, nn.ModuleList):
            yield from (each for each in child if next(each.parameters(), None) is not None)
        else:
            yield from _lists(child)
