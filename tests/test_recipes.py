"""The recipes are configs that parse, and that start on small models and tables."""

import json
import logging
import re
from pathlib import Path

import pytest
import yaml

from dalm.cli import app, run

RECIPES = Path(__file__).parents[1] / "recipes"
COMMANDS = {
    "pubmed": "pretrain",
    "patents": "pretrain",
    "sec": "pretrain",
    "reading": "train-generator-only",
}
TEXTS = [
    f"Case {n}. {name} was seen in {town} with {pet}, and went home on day {n % 9}."
    for n in range(40)
    for name, town, pet in (("Ada", "Ulm", "a dog"), ("Bela", "Bern", "two cats"))
]


@pytest.fixture(scope="module")
def generator(tmp_path_factory):
    """A small generator that takes rows as long as the recipes'."""
    from dalm.models.tiny import build_generator

    folder = tmp_path_factory.mktemp("model")
    sizes = {"width": 16, "layers": 1, "heads": 2, "vocabulary": 320, "max_length": 2048}
    return build_generator(TEXTS, folder / "generator", **sizes)


@pytest.fixture(scope="module")
def texts(tmp_path_factory):
    """Texts as `dalm reading-comprehension` writes them."""
    file = tmp_path_factory.mktemp("texts") / "texts.jsonl"
    rows = [{"Title": f"Case {n}", "Text": text} for n, text in enumerate(TEXTS)]
    file.write_text("\n".join(map(json.dumps, rows)))
    return file


def test_every_recipe_is_tried_and_told_of():
    assert {file.stem for file in RECIPES.glob("*.yaml")} == set(COMMANDS)
    told = (RECIPES / "README.md").read_text()
    assert all(f"`{name}.yaml`" in told for name in COMMANDS)


@pytest.mark.parametrize("name", COMMANDS)
def test_a_recipe_names_options_that_there_are(name):
    kept = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
    bound = app[COMMANDS[name]].assemble_argument_collection()
    known = {n.removeprefix("--").replace("-", "_") for a in bound for n in a.names}
    assert set(kept) <= known


@pytest.mark.parametrize("name", COMMANDS)
def test_a_recipe_starts(name, generator, texts, tiny_models, tiny_table, tmp_path, caplog):
    line = [COMMANDS[name], "--config", RECIPES / f"{name}.yaml", "--dry-run"]
    line += ["--output-dir", tmp_path / "out", "--generator-name-or-path", generator]
    line += ["--precision", "fp32", "--dataset-path"]
    if name == "reading":
        line += [tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    else:
        line += [texts, "--replay", texts.with_name("general.jsonl")]
        general = [json.dumps({"title": f"T{n}", "text": f"Rain on day {n}."}) for n in range(40)]
        texts.with_name("general.jsonl").write_text("\n".join(general))
    with caplog.at_level(logging.INFO):
        assert run(app, [str(part) for part in line]) == 0
    assert "nothing was written" in caplog.text
    assert "⟦<eos>⟧" in caplog.text
    steps = yaml.safe_load((RECIPES / f"{name}.yaml").read_text()).get("max_train_steps")
    assert steps is None or f"{steps} updates" in caplog.text
    assert not (tmp_path / "out").exists()


def test_commands_of_the_page_are_commands():
    """Each line's command is there, and takes its options."""
    page = (RECIPES / "README.md").read_text().replace("\\\n", " ")
    lines = re.findall(r"^dalm ([a-z-]+)(.*)$", page, re.MULTILINE)
    lines += re.findall(r"`dalm ([a-z-]+)([^`]*)`", page)
    assert len(lines) >= 9
    for command, rest in lines:
        known = {n for a in app[command].assemble_argument_collection() for n in a.names}
        options = set(re.findall(r"--[a-z-]+", rest)) - {"--config"}
        assert options <= known, command


def test_the_arithmetic_of_the_page():
    page = (RECIPES / "README.md").read_text()
    for name in ("pubmed", "patents", "sec"):
        kept = yaml.safe_load((RECIPES / f"{name}.yaml").read_text())
        tokens = kept["sequence_length"] * kept["per_device_train_batch_size"]
        assert tokens * kept["gradient_accumulation_steps"] == 131_072
        assert kept["max_train_steps"] == 8_000
    assert "131,072 tokens reads 1.05 billion" in page
    tokens = 8_000 * 131_072
    assert tokens == pytest.approx(1.05e9, rel=0.01)
    hours = 8 * 1.7e9 * tokens / 4e14 / 3600
    assert 9.5 < hours < 10.5
