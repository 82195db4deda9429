"""A short month of feedback: a server that is killed loses nothing that it has told."""

import os
import subprocess
import sys
from pathlib import Path

TOOL = Path(__file__).parents[2] / "tools" / "feedback_month.py"


def test_kills_lose_no_judgment_and_no_answer(tmp_path: Path) -> None:
    """Also: what is deleted comes back in no hit and no row, and who is wrong has little weight."""
    line = [sys.executable, str(TOOL), "--questions", "8", "--judged", "5", "--kills", "1"]
    path = os.pathsep.join([str(TOOL.parents[1]), os.environ.get("PYTHONPATH", "")])
    done = subprocess.run(
        [*line, "--no-replace", "--work-dir", str(tmp_path / "month")],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, "PYTHONPATH": path, "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stdout + done.stderr
