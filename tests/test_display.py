"""The terminal: nothing from a file or a server moves its cursor, and any terminal will do."""

import io
import logging
import os
import subprocess
import sys
from pathlib import Path

import pytest

from dalm import display
from dalm.cli import app, run
from dalm.display import LogFormatter, visible


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b]0;title\x07\x1b[31m", r"\x1b]0;title\x07\x1b[31m"),
        ("a\rb\x00\x08\x7f", r"a\rb\x00\x08\x7f"),
        ("\x9b31m \x85", r"\x9b31m \x85"),
        ("user\u202egpj.exe\u2066\u200f\u061c", r"user\u202egpj.exe\u2066\u200f\u061c"),
        ("\u2028\u2029\U000e0041", r"\u2028\u2029\U000e0041"),
        ("f\udcff\ud83d", r"f\xff\ud83d"),
        ("a\tb\nc", r"a\tb\nc"),
        (
            "Zoë, 中文, עברית, می‌خواهم 👩‍🔬 \\x1b [red]",
            "Zoë, 中文, עברית, می‌خواهم 👩‍🔬 \\x1b [red]",
        ),
    ],
)
def test_control_characters_are_escaped(raw: str, shown: str) -> None:
    assert visible(raw) == shown


def test_lines_of_a_text_stay_lines() -> None:
    assert visible("a\tb\nc\x1b", keep="\n\t") == "a\tb\nc\\x1b"


def log_line(name: str, message: str, *arguments: object) -> str:
    record = logging.LogRecord(name, logging.INFO, "", 0, message, arguments, None)
    return LogFormatter("%(message)s").format(record)


def test_a_log_line_is_one_line_without_control_characters() -> None:
    name = "x\n\x1b]0;PWN\x07 hf_ABCDEFGHIJKLMNOPQRST"
    assert log_line("dalm.ingest", "unread  %s", name) == r"unread  x\n\x1b]0;PWN\x07 ***"
    assert log_line("other", "two\nlines\x1b") == "two\nlines\\x1b"


def test_an_error_has_neither_control_characters_nor_keys(
    capsys: pytest.CaptureFixture[str],
) -> None:
    given = "\x1b]0;x\x07\u202ehttps://me:pw@host/v1?api_key=abc"
    assert run(app, ["eval-retriever", given, "--retriever-name-or-path", "nowhere/x"]) == 2
    error = capsys.readouterr().err
    assert error.startswith("dalm: ")
    assert error.count("\n") == 1
    assert not any(raw in error for raw in ("\x1b", "\x07", "\u202e", "me:pw", "abc"))


def test_a_sample_and_a_table_show_brackets_and_escape_controls(
    capsys: pytest.CaptureFixture[str],
) -> None:
    from rich.table import Table

    display.show("one\n[red]two\x1b[2J")
    table = Table("name")
    table.add_row(display.cell("[bold]\x1b[31m"))
    display.console().print(table)
    out = capsys.readouterr().out
    assert "one\n[red]two\\x1b[2J\n" in out
    assert "[bold]\\x1b[31m" in out
    assert "\x1b" not in out


# Terminals and streams of every kind


@pytest.mark.parametrize(
    ("columns", "left"),
    [
        *((each, "80") for each in ("0", "1", "-5", "abc", "²", "9" * 30)),
        ("20", "20"),
        ("132", "132"),
    ],
)
def test_a_width_that_is_none_counts_as_80(
    monkeypatch: pytest.MonkeyPatch, columns: str, left: str
) -> None:
    monkeypatch.setenv("COLUMNS", columns)
    monkeypatch.setattr(display, "_reported_width", lambda: 0)
    display.prepare_terminal()
    assert os.environ["COLUMNS"] == left


def test_help_on_a_terminal_without_a_width(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("COLUMNS", "0")
    monkeypatch.setenv("LINES", "²")
    display.prepare_terminal()
    assert run(app, ["compare", "--help"]) == 0
    assert max(map(len, capsys.readouterr().out.splitlines())) == 80


def in_shell(line: str, folder: Path) -> subprocess.CompletedProcess[str]:
    """Run a line of shell in which $DALM is the command."""
    environment = os.environ | {"DALM": f"{sys.executable} -m dalm"}
    return subprocess.run(
        ["bash", "-c", f"set -o pipefail; {line}"],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.mark.parametrize(
    ("line", "code", "said"),
    [
        ("$DALM version >&-", 0, ""),
        ("$DALM version <&- 2>&- >&-", 0, ""),
        ("$DALM compare 2>&-", 2, ""),
        ("$DALM compare >&-", 2, "dalm: dalm compare needs"),
        ("$DALM compare --help >/dev/full", 2, "dalm: the output can't be written: "),
        ("$DALM compare 2>/dev/full", 2, ""),
        ("$DALM version | true", 141, ""),
    ],
)
def test_streams_that_are_closed_or_full(tmp_path: Path, line: str, code: int, said: str) -> None:
    done = in_shell(line, tmp_path)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(said)
    assert done.stderr.count("\n") == bool(said), done.stderr


def test_what_goes_to_a_closed_stream_goes_into_no_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A closed stream's number would be that of the next file opened."""
    code = "from dalm import display; display.prepare_terminal(); f = open('out', 'w'); "
    code += "import os; os.write(2, b'noise'); print('noise'); f.write('whole'); f.close()"
    line = f'PYTHONPATH={Path(__file__).parents[1]} {sys.executable} -c "{code}" 0<&- >&- 2>&-'
    assert in_shell(line, tmp_path).returncode == 0
    assert (tmp_path / "out").read_text() == "whole"


def test_a_file_that_takes_stdout_and_stderr_has_their_lines_in_order() -> None:
    code = (
        "from dalm import display; display.prepare_terminal(); "
        "display.show('first'); display.show_beside('second'); display.show('third')"
    )
    both = subprocess.run(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True
    )
    assert both.stdout.decode().split() == ["first", "second", "third"]


def test_a_bug_keeps_its_traceback(capsys: pytest.CaptureFixture[str]) -> None:
    error = ValueError("\x1b[2J sk-abcdefghijkl")
    display.show_traceback(ValueError, error, None)
    assert capsys.readouterr().err == "ValueError: \\x1b[2J ***\n"


def test_a_stream_that_lacks_a_letter_escapes_it(monkeypatch: pytest.MonkeyPatch) -> None:
    narrow = io.TextIOWrapper(io.BytesIO(), encoding="ascii")
    monkeypatch.setattr(sys, "stdout", narrow)
    display.prepare_terminal()
    display.show("Zoë \udcff")
    narrow.flush()
    assert narrow.buffer.getvalue() == b"Zo\\xeb \\xff\n"  # type: ignore[attr-defined]


@pytest.mark.parametrize(("seconds", "said"), [(3, "3 s"), (150, "2 min"), (9000, "2.5 h")])
def test_durations(seconds: float, said: str) -> None:
    assert display.duration(seconds) == said
