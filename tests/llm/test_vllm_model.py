"""vLLM in a Ray cluster: its configuration is shown, and what can't run here is refused."""

from pathlib import Path

import pytest
import yaml

from dalm.cli import app, run


@pytest.fixture
def line(tiny_table: Path, tmp_path: Path) -> list[str]:
    pytest.importorskip("ray", reason="needs the extra ray")
    line = ["qa-gen", str(tiny_table), "--output-dir", str(tmp_path / "out"), "--backend", "vllm"]
    return [*line, "--model", "org/model-7b"]


def test_a_dry_run_shows_the_configuration(
    line: list[str], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    actors = ["--ray-actors", "2", "--ray-max-actors", "8"]
    assert run(app, [*line, "--ray", *actors, "--dry-run"]) == 0
    said = capsys.readouterr().out
    shown = said[said.index("model_source") : said.index("requests")]
    assert yaml.safe_load(shown) == {
        "model_source": "org/model-7b",
        "batch_size": 64,
        "concurrency": [2, 8],
        "engine_kwargs": {"enable_prefix_caching": True, "enable_chunked_prefill": True},
    }
    assert "requests    10, of which 0 are answered" in said
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--ray"], '--backend vllm needs vllm on machines with GPUs: pip install "ray[llm]"'),
        ([], "--backend vllm runs in a Ray cluster: add --ray"),
        (["--ray", "--ray-gpus", "0.5"], "--ray-gpus has no effect on --backend vllm"),
    ],
)
def test_what_cannot_run_is_refused(
    line: list[str],
    options: list[str],
    message: str,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("dalm.llm.vllm_model.find_spec", lambda name: None)
    assert run(app, [*line, *options]) == 2
    assert message in " ".join(capsys.readouterr().err.split())


def test_a_folder_whose_files_change_is_another_model(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="needs the extra ray")
    from dalm.llm.vllm_model import VllmModel
    from dalm.scaling.ray_pool import RayPool

    def identity(name: str) -> str:
        return VllmModel(name, {"max_tokens": 8}, RayPool("local")).identity

    folder = tmp_path / "model"
    folder.mkdir()
    (folder / "model.safetensors").write_bytes(b"old")
    before = identity(str(folder))
    assert identity(str(folder)) == before
    (folder / "model.safetensors").write_bytes(b"newer")
    assert identity(str(folder)) != before
    assert identity("org/model-7b") == "org/model-7b"
