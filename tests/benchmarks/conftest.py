"""Import the benchmarks as they import each other: from their own folder."""

import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest

FOLDER = Path(__file__).parents[2] / "benchmarks"
TOOLS = FOLDER.parent / "tools"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Import a script by its name; the experiments have modules of the same names."""
    names = {path.stem for folder in (FOLDER, TOOLS) for path in folder.glob("*.py")}
    others = {name: sys.modules.pop(name) for name in names if name in sys.modules}
    monkeypatch.setattr(sys, "path", [str(FOLDER), *sys.path])
    yield import_module
    for name in names:
        sys.modules.pop(name, None)
    sys.modules.update(others)
