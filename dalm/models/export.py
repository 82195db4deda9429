"""Rewrite a saved embedding model in the layout that other inference servers read.

sentence-transformers 6 writes module paths and pooling settings that text-embeddings-inference
can't parse and that older versions of vLLM pool wrongly. All of them read the layout written here.
"""

import json
from pathlib import Path
from typing import Any

from dalm.artifacts import write_json

_OLD_MODULES = {"Transformer", "Pooling", "Normalize", "Dense", "LayerNorm"}
_POOLING_KEYS = {
    "cls": "pooling_mode_cls_token",
    "mean": "pooling_mode_mean_tokens",
    "max": "pooling_mode_max_tokens",
    "mean_sqrt_len_tokens": "pooling_mode_mean_sqrt_len_tokens",
    "weightedmean": "pooling_mode_weightedmean_tokens",
    "lasttoken": "pooling_mode_lasttoken",
}


def write_portable_layout(folder: Path, max_seq_length: int) -> None:
    """Rewrite the three files whose layout changed with sentence-transformers 6."""
    modules = json.loads((folder / "modules.json").read_text())
    for module in modules:
        kind = module["type"].rsplit(".", 1)[-1]
        if kind in _OLD_MODULES:
            module["type"] = f"sentence_transformers.models.{kind}"
        if kind == "Transformer":
            file = folder / module["path"] / "sentence_bert_config.json"
            lower = json.loads(file.read_text()).get("do_lower_case", False)
            write_json(file, {"max_seq_length": max_seq_length, "do_lower_case": lower})
        if kind == "Pooling":
            file = folder / module["path"] / "config.json"
            write_json(file, _portable_pooling(json.loads(file.read_text())))
    write_json(folder / "modules.json", modules)


def _portable_pooling(config: dict[str, Any]) -> dict[str, Any]:
    modes = config["pooling_mode"]
    active = {modes} if isinstance(modes, str) else set(modes)
    return {
        "word_embedding_dimension": config["embedding_dimension"],
        **{key: mode in active for mode, key in _POOLING_KEYS.items()},
        "include_prompt": config["include_prompt"],
    }
