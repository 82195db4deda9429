"""The arms of the comparison on a fixed index have valid options."""

import sys
from pathlib import Path

import pytest
import torch

import dalm
from dalm.config.options import check
from dalm.config.retriever_training import check_retriever_only

FOLDER = Path(__file__).parents[2] / "experiments"


def test_every_arm_has_valid_options(monkeypatch: pytest.MonkeyPatch) -> None:
    """Scripts import their neighbours from their own folder."""
    threads = torch.get_num_threads()
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    import query_side

    torch.set_num_threads(threads)
    for name in query_side.DOMAINS:
        setting = query_side.setting_of(name)
        for given in query_side.ARMS.values():
            options = {**setting.training, **setting.contrast, **(given or {})}
            settings = dalm.RetrieverOnly(output_dir="run", **options)
            check(settings)
            check_retriever_only(settings)
