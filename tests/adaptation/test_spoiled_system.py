"""A spoiled file of a system is named in one line, or what wrote it runs again and says why."""

import os
import re
import shutil
from pathlib import Path
from typing import Any

import pytest

from dalm.cli import app, run
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, Judgment
from tests.test_spoiled_files import SPOILS, spoiled

REFUSED = "refused"
"""The command names the file and ends; otherwise it is the first stage that runs again, and why."""
DAMAGED = "its output was changed or damaged"
FILES = {
    "adapt.json": REFUSED,
    "verdict.json": ("verdict", DAMAGED),
    "tables/tables.json": ("tables", DAMAGED),
    "tables/human_test.jsonl": ("tables", DAMAGED),
    "models/1/pair.json": REFUSED,
    "index/feedback.sqlite": REFUSED,
}
HARMLESS = {("models/1/pair.json", "negative"), ("index/feedback.sqlite", "empty")}
"""An empty file is a database without tables, as it is before the first answer."""


@pytest.fixture(scope="module")
def forced(line: list[str], system: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A system whose tuned pair is served, with the feedback of an answer; tests restore it."""
    folder = shutil.copytree(system, tmp_path_factory.mktemp("forced") / "system")
    assert run(app, [*line, "--output-dir", str(folder), "--force"]) == 0
    with FeedbackStore.open(folder / "index") as store:
        record = AnswerRecord(id="a", question="Who?", searched="Who?", answer="", generation=1)
        store.keep_answer(record)
        store.judge(Judgment(answer_id="a", person="p", kind="answer", value=1))
    return folder


@pytest.mark.parametrize("how", SPOILS)
def test_a_spoiled_file_of_a_system(
    line: list[str], forced: Path, how: str, capsys: Any, monkeypatch: Any
) -> None:
    monkeypatch.setenv("COLUMNS", "250")
    if how == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    words = [*line, "--output-dir", str(forced), "--force", "--to", "index", "--dry-run"]
    found = {}
    for name in FILES:
        with spoiled(forced / name, how) as is_changed:
            if not is_changed or (name, how) in HARMLESS:
                continue
            capsys.readouterr()
            more = ["--feedback"] * (name == "index/feedback.sqlite")
            code = run(app, [*words, *more])
            shown = capsys.readouterr()
        if code == 2:
            assert name in shown.err
            assert len(shown.err.strip().splitlines()) == 1
        rows = re.findall(r"^(\S+) .* runs +(.*?)  ", shown.out, re.MULTILINE)
        found[name] = REFUSED if code == 2 else rows[0] if rows else None
    assert len(found) >= 3
    assert found == {name: FILES[name] for name in found}
