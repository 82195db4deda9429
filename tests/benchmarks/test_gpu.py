"""The benchmark for a GPU: every part runs on the CPU with tiny models, and a call goes on."""

import json
import math
import time
from pathlib import Path
from typing import Any

import pytest

# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def test_every_part_measures_on_tiny_models(
    benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parts, models = benchmark("gpu_parts"), benchmark("gpu_models")
    monkeypatch.setattr(parts, "STEPS", 3)
    monkeypatch.setattr(parts, "COUNTED", (1, 2))
    models.prepare(tmp_path / "models", tiny=True)
    built = (tmp_path / "models" / "complete").stat().st_mtime_ns
    found = {}
    for name in ("train in-batch", "train 4-bit", "encode", "refresh", "generate 16"):
        models.prepare(tmp_path / "models", tiny=True)
        found[name] = parts.PARTS[name](tmp_path / "models", tiny=True)
    assert (tmp_path / "models" / "complete").stat().st_mtime_ns == built, "models are built once"
    assert json.loads(json.dumps(found)) == found, "a part's figures are a line of a file"
    figures = [each for part in found.values() for each in part.values() if each != "skipped"]
    assert all(math.isfinite(each) for each in figures if not isinstance(each, str))
    encoded, trained = found["encode"], found["train in-batch"]
    assert encoded["tokens_per_second"] > 20 * encoded["passages_per_second"]
    minutes = encoded["minutes_for_a_million"]
    assert minutes == pytest.approx(1e6 / encoded["passages_per_second"] / 60)
    for each in (encoded, trained):
        assert 0 < each["flops"] < each["peak_flops"]
    assert trained["tokens_per_second"] > 20 * trained["samples_per_second"]
    assert found["train 4-bit"] == {"skipped": "4-bit weights need an NVIDIA GPU"}
    assert 0 < found["generate 16"]["new_tokens"] <= 16 * 8


@pytest.fixture
def call(benchmark: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a way to run three parts of which the second fails once; it returns what ran."""
    gpu = benchmark("gpu")
    monkeypatch.setattr(gpu, "machine", lambda: "NVIDIA A100")
    ran: list[str] = []

    def run_part(name: str, *, tiny: bool) -> dict[str, Any] | None:
        ran.append(name)
        if name == "b" and ran.count("b") == 1:
            return None
        return {"part": name, "device": gpu.machine(), "run": len(ran)}

    monkeypatch.setattr(gpu, "run_part", run_part)

    def run(minutes: float) -> tuple[list[str], list[str]]:
        before = len(ran)
        end = time.monotonic() + 60 * minutes
        left = gpu.run_parts(["a", "b", "c"], tmp_path / "lines.jsonl", end, tiny=True)
        return left, ran[before:]

    run.gpu = gpu  # type: ignore[attr-defined]
    return run


def test_a_call_goes_on_where_the_last_one_stopped(call: Any, tmp_path: Path) -> None:
    assert call(0) == (["a", "b", "c"], []), "nothing begins after the time"
    assert call(5) == (["b"], ["a", "b", "c"]), "a part that fails stops no other"
    assert call(5) == ([], ["b"])
    assert call(5) == ([], [])
    lines = call.gpu.lines_of(tmp_path / "lines.jsonl")
    assert [line["part"] for line in lines] == ["a", "c", "b"]


def test_another_gpu_has_lines_of_its_own(call: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call(5)
    monkeypatch.setattr(call.gpu, "machine", lambda: "NVIDIA H100")
    assert call(5) == ([], ["a", "b", "c"])


def test_the_tables_name_the_device_and_what_is_extrapolated(
    benchmark: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    gpu = benchmark("gpu")
    written: dict[str, Any] = {}
    monkeypatch.setattr(gpu, "table", lambda name, *given, **more: written.update({name: given}))
    common = {"device": "NVIDIA A100", "origin": "then", "gib": 60.04, "peak_flops": 4e14}
    speed = {"tokens_per_second": 6400.0, "flops": 1e14}
    lines = [
        {"part": "tests", "passed": 5, **common},
        {"part": "train in-batch", "samples_per_second": 5.55, **speed, **common},
        {"part": "train 4-bit", "skipped": "no", **common},
        {"part": "encode", "slice": 16384, "minutes_for_a_million": 12.3, **speed, **common}
        | {"minutes_to_tokenise_a_million": 2.5},
        {"part": "refresh", "vectors": 1000000, "slice": 4096, "encoding_minutes": 12.0, **common}
        | {"moving_seconds": 1.5, "search_milliseconds": 3.3},
        {"part": "generate 16", "batch": 16, "new_tokens": 2048, "seconds": 4.0, **speed, **common},
    ]
    gpu.tables(lines, trial=True)
    [trained] = written["gpu_training"][2]
    cells = ("5.5", "6,400", "100.0", "25%", "60.0")
    assert trained == ("NVIDIA A100", "`rag_token`, 4 passages of the batch", *cells)
    used = written["gpu_use"][2]
    assert [each[:2] for each in used] == [
        ("NVIDIA A100", "encoding passages"),
        ("NVIDIA A100", "refreshing 1,000,000 vectors"),
        ("NVIDIA A100", "generation, 16 at once"),
    ]
    assert "12.3 min, extrapolated from 16,384" in used[0][-1]
    assert "extrapolated from 4,096; moving the vectors 1.5 s" in used[1][-1]
