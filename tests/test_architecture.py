"""The architecture: imports follow the list of stages, names are unique, one table of commands."""

import ast
import inspect
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from importlib.metadata import packages_distributions
from pathlib import Path

import pytest

import dalm
from dalm import config

PACKAGE = Path(__file__).parents[1] / "dalm"
FILES = sorted(PACKAGE.rglob("*.py"))
STAGES = (
    {"errors", "redaction", "stop_signals"},
    {"display", "file_reading"},
    {
        "analyser",
        "progress",
        "records",
        "config",
        "artifacts",
        "distributed",
        "plugins",
        "next_step",
    },
    {"collectives", "scaling"},
    {"prompts", "io"},
    {"ingest", "models"},
    {"llm"},
    {"retrieval", "training"},
    {"synth", "rag", "teachers"},
    {"user_feedback"},
    {"eval", "serving"},
    {"adaptation"},
    {"commands"},
    {"cli", "datasets", "__init__"},
    {"__main__"},
)
"""Folders and files of the package; each imports from the lines above its own only."""
SCRIPTS = {
    "train-retriever-only": "training/retriever_only/train_retriever_only.py",
    "train-rag-e2e": "training/rag_e2e/train_rage2e.py",
    "train-generator-only": "training/generator_only/train_generator_only.py",
    "merge": "models/merge_adapter.py",
    "eval-retriever": "eval/eval_retriever_only.py",
    "eval-rag": "eval/eval_rag.py",
    "compare": "eval/compare_runs.py",
    "mine-negatives": "retrieval/mine_negatives.py",
    "passages": "datasets/documents/make_passages.py",
    "qa-gen": "datasets/qa_gen/question_answer_generation.py",
    "reading-comprehension": "datasets/reading_comprehension/make_reading_comprehension.py",
    "pretrain": "training/pretrain/pretrain.py",
}
"""Script paths that stay where the original toolkit, or an earlier version, had them."""
MODULES = [file for file in FILES if str(file.relative_to(PACKAGE)) not in SCRIPTS.values()]
COMMANDS = {path.partition(":")[0] for path in dalm.COMMANDS.values()}


def module_of(file: Path) -> str:
    name = ".".join(file.relative_to(PACKAGE.parent).with_suffix("").parts)
    return name.removesuffix(".__init__")


def stage_of(module: str) -> int:
    parts = module.split(".")
    place = parts[1] if len(parts) > 1 else "__init__"
    return next(stage for stage, names in enumerate(STAGES) if place in names)


def imports_of(file: Path) -> Iterator[str]:
    """Yield the package's modules that a file imports, anywhere in it."""
    modules = {module_of(each) for each in FILES}
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names if alias.name.split(".")[0] == "dalm")
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the stage"
            assert node.module is not None
            if node.module.split(".")[0] == "dalm":
                inner = (f"{node.module}.{alias.name}" for alias in node.names)
                yield from (name if name in modules else node.module for name in inner)


@pytest.mark.parametrize("file", MODULES, ids=module_of)
def test_imports_point_up(file: Path) -> None:
    module = module_of(file)
    if module == "dalm":
        return  # it names the commands for type checkers
    for imported in imports_of(file):
        same = module.split(".")[1:2] == imported.split(".")[1:2]
        if not same and imported != "dalm":
            assert stage_of(imported) < stage_of(module), f"{module} imports {imported}"


@pytest.mark.parametrize("file", MODULES, ids=module_of)
def test_nobody_imports_a_command_but_the_demo(file: Path) -> None:
    if module_of(file) not in {"dalm", "dalm.commands.demo"}:
        assert not COMMANDS & set(imports_of(file))


def test_a_command_imports_heavy_things_inside_its_function() -> None:
    for name in COMMANDS:
        file = PACKAGE.parent / Path(*name.split(".")).with_suffix(".py")
        names = set[str]()
        for node in ast.parse(file.read_text()).body:
            if isinstance(node, ast.ImportFrom):
                names.add(node.module or "")
            elif isinstance(node, ast.Import):
                names |= {alias.name for alias in node.names}
        light = {
            "dalm.config",
            "dalm.display",
            "dalm.errors",
            "dalm.file_reading",
            "dalm.ingest.loaders",
            "cyclopts",
        }
        assert names <= light | sys.stdlib_module_names, file


def test_no_two_modules_share_a_name() -> None:
    names = Counter(file.stem for file in MODULES if file.stem != "__init__")
    assert not [name for name, count in names.items() if count > 1]


def test_one_module_writes_to_the_terminal() -> None:
    """There control characters are escaped, and brackets are no markup."""
    for file in MODULES:
        code = ast.walk(ast.parse(file.read_text()))
        calls = {
            n.func.id for n in code if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)
        }
        alone = {"display", "cli", "__main__"}  # the version; "stopped" before anything is imported
        assert file.stem in alone or not calls & {"print", "Console"}, file


@pytest.mark.parametrize(("command", "script"), SCRIPTS.items())
def test_a_script_runs_its_command_and_nothing_else(command: str, script: str) -> None:
    lines = (PACKAGE / script).read_text().splitlines()
    code = [line for line in lines if line and not line.startswith('"""')]
    assert code == [
        "from dalm.cli import run_script",
        'if __name__ == "__main__":',
        f'    run_script("{command}")',
    ]


@pytest.mark.parametrize("script", SCRIPTS.values())
def test_no_module_beside_a_script_hides_another(script: str) -> None:
    """A script puts its own folder first on `sys.path`."""
    taken = sys.stdlib_module_names | set(packages_distributions()) - {"dalm"}
    beside = {p.stem for p in (PACKAGE / script).parent.iterdir() if p.suffix in ("", ".py")}
    assert not (beside - {"__init__", "__pycache__"}) & taken


def test_every_command_is_a_function_of_the_package_and_of_the_command_line() -> None:
    from dalm.cli import app

    files = {module_of(file) for file in (PACKAGE / "commands").glob("[!_]*.py")}
    assert files == COMMANDS, "a file for each command, and every command in the table"
    for name, path in dalm.COMMANDS.items():
        function = inspect.unwrap(getattr(dalm, path.partition(":")[2]))
        assert function is dalm.command(name)
        assert app[name].default_command is function
        assert path.partition(":")[2] == name.replace("-", "_")


def test_type_checkers_see_what_the_package_offers() -> None:
    tree = ast.parse((PACKAGE / "__init__.py").read_text())
    seen = {
        alias.asname
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("dalm.")
        for alias in node.names
    }
    functions = {path.partition(":")[2] for path in dalm.COMMANDS.values()}
    assert seen == functions | set(config.COMMAND_OPTIONS)


@pytest.mark.parametrize("file", FILES, ids=module_of)
def test_a_module_says_what_it_does(file: Path) -> None:
    first = (ast.get_docstring(ast.parse(file.read_text())) or "").splitlines()[0]
    assert first.endswith("."), file


def test_import_and_help_do_not_load_torch() -> None:
    code = """
import sys
import dalm
from dalm.cli import app, run
for line in (["--help"], ["version"], *([name, "--help"] for name in dalm.COMMANDS)):
    assert run(app, line) == 0, line
for line in ([name, "--no-such-option"] for name in dalm.COMMANDS):
    assert run(app, line) == 2, line
for name in dir(dalm):
    getattr(dalm, name)
heavy = {"torch", "transformers", "sentence_transformers", "datasets", "peft", "numpy"}
assert not heavy & set(sys.modules), heavy & set(sys.modules)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
