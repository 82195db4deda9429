"""The suite of benchmarks: all are run, one after another, whatever one of them does."""

import json
import sys
from pathlib import Path
from typing import Any

import pytest

from benchmarks import suite

SCRIPT = """
import os
from pathlib import Path
def table(name): print("| 1 |"); print(f"wrote table {name} in docs/speed.md")
Path("ran").open("a").write("NAME ")
if "NAME" == "second" and not Path("repaired").exists():
    raise SystemExit("no peer installed")
table("table_NAME")
"""


@pytest.fixture
def call(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> Any:
    """Return a way to run the suite over three scripts: its code, last line, and what it ran."""
    (tmp_path / "scripts").mkdir()
    for name in ("first", "second", "third"):
        script = tmp_path / "scripts" / f"{name}.py"
        script.write_text(SCRIPT.replace("NAME", name))
    (tmp_path / "scripts" / "machine.py").write_text("print('no benchmark')")
    monkeypatch.setattr(suite, "HERE", tmp_path / "scripts")
    monkeypatch.setattr(suite, "OUTPUTS", tmp_path / "outputs")
    monkeypatch.chdir(tmp_path)

    def run(*arguments: str) -> tuple[int, str, list[str]]:
        monkeypatch.setattr(sys, "argv", ["suite.py", *arguments])
        with pytest.raises(SystemExit) as ended:
            suite.main()
        ran = Path("ran").read_text().split() if Path("ran").exists() else []
        Path("ran").unlink(missing_ok=True)
        return int(ended.value.code or 0), capfd.readouterr().out.splitlines()[-1], ran

    return run


def test_a_script_that_fails_hides_no_other_and_is_tried_again(call: Any, tmp_path: Path) -> None:
    code, last, ran = call()
    assert (code, ran) == (1, ["first", "second", "third"])
    assert last.startswith("wrote docs/speed.md: table_first, table_third (")
    assert last.endswith("; failed: second, see outputs/benchmarks")
    assert "no peer installed" in (tmp_path / "outputs" / "second.log").read_text()
    assert call() == (1, last, ["second"]), "what succeeded isn't run again"
    (tmp_path / "repaired").touch()
    code, last, ran = call()
    assert (code, ran) == (0, ["second"])
    assert last.startswith("wrote docs/speed.md: table_first, table_second, table_third (")
    assert call()[2] == ["first", "second", "third"], "the next round begins with all"


def test_a_run_that_was_killed_goes_on_and_again_forgets_it(call: Any, tmp_path: Path) -> None:
    (tmp_path / "outputs").mkdir()
    line = {
        "name": "first",
        "code": 0,
        "seconds": 60,
        "cpu_seconds": 50,
        "wrote": [["a", "docs/b"]],
    }
    (tmp_path / "outputs" / "done.jsonl").write_text(json.dumps(line) + "\n")
    (tmp_path / "repaired").touch()
    code, last, ran = call("first", "third")
    assert (code, ran) == (0, ["third"])
    assert last == "wrote docs/b: a; docs/speed.md: table_third (1 min)"
    assert call("--again")[2] == ["first", "second", "third"]


def test_nothing_begins_after_the_time(call: Any) -> None:
    code, last, ran = call("--minutes", "0")
    assert (code, ran) == (1, [])
    assert last == "wrote nothing (0 min); left for the next call: first, second, third"


def test_an_unknown_name_is_refused(call: Any, monkeypatch: pytest.MonkeyPatch, capfd: Any) -> None:
    monkeypatch.setattr(sys, "argv", ["suite.py", "fourth"])
    with pytest.raises(SystemExit):
        suite.main()
    assert "no benchmark is called fourth; there are first, sec" in capfd.readouterr().err


def test_the_suite_holds_every_script_that_writes_a_table() -> None:
    scripts = {p.stem: p for p in (Path(suite.__file__).parent).glob("*.py")}
    writing = {name for name, path in scripts.items() if suite.tables_of(path)}
    assert set(suite.benchmarks(Path(suite.__file__).parent)) == writing - set(suite.LEFT_OUT)
    assert set(suite.LEFT_OUT) <= set(scripts)
