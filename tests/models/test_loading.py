"""The precision that models compute in: fast on this hardware unless one is named."""

import logging

import pytest
import torch

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.loading import has_bf16, place

CPU = torch.device("cpu")


@pytest.fixture
def emulated(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let the CPU have no bf16 arithmetic, as oneDNN is told by its own variable."""
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX2")
    loading._warn_of_emulated_bf16.cache_clear()


def test_auto_is_fp32_on_a_cpu_without_bf16_and_says_nothing(
    emulated: None, caplog: pytest.LogCaptureFixture
) -> None:
    assert not has_bf16(CPU)
    assert place("cpu", "auto").precision == "fp32"
    assert not caplog.messages


@pytest.mark.parametrize("found", [("avx512_bf16",), ("amx_tile",), ("avx512_bf16", "amx_tile")])
def test_auto_is_bf16_where_the_cpu_has_it(found, monkeypatch, caplog) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda name=name: name in found)
    monkeypatch.delenv("ONEDNN_MAX_CPU_ISA", raising=False)
    assert place("cpu", "auto").precision == "bf16"
    assert place("cpu", "bf16").precision == "bf16"
    assert not caplog.messages
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_BF16")
    assert has_bf16(CPU)
    monkeypatch.setenv("ONEDNN_MAX_CPU_ISA", "AVX512_CORE_VNNI")
    assert not has_bf16(CPU)


def test_a_cpu_without_both_has_no_bf16(monkeypatch) -> None:
    for name in ("avx512_bf16", "amx_tile"):
        monkeypatch.setattr(torch.cpu, f"_is_{name}_supported", lambda: False)
    assert place("cpu", "auto").precision == "fp32"


def test_emulated_bf16_that_is_asked_for_is_warned_of_once(emulated: None, caplog) -> None:
    caplog.set_level(logging.WARNING, "dalm")
    assert place("cpu", "bf16").precision == "bf16"
    assert place("cpu", "bf16").precision == "bf16"
    [message] = caplog.messages
    assert message.startswith("--precision bf16: this CPU has neither AVX512-BF16 nor AMX")
    assert "use --precision auto or fp32" in message
    assert "\n" not in message


def test_fp16_is_refused_on_a_cpu() -> None:
    with pytest.raises(UserError, match="--precision fp16 needs a GPU"):
        place("cpu", "fp16")
