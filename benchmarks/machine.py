"""Name the machine, the versions and the command that a table is measured with."""

import os
import sys
from datetime import date
from importlib.metadata import version
from pathlib import Path

LIMITS = (
    "OMP_NUM_THREADS",
    "ATEN_CPU_CAPABILITY",
    "MKL_ENABLE_INSTRUCTIONS",
    "MKL_CBWR",
    "ONEDNN_MAX_CPU_ISA",
)
"""Variables of the environment that change what is measured; they belong to the command."""


def provenance() -> str:
    """Return the date, the instruction set or GPU, cores and torch's version, and the command."""
    today = date.today()
    day = f"{today.day} {today:%B %Y}"
    return f"{day}; {machine()}; torch {version('torch')}; `{command()}`"


def machine() -> str:
    """Return the name of the GPU if there is one, else the CPU's instruction set and its cores."""
    import torch

    if torch.cuda.is_available():
        return str(torch.cuda.get_device_name())
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    return f"{instruction_set()}, {cores} core{'s' * (cores != 1)}"


def instruction_set() -> str:
    """Return the largest instruction set that torch uses here, with AVX512-BF16 and AMX."""
    import torch

    name = str(torch.backends.cpu.get_cpu_capability()).replace("DEFAULT", "no vector instructions")
    if name != "AVX512" or os.environ.get("ONEDNN_MAX_CPU_ISA"):
        return name
    name += "-BF16" * bool(torch.cpu._is_avx512_bf16_supported())
    return name + " with AMX" * bool(torch.cpu._is_amx_tile_supported())


def command() -> str:
    """Return the command line as it is run from the repository's root, without folders of files."""
    limits = [f"{name}={os.environ[name]}" for name in LIMITS if name in os.environ]
    script = Path(sys.argv[0])
    words = [Path(word).name if "/" in word else word for word in sys.argv[1:]]
    return " ".join([*limits, "python", f"{script.resolve().parent.name}/{script.name}", *words])
