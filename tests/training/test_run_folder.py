"""The output folder of a run: claimed while it is written, whole models with manifests."""

import json
import logging
import subprocess
import sys

import pytest
import yaml

from dalm import artifacts
from dalm.config import RetrieverOnly
from dalm.errors import UserError
from dalm.models.loading import place
from dalm.models.retriever import load_retriever
from dalm.training.objectives.contrastive import Contrastive
from dalm.training.run_folder import RunFolder

HOLD = """
import sys
from pathlib import Path
from dalm import artifacts

with artifacts.claim_folder(Path(sys.argv[1]), "--output-dir"):
    print("claimed", flush=True)
    sys.stdin.read()
"""


def folder_of(path, **options):
    return RunFolder(RetrieverOnly(output_dir=str(path), **options), {"dataset_path": "t.csv"})


@pytest.fixture
def other_process(tmp_path):
    """Another process that writes to the folder `run`."""
    process = subprocess.Popen(
        [sys.executable, "-c", HOLD, tmp_path / "run"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stdout.readline() == "claimed\n"
        yield process
        process.stdin.close()


@pytest.mark.parametrize("overwrite", [False, True])
def test_a_folder_that_another_process_writes_is_refused_at_once(
    tmp_path, other_process, overwrite
):
    with pytest.raises(UserError, match="another process is writing there") as refused:
        folder_of(tmp_path / "run", overwrite_output_dir=overwrite)
    assert str(refused.value).startswith(f"--output-dir {tmp_path / 'run'}: ")
    assert [path.name for path in (tmp_path / "run").iterdir()] == [".dalm.lock"]


def test_a_folder_is_claimed_while_it_is_open(tmp_path):
    first, second = folder_of(tmp_path / "run"), folder_of(tmp_path / "run")
    with first.open(), pytest.raises(UserError, match="another process"), second.open():
        pass


def test_a_run_that_was_finished_meanwhile_is_not_written_over(tmp_path):
    first, second = folder_of(tmp_path / "run"), folder_of(tmp_path / "run")
    with first.open():
        pass
    with pytest.raises(UserError, match="holds a run"), second.open():
        pass


def test_a_damaged_record_of_a_run_is_one_line_with_a_remedy(tmp_path):
    with artifacts.write_folder(tmp_path / "run" / "checkpoint-3") as checkpoint:
        (checkpoint / "trainer_state.json").write_text(json.dumps({"global_step": 3}))
        (checkpoint / "run.json").write_text("[")
    with pytest.raises(UserError, match=r"run.json is damaged .*; resume from another checkpoint"):
        folder_of(tmp_path / "run", resume_from_checkpoint="latest")


def test_models_are_exported_whole_with_card_and_manifest(tiny_models, tmp_path, caplog):
    run = folder_of(tmp_path / "run")
    old = tmp_path / "run" / "retriever"
    objective = Contrastive(load_retriever(str(tiny_models.encoder), place("cpu", "fp32")))
    with run.open(), caplog.at_level(logging.INFO):
        old.mkdir()
        (old / "left.bin").write_text("old")
        run.export(objective, "7 questions")
    assert f"{old}: loads from another folder, with the same vectors" in caplog.text
    artifacts.verify(old)
    names = {file.name for file in old.iterdir()}
    assert {"model.safetensors", "README.md", "manifest.json"} <= names
    assert "left.bin" not in names
    assert "7 questions" in (old / "README.md").read_text()
    assert {file.name for file in (tmp_path / "run").iterdir()} == {"retriever", "settings.yaml"}
    kept = yaml.safe_load((tmp_path / "run" / "settings.yaml").read_text())
    assert kept["dataset_path"] == "t.csv"


def test_what_fails_its_check_replaces_nothing(tiny_models, tmp_path):
    run = folder_of(tmp_path / "run")
    old = tmp_path / "run" / "retriever"
    objective = Contrastive(load_retriever(str(tiny_models.encoder), place("cpu", "fp32")))
    next(iter(objective.models()["retriever"].parameters())).data.fill_(float("nan"))
    with run.open():
        old.mkdir()
        (old / "left.bin").write_text("old")
        with pytest.raises(UserError):
            run.export(objective, "7 questions")
    assert [file.name for file in old.iterdir()] == ["left.bin"]
