"""The tables of the benchmarks: where they are written, and what stands above each of them."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.suite import tables_of as tables_written
from tools.page_tables import tables_of

ROOT = Path(__file__).parents[2]
SCRIPTS = sorted((ROOT / "benchmarks").glob("*.py"))
PAGES = [page for page in (ROOT / "docs").glob("*.md") if page.name != "experiments.md"]
TABLES = {name: text for page in PAGES for name, text in tables_of(page).items()}
"""The results of experiments have a page and a script of their own."""
PROVENANCE = re.compile(
    r"\. \d{1,2}( and \d{1,2})? [A-Z][a-z]+ 20\d\d; "
    r"(?:AVX2|AVX512|NVIDIA|no vector instructions)[^;]*; torch [\d.]+[^;]*; "
    r"`(?:[A-Z_]+=\S+ )*python (benchmarks/\w+\.py)[^`]*`\n"
)
WRITING = """
import sys
sys.argv = ["benchmarks/search.py", "--from", "/home/somebody/vectors.npy"]
import common
from pathlib import Path
common.ROOT = Path("repository")
for name, trial in (("speed", False), ("memory", True), ("other", False)):
    common.table(name, "Search", ["a", "b"], [["1", "2"]], trial=trial)
"""


def test_every_table_of_a_script_has_one_place_and_every_place_a_script() -> None:
    names = [name for script in SCRIPTS for name in tables_written(script)]
    assert len(names) > 10
    assert sorted(names) == sorted(TABLES)


@pytest.mark.parametrize("name", TABLES)
def test_a_table_says_its_machine_and_the_command_that_makes_it(name: str) -> None:
    if not TABLES[name]:
        pytest.skip("not measured yet")
    found = PROVENANCE.search(TABLES[name])
    assert found, TABLES[name][:200]
    assert name in tables_written(ROOT / found[2])


SECTIONS = re.split(r"^#+ ", (ROOT / "docs" / "benchmarks.md").read_text("utf-8"), flags=re.M)[1:]


@pytest.mark.parametrize("text", SECTIONS, ids=lambda text: text.splitlines()[0])
def test_a_section_with_figures_says_how_and_where_they_were_measured(text: str) -> None:
    if re.search(r"^\|.*\d", text, re.MULTILINE):
        assert re.search(r"`(?:[A-Z_]+=\S+ )*(?:python [a-z]+/|dalm |inv )[^`]+`", text)
        assert re.search(r"AVX|AMX|NVIDIA|H[12]00", text)


def test_a_table_is_written_into_its_place_but_for_a_trial(tmp_path: Path) -> None:
    page = tmp_path / "repository" / "docs" / "page.md"
    page.parent.mkdir(parents=True)
    places = "<!-- table speed -->\n<!-- end -->\n<!-- table memory -->\n<!-- end -->\n"
    page.write_text(places)
    done = subprocess.run(
        [sys.executable, "-c", WRITING],
        env=os.environ | {"PYTHONPATH": str(ROOT / "benchmarks"), "ONEDNN_MAX_CPU_ISA": "AVX2"},
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.stdout.count("| 1 | 2 |") == 3
    assert "wrote table speed in docs/page.md" in done.stdout
    assert "a trial: table memory is not written" in done.stdout
    assert done.returncode == 1
    assert done.stderr == "0 pages of docs/ have a place for table other, instead of one\n"
    found = tables_of(page)
    assert found["memory"] == ""
    assert PROVENANCE.search(found["speed"])
    assert "ONEDNN_MAX_CPU_ISA=AVX2 python" in found["speed"]
    assert "search.py --from vectors.npy`" in found["speed"], "no folder of a person's machine"
