"""Load models: device, precision, 4-bit weights, LoRA, and errors that name the model."""

import importlib.util
import json
import logging
import os
import traceback
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack, chdir, contextmanager
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Literal, TypeVar

import torch
from huggingface_hub import HfApi, try_to_load_from_cache
from peft import LoraConfig
from transformers import BitsAndBytesConfig
from transformers.utils import find_adapter_config_file

from dalm import artifacts, progress
from dalm.distributed import world_size
from dalm.errors import UserError
from dalm.file_reading import DamagedError, user_path
from dalm.models import load_errors

logger = logging.getLogger(__name__)
T = TypeVar("T")

Precision = Literal["auto", "fp32", "bf16", "fp16"]
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ADAPTER = "adapter_config.json"
EDITABLE = ("README.md", ".gitattributes")
HASHED_BYTES = 50_000_000
"""Size of the largest file of a model's folder whose content is compared with its manifest."""
_CONFIGS = ("config.json", "modules.json", ADAPTER)
"""A model's folder holds at least one of these files."""


@dataclass(frozen=True, slots=True)
class Placement:
    """How a model is loaded: its device, its precision, and whether code of its own is run."""

    device: torch.device
    precision: Literal["fp32", "bf16", "fp16"]
    frozen: bool = False
    """The weights aren't trained: hold them in the precision of the computation."""
    four_bit: bool = False
    trust_remote_code: bool = False
    """Whether code that a model brings with it is run."""

    @property
    def dtype(self) -> torch.dtype:
        """The precision as a torch type."""
        return DTYPES[self.precision]

    def weight_options(self) -> dict[str, Any]:
        """Return what `from_pretrained` needs to hold the weights in their precision.

        4-bit weights are QLoRA's (arXiv:2305.14314): 4-bit NormalFloat, double quantisation.
        """
        if self.four_bit:
            quantisation = BitsAndBytesConfig(
                load_in_4bit=True,
                bnb_4bit_quant_type="nf4",
                bnb_4bit_use_double_quant=True,
                bnb_4bit_compute_dtype=self.dtype,
            )
            return {"quantization_config": quantisation, "device_map": {"": self.device}}
        return {"dtype": self.dtype if self.frozen else torch.float32}

    def autocast(self) -> torch.autocast:
        """Return the autocast context for forward passes."""
        return torch.autocast(
            self.device.type, dtype=self.dtype, enabled=self.precision != "fp32", cache_enabled=True
        )


def place(device: str, precision: Precision, *, trust_remote_code: bool = False) -> Placement:
    """Return the device and precision; `auto` is resolved to what the hardware is fast at.

    Raises:
        UserError: no such device, or a precision that the device doesn't support.
    """
    resolved = _device(device)
    if precision == "auto":
        precision = "bf16" if has_bf16(resolved) else "fp32"
    if precision == "fp16" and resolved.type == "cpu":
        raise UserError("--precision fp16 needs a GPU; on this CPU use bf16, fp32 or auto")
    if precision == "bf16" and resolved.type == "cuda" and not has_bf16(resolved):
        raise UserError("--precision bf16: this GPU has no bf16 arithmetic; use fp16, fp32 or auto")
    if precision == "bf16" and resolved.type == "cpu" and not has_bf16(resolved):
        _warn_of_emulated_bf16()
    return Placement(resolved, precision, trust_remote_code=trust_remote_code)


@cache
def _warn_of_emulated_bf16() -> None:
    """Warn once per process: a command that loads several models places each of them."""
    logger.warning(
        "--precision bf16: this CPU has neither AVX512-BF16 nor AMX and emulates bf16, which is "
        "several times slower than fp32; use --precision auto or fp32"
    )


def placement_of(settings: Any) -> Placement:
    """Return the placement that a command's options ask for.

    Raises:
        UserError: as `place`.
    """
    return place(
        settings.device,
        getattr(settings, "precision", "fp32"),
        trust_remote_code=settings.trust_remote_code,
    )


def pinned(settings: Any) -> Any:
    """Return the options for a worker: its precision is that of this machine, whatever its own."""
    return replace(settings, precision=placement_of(settings).precision)


def _device(name: str) -> torch.device:
    if name == "auto":
        accelerator = torch.accelerator.current_accelerator(check_available=True)
        return torch.device("cpu") if accelerator is None else _own(accelerator)
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UserError(
            f"--device {name}: not a device; use auto, cpu, cuda, cuda:1 ..."
        ) from error
    available = {
        "cpu": True,
        "cuda": torch.cuda.is_available() and (device.index or 0) < torch.cuda.device_count(),
        "mps": torch.backends.mps.is_available(),
    }
    if not available.get(device.type, False):
        raise UserError(f"--device {name}: not available on this machine; use --device auto")
    return _own(device)


def _own(device: torch.device) -> torch.device:
    """Return the GPU of this process where torchrun started one for each, else the device."""
    if device.type == "cuda" and device.index is None and world_size() > 1:
        return torch.device("cuda", int(os.environ.get("LOCAL_RANK", "0")))
    return device


def has_bf16(device: torch.device) -> bool:
    """Return whether bf16 products run in hardware: emulated ones are slower than fp32.

    On a CPU oneDNN computes them, with AVX512-BF16 or AMX; ONEDNN_MAX_CPU_ISA may rule both out.
    """
    if device.type == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device.type == "cpu":
        limit = os.environ.get("ONEDNN_MAX_CPU_ISA", "ALL").upper()
        allowed = any(name in limit for name in ("ALL", "DEFAULT", "BF16", "FP16", "AMX", "AVX10"))
        supported = torch.cpu._is_avx512_bf16_supported() or torch.cpu._is_amx_tile_supported()
        return allowed and bool(supported)
    return False


def check_four_bit(device: torch.device) -> None:
    """Refuse 4-bit weights where bitsandbytes doesn't support them, before anything is loaded."""
    if device.type != "cuda":
        raise UserError(
            f"--use-bnb needs an NVIDIA GPU, and the device is {device.type}; leave it out"
        )
    _check_bitsandbytes("--use-bnb")


def check_eight_bit(device: torch.device) -> None:
    """Refuse an optimizer in 8 bits where there is none, before anything is loaded."""
    option = "--optimizer adamw-8bit"
    if device.type not in ("cpu", "cuda"):
        raise UserError(f"{option} needs an NVIDIA GPU or a CPU, and the device is {device.type}")
    _check_bitsandbytes(option)


def _check_bitsandbytes(option: str) -> None:
    if importlib.util.find_spec("bitsandbytes") is None:
        raise UserError(f'{option} needs bitsandbytes: pip install "indomain[4bit]"')


def lora(
    *, rank: int, alpha: float, dropout: float, targets: Sequence[str] | None, task: str
) -> LoraConfig:
    """Return a LoRA configuration (arXiv:2106.09685); by default on every linear layer."""
    return LoraConfig(
        r=rank,
        lora_alpha=alpha,  # type: ignore[arg-type]  # PEFT divides by the rank: any number works
        lora_dropout=dropout,
        target_modules=list(targets) if targets else "all-linear",
        task_type=task,
    )


def trainable_in_fp32(model: torch.nn.Module) -> None:
    """Convert trained weights to fp32: bf16 rounds away an update under 1/256 of the weight."""
    for parameter in model.parameters():
        if parameter.requires_grad:
            parameter.data = parameter.data.float()


def checkpoint_activations(model: Any) -> None:
    """Recompute a model's activations in the backward pass instead of keeping them."""
    renamed = getattr(model, "activation_checkpointing_enable", None)  # transformers 5.23
    (renamed or model.gradient_checkpointing_enable)({"use_reentrant": False})


def check_model_name(name: str, role: str) -> None:
    """Refuse a model that obviously doesn't exist, before a library tries to load it.

    Raises:
        UserError: an empty name, a file, or a folder without a model in it.
    """
    path = user_path(name)
    if not name.strip():
        raise UserError(f"the {role}'s name is empty; give a folder or a hub name")
    if path.is_file():
        raise UserError(f"{role} {name}: a file; give the folder that holds the model")
    if path.is_dir() and not any((path / file).exists() for file in _CONFIGS):
        raise UserError(f"{role} {name}: no model in this folder (no {', no '.join(_CONFIGS)})")
    if not path.exists() and (name.count("/") > 1 or name.startswith((".", "/", "~"))):
        raise UserError(f"{role} {name}: no such folder")
    check_whole(path, role)


def check_whole(folder: Path, role: str) -> None:
    """Refuse a model that this package wrote and that is no longer what it wrote.

    Large files, the weights, are compared by their size alone, which takes no time.

    Raises:
        UserError: names the file.
    """
    if not os.path.lexists(folder / "dalm.json"):
        return  # a manifest that is there is another program's
    try:
        artifacts.verify(folder, besides=EDITABLE, most_bytes=HASHED_BYTES)
    except DamagedError as error:
        raise UserError(
            f"{role} {folder}: {error}; export or copy it again, or, if you changed the file "
            f"yourself, delete {folder / artifacts.MANIFEST}"
        ) from error


def check_model_is_there(name: str, role: str) -> None:
    """Refuse a model that isn't available, where hours may pass before it is loaded.

    A name that is neither a folder nor in the hub's cache is looked up on the hub.

    Raises:
        UserError: as `check_model_name`, or the hub has no such model or is unreachable.
    """
    check_model_name(name, role)
    if user_path(name).is_dir():
        return

    def find() -> None:
        if not any(isinstance(try_to_load_from_cache(name, file), str) for file in _CONFIGS):
            HfApi().model_info(name)

    loaded(find, name, role)


def has_adapter(folder: str | Path) -> bool:
    """Return whether a folder holds LoRA adapters instead of full weights."""
    return (Path(folder) / ADAPTER).is_file()


def check_no_adapter(name: str, role: str) -> None:
    """Refuse LoRA adapters where full weights are to be trained: their base is frozen.

    Raises:
        UserError: names the command that folds them in.
    """
    try:
        found = find_adapter_config_file(name)
    except (OSError, ValueError):  # no such model: loading it explains that better
        return
    if found is not None:
        raise UserError(
            f"{role} {name} is a LoRA adapter, which can't be trained further; fold it into its "
            f"base first: dalm merge {name} --output-dir MERGED"
        )


@contextmanager
def elsewhere() -> Iterator[None]:
    """Work in an empty folder for the block, where no relative path leads anywhere."""
    with ExitStack() as stack:
        try:
            folder = stack.enter_context(TemporaryDirectory(prefix="dalm-"))
        except OSError:  # a full disk
            folder = Path.cwd().anchor
        stack.enter_context(chdir(folder))
        yield


def tell(role: str, name: str, parts: Sequence[str]) -> None:
    """Log a model in one line: what it is, how it is used, what it takes."""
    logger.info("%-9s  %s", role, ", ".join([name, *parts]))


def loaded(load: Callable[[], T], name: str, role: str) -> T:
    """Run `load` and turn a library's failure to find or read a model into one line.

    Raises:
        UserError: names the model, the reason, and a remedy (see `dalm.models.load_errors`).
    """
    try:
        with progress.quiet_bars():
            return load()
    except UserError:
        raise
    except Exception as error:  # damaged files make each library raise errors of its own
        if isinstance(error, AssertionError) and _is_own(error):
            raise
        raise UserError(
            f"{role} {name} can't be loaded: {load_errors.explain(error, name, role)}"
        ) from error


def _is_own(error: Exception) -> bool:
    """Tell whether an error was raised by this package, not by a library."""
    *_, (frame, _) = traceback.walk_tb(error.__traceback__)
    return str(frame.f_globals.get("__name__")).partition(".")[0] == "dalm"


def check_weights(model: torch.nn.Module, name: str, role: str) -> None:
    """Refuse a transformers model with randomly initialised weights that its files lack.

    That happens when an encoder is named as a generator. A pooler may be new: no embedding uses it.

    Raises:
        UserError: names the first such weight.
    """
    new = [key for key in new_weights(model) if "pooler" not in key.split(".")]
    if new:
        raise UserError(
            f"{role} {name}: {len(new)} weights of {type(model).__name__} are not in its files "
            f"({new[0]} ...) and would be random; is it another kind of model?"
        )


def new_weights(model: torch.nn.Module) -> list[str]:
    """Return the names of a transformers model's weights that its files lack."""
    # transformers marks the weights that it read; 4-bit weights are no floats and unmarked.
    return [
        key
        for key, weight in model.named_parameters()
        if weight.is_floating_point() and not getattr(weight, "_is_hf_initialized", False)
    ]


def check_tokenizer(tokenizer: Any, name: str, role: str) -> None:
    """Refuse a tokenizer without words: transformers makes one where a model's files have none.

    It would read every text as unknown tokens, or as no tokens at all.

    Raises:
        UserError: names what to copy.
    """
    if not hasattr(tokenizer, "get_vocab"):
        return
    special = {*tokenizer.added_tokens_encoder, *tokenizer.all_special_tokens}
    if not any(piece.strip("\u2581 ") and piece not in special for piece in tokenizer.get_vocab()):
        raise UserError(f"{role} {name}: {load_errors.NO_TOKENIZER}")


def name_tokenizer_code(folder: Path) -> None:
    """Name a saved tokenizer's own class as transformers reads it.

    transformers 5.23 writes one name, and reads two: of a slow and of a fast tokenizer.
    """
    for file in folder.rglob("tokenizer_config.json"):
        config = json.loads(file.read_text(encoding="utf-8"))
        own = config.get("auto_map", {}).get("AutoTokenizer")
        if isinstance(own, str):
            config["auto_map"]["AutoTokenizer"] = [None, own]
            artifacts.write_json(file, config)


def at_least_fp32(tensor: torch.Tensor) -> torch.Tensor:
    """Convert half precision to fp32; keep fp64."""
    return tensor.to(torch.promote_types(tensor.dtype, torch.float32))


def not_finite(what: str, placement: Placement) -> str:
    """Return what to say of a model that gives infinity or NaN, with the remedy."""
    broken = (
        "its weights are broken: copy or download it again, or go back to an earlier checkpoint"
    )
    remedy = broken if placement.precision == "fp32" else "use --precision fp32"
    return f"it gives infinity or NaN for {what} in {placement.precision}; {remedy}"


@contextmanager
def evaluating(module: torch.nn.Module) -> Iterator[None]:
    """Switch the module to evaluation mode in a `with` block: no dropout."""
    training = module.training
    module.eval()
    try:
        yield
    finally:
        module.train(training)


def hash_weights(hashed: Any, weights: Iterable[tuple[str, torch.Tensor]]) -> None:
    """Update a `hashlib` hash with weights: their names, types, shapes and bytes."""
    for name, weight in weights:
        hashed.update(f"{name} {weight.dtype} {tuple(weight.shape)}".encode())
        plain = weight.detach().cpu().contiguous().reshape(-1).view(torch.uint8)
        hashed.update(plain.numpy().data)


def parameter_counts(model: Any) -> tuple[int, int]:
    """Return the number of a model's weights, and of those that are trained."""
    counts = [(p.numel(), p.requires_grad) for p in model.parameters()]
    return sum(n for n, _ in counts), sum(n for n, trained in counts if trained)
