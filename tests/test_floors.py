"""The house: imports point up the list of floors, folders say what they are for, names are free."""

import ast
import subprocess
import sys
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "dalm"
FILES = sorted(PACKAGE.rglob("*.py"))
FLOORS = (
    {"errors"},
    {"progress", "records", "settings", "prompts"},
    {"asking"},
    {"datasets", "models"},
    {"retrieval", "training"},
    {"serving"},
    {"eval"},
    {"doors"},
    {"cli"},
    {"demo", "__main__", "__init__"},
)
DOORS = {
    "dalm.commands.train_retriever",
    "dalm.commands.train_rag",
    "dalm.commands.train_generator",
    "dalm.commands.merge",
    "dalm.commands.pretrain",
    "dalm.commands.eval_retriever",
    "dalm.commands.eval_rag",
    "dalm.commands.compare",
    "dalm.commands.mine_negatives",
    "dalm.commands.passages",
    "dalm.commands.qa_gen",
    "dalm.commands.reading_comprehension",
}
RUNS_DOORS = {"dalm.commands.demo"}
"""The demo runs a door from Python; `__init__` names them for whoever asks (PEP 562)."""


def module_of(file: Path) -> str:
    name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def house_of(module: str) -> str:
    if module in DOORS:
        return "doors"
    parts = module.split(".")
    return parts[1] if len(parts) > 1 else "__init__"


def floor_of(house: str) -> int:
    return next(floor for floor, houses in enumerate(FLOORS) if house in houses)


def imports_of(file: Path) -> Iterator[str]:
    """Yield the package's modules that a file imports, anywhere in it."""
    modules = {module_of(each) for each in FILES}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "dalm")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the floor"
            assert node.module is not None
            if node.module.split(".")[0] == "dalm":
                inner = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name if name in modules else node.module for name in inner)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_imports_point_up(file: Path) -> None:
    module = module_of(file)
    house = house_of(module)
    for imported in imports_of(file):
        other = house_of(imported)
        runs_itself = house == "doors" and imported == "dalm.cli"  # behind `__main__` alone
        if other in (house, "__init__") or runs_itself or module == "dalm":
            continue
        assert floor_of(other) < floor_of(house), f"{module} imports {imported}"


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_nobody_imports_a_door(file: Path) -> None:
    if module_of(file) not in {"dalm", *RUNS_DOORS}:
        assert not DOORS & set(imports_of(file))


def test_a_door_imports_heavy_things_inside_its_function() -> None:
    for file in FILES:
        if module_of(file) in DOORS | RUNS_DOORS:
            names = set[str]()
            for node in ast.parse(file.read_text()).body:
                if isinstance(node, ast.ImportFrom):
                    names.add(node.module or "")
                elif isinstance(node, ast.Import):
                    names |= {alias.name for alias in node.names}
            light = {"dalm.config", "dalm.errors", "dalm.prompts", "cyclopts"}
            light |= sys.stdlib_module_names
            assert names <= light, file


def test_no_module_beside_a_door_hides_another() -> None:
    """A script puts its own folder first on `sys.path`."""
    taken = sys.stdlib_module_names | set(packages_distributions()) - {"dalm"}
    for door in DOORS:
        folder = (PACKAGE.parent / Path(*door.split("."))).parent
        beside = {path.stem for path in folder.iterdir() if path.suffix in ("", ".py")}
        assert not (beside - {"__init__", "__pycache__"}) & taken, folder


@pytest.mark.parametrize(
    "folder", sorted({f.parent for f in FILES if f.parent != PACKAGE}), ids=lambda f: f.name
)
def test_a_folder_says_what_goes_in_and_what_comes_out(folder: Path) -> None:
    first = folder / "__init__.py"
    doors = [file for file in folder.glob("*.py") if module_of(file) in DOORS]
    [said] = [first] if first.exists() else doors  # a door's folder holds the door alone
    line = (ast.get_docstring(ast.parse(said.read_text())) or "").splitlines()[0].lower()
    assert " in" in line
    assert " out" in line


def test_import_and_help_do_not_load_torch() -> None:
    code = """
import sys
import dalm
from dalm import EvalRag, EvalRetriever, RagE2E, RetrieverOnly
from dalm.cli import app, run
commands = ("train-generator-only", "merge",
    "train-retriever-only", "train-rag-e2e", "eval-retriever", "eval-rag", "demo",
    "mine-negatives", "passages", "reading-comprehension", "qa-gen", "pretrain")
for line in (["--help"], ["version"], *([name, "--help"] for name in commands)):
    assert run(app, line) == 0, line
for line in ([name, "--no-such-option"] for name in commands):
    assert run(app, line) == 2, line
from dalm import train_rag_e2e, train_retriever_only, eval_retriever, eval_rag, mine_negatives
from dalm import QaGen, passages, qa_gen, reading_comprehension
from dalm import Pretraining, pretrain
heavy = {"torch", "transformers", "sentence_transformers", "datasets", "peft", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
