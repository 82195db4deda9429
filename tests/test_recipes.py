"""The recipes are configs that parse, and that start on small models and tables."""

import argparse
import json
import logging
import os
import re
import shlex
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

from dalm.cli import app, run

RECIPES = Path(__file__).parents[1] / "recipes"
COMMANDS = {
    "pubmed": "pretrain",
    "patents": "pretrain",
    "sec": "pretrain",
    "reading": "train-generator-only",
    "joint": "train-rag-e2e",
}
LAUNCHES = sorted((RECIPES / "launches").iterdir())
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
    if name in ("reading", "joint"):
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
    lines = re.findall(r"^dalm ([a-z0-9-]+)(.*)$", page, re.MULTILINE)
    lines += re.findall(r"`dalm ([a-z0-9-]+)([^`]*)`", page)
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


def scripts_of(launch: Path) -> list[str]:
    """Return the shell scripts of a launch."""
    if launch.suffix != ".yaml":
        return [launch.read_text()]
    documents = list(yaml.safe_load_all(launch.read_text()))
    if launch.stem == "skypilot":
        return [documents[0]["setup"], documents[0]["run"]]
    [container] = documents[1]["spec"]["template"]["spec"]["containers"]
    assert container["command"] == ["bash", "-c"]
    return container["args"]


def launched(launch: Path) -> tuple[argparse.Namespace, list[str]]:
    """Return what torchrun understands of a launch, and the arguments of dalm."""
    from torch.distributed.run import get_args_parser

    text = "\n".join(scripts_of(launch)).replace("\\\n", " ")
    [line] = [each for each in text.splitlines() if "torchrun" in each and not each.startswith("#")]
    line = re.sub(r"\$(JOB_COMPLETION_INDEX|SKYPILOT_NODE_RANK)", "1", line)
    words = shlex.split(line[line.index("torchrun ") :])[1:]
    options = get_args_parser().parse_args(words)
    assert (options.module, options.training_script) == (True, "dalm")
    return options, [w for w in options.training_script_args if w not in ("$@", "${RESUME[@]}")]


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.name)
def test_the_shell_of_a_launch_parses(launch):
    for text in scripts_of(launch):
        done = subprocess.run(
            ["bash", "-n"], input=text, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stderr
    told = (RECIPES / "README.md").read_text()
    assert f"launches/{launch.name}" in told


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.name)
def test_a_launch_starts_a_process_for_each_gpu_of_all_machines(launch):
    options, words = launched(launch)
    assert options.nproc_per_node in ("gpu", "$SKYPILOT_NUM_GPUS_PER_NODE")
    met = options.rdzv_endpoint or options.master_addr
    several = options.rdzv_endpoint.endswith(":29500") or options.node_rank == 1
    assert several != options.standalone, "processes on several machines have to find each other"
    assert not several or met not in ("", "127.0.0.1")
    assert words[:3] == ["train-rag-e2e", "--config", "recipes/joint.yaml"]


@pytest.mark.parametrize("launch", LAUNCHES, ids=lambda launch: launch.name)
def test_the_command_of_a_launch_is_read_by_the_command_line(
    launch, tmp_path, tiny_models, generator, tiny_table, monkeypatch, caplog
):
    """The config's names are replaced by small models; all else is as it stands."""
    _, words = launched(launch)
    monkeypatch.chdir(RECIPES.parent)
    words += ["--dataset-path", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    words += ["--generator-name-or-path", generator, "--precision", "fp32", "--device", "cpu"]
    words = [str(word) for word in words]
    command, bound, ignored = _parsed(words)
    settings = bound.arguments.values()
    assert command is not None
    assert not ignored
    [given] = [each for each in settings if hasattr(each, "use_peft")]
    assert (given.use_peft, given.per_device_train_batch_size) == ("both", 8)
    assert given.output_dir in ("runs/joint", "/runs/joint")
    assert given.shard == ("none" if launch.stem == "one-node" else "full")


def _parsed(words: list[str]) -> Any:
    """Parse a command line with its config, as `dalm` does before it calls the command."""
    from dalm.cli import _read_config, _split_config

    tokens, config = _split_config(words)
    app.config = (_read_config(config),)
    try:
        return app.parse_args(tokens, exit_on_error=False, print_error=False)
    finally:
        app.config = ()


SCHEDULER = """#!/bin/sh
case "$0" in
  *scontrol) printf 'node1\\nnode2\\n' ;;
  *srun) shift; exec "$@" ;;
  *) echo "$@" > called ;;
esac
"""


@pytest.mark.parametrize(
    ("found", "restarts", "more"),
    [
        ("", "0", ""),
        ("runs/joint/checkpoint-200", "1", " --resume-from-checkpoint latest"),
        ("runs/joint", "1", " --overwrite-output-dir"),
    ],
)
def test_a_job_of_slurm_goes_on_when_it_is_requeued(found, restarts, more, tmp_path):
    """The job's script runs as it stands, with stand-ins for Slurm's commands and torchrun."""
    for name in ("scontrol", "srun", "torchrun"):
        stand_in = tmp_path / "bin" / name
        stand_in.parent.mkdir(exist_ok=True)
        stand_in.write_text(SCHEDULER)
        stand_in.chmod(0o755)
    (tmp_path / found).mkdir(parents=True, exist_ok=True)
    job = {"SLURM_JOB_NODELIST": "node[1-2]", "SLURM_NNODES": "2", "SLURM_JOB_ID": "7"}
    job |= {"SLURM_RESTART_COUNT": restarts, "PATH": f"{tmp_path / 'bin'}:{os.environ['PATH']}"}
    script = RECIPES / "launches" / "slurm.sbatch"
    subprocess.run(["bash", script, "--seed", "1"], cwd=tmp_path, env=job, check=True)
    assert (tmp_path / "called").read_text() == (
        "--nnodes 2 --nproc-per-node gpu --rdzv-id 7 --rdzv-backend c10d "
        "--rdzv-endpoint node1:29500 -m dalm train-rag-e2e --config recipes/joint.yaml --shard full"
        f"{more} --seed 1\n"
    )


def test_the_pods_of_the_kubernetes_job_find_each_other():
    service, job = yaml.safe_load_all((RECIPES / "launches" / "kubernetes.yaml").read_text())
    options, _ = launched(RECIPES / "launches" / "kubernetes.yaml")
    name, spec = job["metadata"]["name"], job["spec"]
    pod = spec["template"]["spec"]
    assert service["spec"] == {"clusterIP": "None", "selector": {"job-name": name}}
    assert pod["subdomain"] == service["metadata"]["name"]
    assert options.master_addr == f"{name}-0.{service['metadata']['name']}"
    assert spec["completionMode"] == "Indexed"
    assert int(options.nnodes) == spec["completions"] == spec["parallelism"]
    mounted = {mount["name"] for mount in pod["containers"][0]["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
