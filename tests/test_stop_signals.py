"""Signals end a process within seconds, whatever it does; some work is brought to an end."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from dalm import artifacts, stop_signals

START = """
import hashlib, signal, sys, time
from pathlib import Path
from dalm import artifacts, stop_signals
stop_signals.GRACE, stop_signals.LIMIT, stop_signals.ECHO = 0.4, 0.4, 0.1
stop_signals.listen()
def work():
    for _ in range(3000):
        time.sleep(0.01)
print("ready", flush=True)
"""
END = """
except KeyboardInterrupt as stop:
    sys.exit(stop_signals.report(stop, lambda text: print(text, flush=True)))
"""


def heed_all() -> None:
    """Heed signals that a shell, or nohup, may have ignored."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def told(body: str, *numbers: int, pause: float = 0.15, **options: object) -> tuple[int, str, str]:
    """Run a body in a process, send it signals, and return its code and what it printed."""
    indented = "\n".join(f"    {line}" for line in body.strip().splitlines())
    options.setdefault("preexec_fn", heed_all)
    process = subprocess.Popen(
        [sys.executable, "-c", f"{START}try:\n{indented}{END}"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"PYTHONPATH": str(Path(artifacts.__file__).parents[1])},
        **options,  # type: ignore[call-overload]
    )
    assert process.stdout.readline() == "ready\n"
    time.sleep(0.1)  # it is in the middle of its work
    for number in numbers:
        process.send_signal(number)
        time.sleep(pause)
    out, err = process.communicate(timeout=20)
    return process.returncode, out, err


@pytest.mark.parametrize("name", ["SIGTERM", "SIGINT", "SIGHUP"])
def test_a_signal_ends_work_at_once(name: str) -> None:
    number = getattr(signal, name)
    assert told("work()", number) == (128 + number, "stopped\n", "")


FORK = """
import os
child = os.fork()
if child == 0:
    {listen}
    try:
        work()
    finally:
        os._exit(7)
time.sleep(0.2)
os.kill(child, signal.SIGTERM)
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
time.sleep(1.5)  # longer than grace and limit
print("alive", flush=True)
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.parametrize("listen", ["pass", "stop_signals.listen()"])
def test_a_signal_to_a_forked_process_does_not_end_this_one(listen: str) -> None:
    assert told(FORK.format(listen=listen)) == (0, "7\nalive\n", "")


def test_an_ignored_signal_stays_ignored() -> None:
    """As under nohup."""
    body = "time.sleep(0.5); print('done')"
    ignore = {"preexec_fn": lambda: signal.signal(signal.SIGHUP, signal.SIG_IGN)}
    assert told(body, signal.SIGHUP, **ignore) == (0, "done\n", "")


def test_a_signal_waits_for_the_end_of_a_block() -> None:
    body = "with stop_signals.put_off():\n    time.sleep(0.3); print('whole')\nwork()"
    assert told(body, signal.SIGTERM) == (143, "whole\nstopped\n", "")


def test_a_block_is_broken_off_after_the_grace() -> None:
    body = "with stop_signals.explaining(lambda: '; go on'), stop_signals.put_off():\n    work()"
    assert told(body, signal.SIGTERM) == (143, "stopped; go on\n", "")


def test_a_second_signal_breaks_a_block_off() -> None:
    body = "stop_signals.GRACE = 60\nwith stop_signals.put_off():\n    work()"
    assert told(body, signal.SIGINT, signal.SIGTERM) == (143, "stopped\n", "")


def test_a_signal_that_comes_twice_at_once_is_one() -> None:
    """A terminal and a launcher send it both."""
    body = (
        "stop_signals.ECHO = 5\nwith stop_signals.put_off():\n    time.sleep(0.3); print('whole')"
    )
    assert told(body, signal.SIGTERM, signal.SIGTERM, pause=0) == (143, "whole\nstopped\n", "")


def test_what_was_settled_has_its_time() -> None:
    body = """
with stop_signals.put_off():
    while not stop_signals.pending():
        time.sleep(0.01)
    stop_signals.settle()
    time.sleep(1.2)
print('saved')
"""
    assert told(body, signal.SIGTERM) == (0, "saved\n", "")


def test_native_code_that_does_not_return_is_ended_and_leaves_nothing(tmp_path: Path) -> None:
    body = f"""
with artifacts.claim(Path({str(tmp_path / "out.txt")!r}), "--output"), \\
        artifacts.write_file(Path({str(tmp_path / "out.txt")!r})) as out, \\
        stop_signals.explaining(lambda: "; go on"):
    hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
    assert told(body, signal.SIGTERM) == (143, "", "\ndalm: stopped; go on\n")
    assert list(tmp_path.iterdir()) == []


def test_without_the_command_line_a_block_alone_handles_signals() -> None:
    before = signal.getsignal(signal.SIGINT)
    reached = []

    def block() -> None:
        with stop_signals.put_off():
            signal.raise_signal(signal.SIGINT)
            reached.append(stop_signals.pending())

    with pytest.raises(KeyboardInterrupt):
        block()
    assert reached == [signal.SIGINT]
    assert signal.getsignal(signal.SIGINT) is before
    assert stop_signals.pending() is None


def test_a_folder_is_replaced_as_a_whole_though_a_signal_comes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def interrupted(path: Path, target: Path) -> Path:
        signal.raise_signal(signal.SIGINT)
        return rename(path, target)

    for name in ("old", "new"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "file").write_text(name)
    monkeypatch.setattr(Path, "rename", interrupted)
    with pytest.raises(KeyboardInterrupt):
        artifacts.publish(tmp_path / "new", tmp_path / "old")
    assert (tmp_path / "old" / "file").read_text() == "new"


def test_a_stop_that_could_not_be_written_in_time_is_said_at_the_end():
    body = """
import os
def stuck(text):
    os.write(1, b"begun ")
    while True:
        pass
try:
    work()
except KeyboardInterrupt as stop:
    stop_signals.report(stop, stuck)
"""
    code, out, err = told(body, signal.SIGTERM)
    assert (code, out.split(), err.strip()) == (143, ["begun"], "dalm: stopped")


def test_what_an_earlier_run_said_does_not_silence_the_next_one():
    body = """
stop_signals._state.listening = False
stop_signals.report(KeyboardInterrupt("; earlier"), lambda text: print(text, flush=True))
stop_signals.listen()
import hashlib
print("native", flush=True)
hashlib.pbkdf2_hmac("sha256", b"", b"", 10**9)
"""
    code, _, err = told(body, signal.SIGTERM, pause=0.5)
    assert code == 143
    assert err.strip() == "dalm: stopped"
