"""Published methods as groups of settings: what is given wins, wherever it is given."""

from dataclasses import fields
from pathlib import Path
from typing import Annotated, get_args

import pytest
import yaml
from cyclopts import App, Parameter

from dalm.cli import app, run
from dalm.config import RagE2E, check
from dalm.config.joint_training import PRESETS, Preset, check_joint


def made(**options):
    return RagE2E(output_dir="out", **options)


def test_every_preset_has_its_settings_and_its_place_in_the_help():
    assert set(PRESETS) == set(get_args(Preset))
    names = {f.name for f in fields(RagE2E)}
    for settings in PRESETS.values():
        assert set(settings) <= names


PAPERS = {
    "rag-end2end": ("Siriwardhana et al. 2023", "2210.02627"),
    "atlas": ("Izacard et al. 2022", "2208.03299"),
    "replug": ("Shi et al. 2023", "2301.12652"),
    "ra-dit": ("Lin et al. 2023", "2310.01352"),
}


@pytest.mark.parametrize("name", PRESETS)
def test_the_help_and_the_page_explain_each_preset_with_its_paper(name, capsys):
    assert run(app, ["train-rag-e2e", "--help"]) == 0
    told = " ".join(capsys.readouterr().out.replace("│", " ").split())
    told = told[told.index("--preset") :]
    page = (Path(__file__).parents[2] / "docs" / "joint-training.md").read_text()
    page = page.split("## Presets")[1].split("## ")[0]
    [row] = [line for line in page.splitlines() if line.startswith(f"| `{name}` |")]
    authors, number = PAPERS.get(name, ("", ""))
    assert f"{name} ({authors}" in told if authors else f"{name}: " in told
    assert authors in row
    assert number in row


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_is_a_run_that_may_start(name):
    settings = made(preset=name)
    for option, value in PRESETS[name].items():
        assert getattr(settings, option) == value
    check(settings)
    check_joint(settings)


@pytest.mark.parametrize("name", PRESETS)
def test_a_preset_changes_something(name):
    assert made(preset=name) != made()
    plain = {f.name: f.default for f in fields(RagE2E)}
    assert any(plain[option] != value for option, value in PRESETS[name].items())


@pytest.mark.parametrize("name", PRESETS)
def test_without_a_preset_nothing_of_it_is_left(name):
    made(preset=name)
    assert made() == made(preset=None)
    assert made().objective == "rag_token"


def test_what_is_given_wins():
    settings = made(preset="atlas", num_candidates=3, contrastive_weight=0.5)
    assert (settings.num_candidates, settings.contrastive_weight) == (3, 0.5)
    assert (settings.objective, settings.reader_passages) == ("pdist", 4)


def test_what_is_given_wins_though_it_is_the_plain_default():
    assert RagE2E.contrastive_weight == 1.0
    assert made(preset="atlas", contrastive_weight=1.0).contrastive_weight == 1.0
    assert made(preset="two-phase", reader_warmup=0.0).reader_warmup == 0.0
    assert made(preset="replug", train_generator=True).train_generator is True


@pytest.fixture
def parse(capsys, tmp_path):
    """Return the settings that a command line gives."""

    def call(*arguments, config=None):
        found = []
        app = App(name="train", result_action="return_value")

        @app.default
        def door(settings: Annotated[RagE2E, Parameter(name="*")]):
            found.append(settings)

        line = ["--output-dir", "out", *arguments]
        if config is not None:
            file = tmp_path / "run.yaml"
            file.write_text(yaml.safe_dump(config))
            line += ["--config", str(file)]
        assert run(app, line) == 0, capsys.readouterr().err
        return found[0]

    return call


@pytest.mark.parametrize(
    ("arguments", "config", "expected"),
    [
        (["--preset", "atlas"], None, (8, 0.0)),
        (["--preset", "atlas", "--contrastive-weight", "1"], None, (8, 1.0)),
        (["--preset", "atlas", "--num_candidates", "4"], None, (4, 0.0)),
        ([], {"preset": "atlas"}, (8, 0.0)),
        ([], {"preset": "atlas", "contrastive_weight": 1.0}, (8, 1.0)),
        (["--preset", "atlas"], {"contrastive_weight": 1.0, "num_candidates": 4}, (4, 1.0)),
        (["--num-candidates", "5"], {"preset": "atlas", "num_candidates": 4}, (5, 0.0)),
        (["--preset", "rag-end2end"], {"preset": "atlas"}, (5, 0.0)),
    ],
)
def test_flags_go_before_files_and_files_before_presets(parse, arguments, config, expected):
    settings = parse(*arguments, config=config)
    assert (settings.num_candidates, settings.contrastive_weight) == expected
    assert settings.candidates == "index"
