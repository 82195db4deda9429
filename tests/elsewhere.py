"""A GPU that isn't there: tensors that compute on the CPU and refuse to meet those of the CPU.

On a GPU an operation fails if one of its tensors was forgotten on the CPU. Where there is none, the
same faults show here: a tensor that is moved to `DEVICE` becomes an `Elsewhere`, which says that it
lies there and takes part in no operation with a plain tensor, but for what CUDA allows too (numbers
without a dimension, indices, copies). Kernels, precision and memory don't show.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

DEVICE = torch.device("cuda:0")
_UNDER = torch.device("meta")
"""What an `Elsewhere` is for the C++ side, which has no CUDA."""
_aten = torch.ops.aten
_INDEXED = {_aten.index.Tensor, _aten.index_put.default, _aten.index_put_.default}


class Elsewhere(Tensor):
    """A tensor on `DEVICE`; what it holds is `held`, on the CPU."""

    held: Tensor

    @staticmethod
    def __new__(cls, held: Tensor) -> "Elsewhere":
        layout = {"strides": held.stride(), "storage_offset": held.storage_offset()}
        made = Tensor._make_wrapper_subclass(
            cls, held.size(), dtype=held.dtype, device=_UNDER, **layout
        )
        made.held = held
        return made

    @property
    def device(self) -> torch.device:
        return DEVICE

    def tolist(self) -> Any:
        return self.held.tolist()

    def numpy(self, **_: Any) -> Any:
        raise TypeError(f"can't convert {DEVICE} device type tensor to numpy")

    def __tensor_flatten__(self) -> tuple[list[str], None]:
        return ["held"], None

    @staticmethod
    def __tensor_unflatten__(parts: dict[str, Tensor], *_: Any) -> "Elsewhere":
        return Elsewhere(parts["held"])

    @classmethod
    def __torch_dispatch__(
        cls, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


class _Mode(TorchDispatchMode):
    def __torch_dispatch__(
        self, function: Any, types: Any, args: Any = (), kwargs: Any = None
    ) -> Any:
        return _compute(function, args, kwargs or {})


@contextmanager
def elsewhere() -> Iterator[None]:
    """Let `DEVICE` be there."""
    with pytest.MonkeyPatch.context() as patch, _Mode():
        patch.setattr(torch.cuda, "_lazy_init", lambda: None)
        drawn = torch.zeros(1, dtype=torch.uint8)  # nothing is ever drawn there
        patch.setattr(torch.cuda, "get_rng_state", lambda *_: drawn)
        patch.setattr(torch.cuda, "set_rng_state", lambda *_: None)
        for name in ("tensor", "as_tensor"):  # they never ask a mode
            patch.setattr(torch, name, _there(getattr(torch, name)))
        yield


def _there(make: Callable[..., Tensor]) -> Callable[..., Tensor]:
    def made(*args: Any, device: Any = None, **options: Any) -> Tensor:
        if _is_there(device):
            return make(*args, **options).to(DEVICE)
        return make(*args, device=device, **options)

    return made


def _is_there(device: Any) -> bool:
    return device is not None and torch.device(device).type in (DEVICE.type, _UNDER.type)


def _compute(function: Any, args: Any, kwargs: dict[str, Any]) -> Any:
    """Run an operation on what the tensors hold; refuse it where a GPU would."""
    tensors = [each for each in tree_leaves((args, kwargs)) if isinstance(each, Tensor)]
    there = any(isinstance(each, Elsewhere) for each in tensors)
    wanted = kwargs.get("device")
    if wanted is not None:
        kwargs = kwargs | {"device": torch.device("cpu"), "pin_memory": False}
    held_args, held_kwargs = tree_map(_held, (args, kwargs))
    copies = function in (_aten._to_copy.default, _aten.copy_.default)
    if there and not copies:
        _check(function, args, tensors)
    found = function(*held_args, **held_kwargs)
    if not (_is_there(wanted) if wanted is not None else there):
        return found
    if function is _aten.copy_.default:
        return args[0]
    found = tree_map(lambda each: Elsewhere(each) if isinstance(each, Tensor) else each, found)
    return return_and_correct_aliasing(function, args, kwargs, found) if there else found


def _check(function: Any, args: Any, tensors: list[Tensor]) -> None:
    if function in _INDEXED:  # by indices from anywhere
        tensors = [args[0]]
    here = [each for each in tensors if each.device.type == "cpu" and each.ndim]
    if here:
        shapes = [tuple(each.shape) for each in here]
        raise RuntimeError(f"not all tensors are on {DEVICE}: {function} of {shapes} on the CPU")


def _held(each: Any) -> Any:
    if isinstance(each, Elsewhere):
        return each.held
    if isinstance(each, Tensor) and each.is_meta:  # a zero that the way back made for itself
        return torch.zeros(each.shape, dtype=each.dtype)
    return each
