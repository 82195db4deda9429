"""Load a server with 50 clients for 30 s: latency, and throughput with and without batches.

A tiny pair on two cores: the figures are of the server, not of a model. `--quick`: five seconds.
"""

import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from common import row, table

QUICK = "--quick" in sys.argv
CLIENTS, SECONDS, TOKENS = 50, (5 if QUICK else 30), 32
NAMES = ("Ada", "Bela", "Cyrus", "Dora", "Egon", "Fanny", "Gero", "Hilde", "Ivan", "Jana")
TOWNS = ("Ulm", "Bern", "Graz", "Linz", "Kiel", "Trier", "Basel", "Essen", "Halle", "Mainz")


def build(folder: Path) -> tuple[Path, Path]:
    """Build a tiny pair and an index of a thousand passages; return index and generator."""
    from dalm.models.tiny import build_encoder, build_generator

    texts = [
        f"{name} lives in {town}. Sheet {number} says so."
        for number in range(10)
        for name in NAMES
        for town in TOWNS
    ]
    words = [*texts, *(f"Where does {name} live?" for name in NAMES)]
    shape = {"layers": 2, "heads": 2, "seed": 0}
    encoder = build_encoder(
        words, folder / "encoder", vocabulary=400, max_length=128, width=32, **shape
    )
    generator = build_generator(
        words, folder / "generator", vocabulary=400, max_length=256, width=256, **shape
    )
    passages = folder / "passages.jsonl"
    passages.write_text("".join(json.dumps({"Passage": text}) + "\n" for text in texts))
    line = ["index", passages, "--index-dir", folder / "index"]
    run = [sys.executable, "-m", "dalm", *line, "--retriever-name-or-path", encoder]
    subprocess.run([str(part) for part in run], check=True, capture_output=True)
    return folder / "index", generator


class Server:
    """A `dalm serve` in a process of its own."""

    def __init__(self, index: Path, generator: Path, log: Path, concurrent: int) -> None:
        line = ["serve", index, "--generator-name-or-path", generator, "--port", 0]
        line += ["--max-concurrent", concurrent, "--max-new-tokens", TOKENS]
        line += ["--precision", "fp32"]
        self.log = log
        with log.open("w") as out:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "dalm", *map(str, line)], stderr=out, env=dict(os.environ)
            )
        self.url = self._address()

    def _address(self) -> str:
        while self.process.poll() is None:
            found = re.search(r"serving +(http://\S+)", self.log.read_text())
            if found:
                return found[1]
            time.sleep(0.1)
        sys.exit(self.log.read_text())

    def stop(self) -> None:
        self.process.terminate()
        code = self.process.wait(60)
        assert code == 143, code


def load(url: str, clients: int) -> dict[str, Any]:
    """Ask without a pause from so many clients; return seconds of each answer and the errors."""
    import httpx2 as httpx

    seconds: list[float] = []
    errors: list[str] = []
    stop = time.monotonic() + SECONDS

    def ask(place: int) -> None:
        with httpx.Client(base_url=url, timeout=120) as client:
            turn = place
            while time.monotonic() < stop:
                turn += 1
                question = f"Where does {NAMES[turn % len(NAMES)]} live?"
                messages = [{"role": "user", "content": question}]
                start = time.perf_counter()
                try:
                    answer = client.post(
                        "/v1/chat/completions",
                        json={"model": "generator", "messages": messages},
                    )
                    body = answer.json()
                    tokens = body["usage"]["completion_tokens"]
                    assert answer.status_code == 200
                    assert tokens
                    assert body["citations"]
                except Exception as error:
                    errors.append(f"{type(error).__name__}: {error}")
                else:
                    seconds.append(time.perf_counter() - start)

    start = time.perf_counter()
    threads = [threading.Thread(target=ask, args=(place,)) for place in range(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return {"seconds": seconds, "errors": errors, "wall": time.perf_counter() - start}


def main() -> None:
    rows = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        index, generator = build(folder)
        for label, concurrent in (("batches of up to 16", 16), ("one at a time", 1)):
            server = Server(index, generator, folder / "log", concurrent)
            load_once = load(server.url, CLIENTS)
            server.stop()
            seconds, errors = load_once["seconds"], load_once["errors"]
            points = statistics.quantiles(seconds, n=100)
            logged = server.log.read_text().count('"path": "/v1/chat/completions", "status": 200')
            assert logged == len(seconds) + len(errors), (logged, len(seconds), errors[:3])
            rate = len(seconds) / load_once["wall"]
            cells = [len(seconds), len(errors), f"{points[49]:.2f}", f"{points[98]:.2f}"]
            rows.append(row(label, *cells, f"{rate:.1f}"))
            if errors:
                sys.exit(f"{len(errors)} errors, first of all {errors[0]}")
    heading = ("answered", "answers", "errors", "p50, s", "p99, s", "answers/s")
    title = f"Serving: {CLIENTS} clients for {SECONDS} s, {TOKENS} tokens"
    table("serving", title, heading, rows, trial=QUICK)


if __name__ == "__main__":
    main()
