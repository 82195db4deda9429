"""Prove that a refactor changes nothing that is computed: run two checkouts, compare to the bit.

    python tools/same_results.py COMMIT [--work-dir DIR] [--only NAME ...]

COMMIT is checked out beside the working tree. Both run the same short commands, side by side, on
tiny models and tables that the old one makes. Every figure, tensor and text that the old side
wrote has to be there on the new side, and be the same; what the new side has besides is named.
Exit code 1: something differs, and the folder with both sides' files stays.
"""

import argparse
import csv
import hashlib
import io
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import zipfile
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from fnmatch import fnmatchcase
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import islice
from pathlib import Path
from threading import Thread
from typing import Any

import torch
import yaml
from safetensors import safe_open

ROOT = Path(__file__).resolve().parents[1]

EXCEPTIONS: dict[str, str] = {
    "*/README.md:": "a generator's card shows the prompt, so it has more empty lines",
    "*/README.md:```*": "a generator's card shows the prompt, in a block of its own",
    "*/README.md:No base: *": "the licence line of a model without a base is reworded",
    "*/stdout.txt:*": "sentences and headings are reworded; results.json has their figures",
    "*/page.html:*": "the report is reworded and shows sources; results.json has its figures",
    "*/results.json:gates.*.text": "quality gates are reworded",
}
"""Intended differences: a pattern such as `passages/passages.jsonl:*.source` → the reason."""

COMMANDS = {
    "passages": "passages {documents} --output {out}/passages.jsonl --max-words 40",
    "passages-tokens": "passages {documents} --output {out}/passages.jsonl --max-tokens 48 "
    "--tokenizer {encoder} --overlap 12 --near-duplicates 1 --processes 2",
    "qa-gen": "qa-gen {train} --output-dir {out} --as-csv --as-jsonl --test-share 0.3",
    "qa-gen-http": "qa-gen {train} --output-dir {out} --backend http --base-url {url} --model stub "
    "--concurrency 1 --kinds fact why multi-passage --round-trip-k 5",
    "reading-comprehension": "reading-comprehension passages/passages.jsonl "
    "--output {out}/texts.jsonl --general-vocabulary {generator}",
    "mine-negatives": "mine-negatives {train} --retriever-name-or-path {encoder} "
    "--output {out}/negatives.jsonl --bm25 --num-negatives 3 --max-share off --sampling random",
    "train-retriever-only": "train-retriever-only {encoder} {train} {steps} --prepend-title "
    "--gradient-accumulation-steps 2 --lr-scheduler-type cosine --num-warmup-steps 2 "
    "--weight-decay 0.1 --query-prompt find:",
    "train-retriever-only-lora": "train-retriever-only {encoder} mine-negatives/negatives.jsonl "
    "{steps} --use-peft --lora-rank 2",
    "train-generator-only": "train-generator-only {train} {generator} --output-dir {out} "
    "--retriever-name-or-path {encoder} --reader-passages 3 --batch-size 8 --max-train-steps 40 "
    "--learning-rate 1e-2 --precision fp32",
    "pretrain": "pretrain {train} {generator} {steps} --text-column Passage --replay {documents} "
    "--replay-ratio 0.3 --extend-vocabulary 8 --sequence-length 64 --evaluation-steps 2 "
    "--held-out-share 0.2",
    "pretrain-from-scratch": "pretrain {train} --text-column Passage --from-scratch 1m "
    "--sequence-length 64 --output-dir {out} --batch-size 4 --max-train-steps 3 --logging-steps 1",
    "dalm": "train-rag-e2e {pair} --objective dalm --output-dir {out} --batch-size 8 "
    "--max-train-steps 6 --logging-steps 1 --precision bf16",
    "rag_token": "train-rag-e2e {pair} {steps} --objective rag_token --gradient-checkpointing "
    "--reader-warmup 0.3 --generator-learning-rate 3e-3",
    "rag_token-lora": "train-rag-e2e {pair} {steps} --use-peft both --lora-rank 2",
    "rag_sequence": "train-rag-e2e {pair} {steps} {index} --objective rag_sequence --write-back "
    "--num-candidates 4 --gold-probability 0.5 --reconstruction-weight 0.5",
    "emdr2": "train-rag-e2e {pair} {steps} {index} {emdr2}",
    "emdr2-resumed": "train-rag-e2e {pair} {steps} {index} {emdr2} --resume-from-checkpoint latest",
    "pdist": "train-rag-e2e {pair} {steps} --objective pdist --train-encoders query "
    "--lora-rank 2 --reader-passages 2",
    "lsr": "train-rag-e2e {pair} {steps} --objective lsr --no-train-generator",
    "merge-lora": "merge train-retriever-only-lora/retriever --output-dir {out}/merged",
    "merge-weights": "merge rag_token/generator --base {generator} --weight 0.4 "
    "--output-dir {out}/merged",
    "eval-retriever": "eval-retriever {test} --retriever-name-or-path "
    "train-retriever-only/retriever --baseline {encoder} --passages {train} "
    "--guard {train} --output-dir {out} --precision fp32",
    "eval-rag": "eval-rag {test} --retriever-name-or-path rag_sequence/retriever "
    "--generator-name-or-path train-generator-only/generator --baseline {encoder} "
    "--evaluate-generator --citations --max-new-tokens 12 --judge {url} --judge-model stub "
    "--judge-concurrency 1 --output-dir {out} --report {out}/page.html --precision fp32",
    "compare": "compare eval-rag/baseline eval-rag --report {out}/page.html",
}
"""What is run, each in a folder of its name; commands stand behind those whose files they read."""
SHORT = {
    **{name: f"../inputs/{name}" for name in ("documents", "encoder", "generator")},
    **{name: f"../inputs/{name}.csv" for name in ("train", "test")},
    "pair": "../inputs/train.csv ../inputs/encoder ../inputs/generator",
    "steps": "--output-dir {out} --batch-size 8 --max-train-steps 6 --checkpointing-steps 3 "
    "--logging-steps 1 --learning-rate 1e-3 --precision fp32",
    "index": "--candidates index --refresh-budget 0.03",
    "emdr2": "--objective emdr2 --reader-passages 2 --num-candidates 3 --gold-probability 0.5",
}
RESUMED = {"emdr2-resumed": ("emdr2", "checkpoint-3")}
"""Runs that both sides take up at a checkpoint of the old side's."""

CLOCKS = {
    *("samples_per_second", "tokens_per_second", "peak_memory_mb", "refresh_seconds"),
    *("seconds", "speed", "created", "versions"),
    *("size", "sha256"),  # of a manifest: its files are compared themselves, without their clocks
}
"""Keys of what two equal runs may differ in."""
UNORDERED = {"target_modules"}
"""Keys of sets that were written as lists: peft's order changes with Python's hash seed."""
CLOCKS_IN_TEXT = re.compile(r"^versions:.*?^created:.*?$|\d{4}-\d\d-\d\dT[\d:+]+", re.M | re.S)
SHOWN = 5

MAKE_MODELS = """
import csv, json
from pathlib import Path
from dalm.models.tiny import build_encoder, build_generator

texts = [text for row in csv.DictReader(open("train.csv")) for text in row.values()]
texts += [path.read_text() for path in sorted(Path("documents").glob("*.md"))]
shape = {"width": 32, "layers": 2, "heads": 4, "seed": 0}
encoder = build_encoder(texts, "encoder", vocabulary=400, **shape)
generator = build_generator(texts, "generator", vocabulary=500, max_length=256, **shape)
for folder, names in {
    encoder: ["hidden_dropout_prob", "attention_probs_dropout_prob"],
    generator: ["attention_dropout"],
}.items():
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | dict.fromkeys(names, 0.1)))
"""

PAGE = """<html><head><title>Pumps of Ulm</title></head><body><nav>Home</nav><h1>Pumps</h1>
<p>The pump at Ulm stands in the yard. It was built in 1874 by hand, because the old one
broke.</p><h2>Oil</h2><ul><li>Summer oil is thin.</li><li>Winter oil is thick and dark.</li></ul>
<table><tr><th>Part</th><th>Price</th></tr><tr><td>Seal</td><td>12</td></tr></table></body></html>"""
LETTER = """<w:document xmlns:w="http://schemas.openxmlformats.org/wordprocessingml/2006/main">
<w:body><w:p><w:pPr><w:pStyle w:val="Heading1"/></w:pPr><w:r><w:t>Cranes</w:t></w:r></w:p><w:p><w:r>
<w:t>A crane lifts the boiler on Monday. However, the crane needs three men and a dog.</w:t></w:r>
</w:p></w:body></w:document>"""
PDF = b"""%PDF-1.4
1 0 obj << /Type /Catalog /Pages 2 0 R >> endobj
2 0 obj << /Type /Pages /Kids [4 0 R] /Count 1 >> endobj
3 0 obj << /Type /Font /Subtype /Type1 /BaseFont /Helvetica >> endobj
4 0 obj << /Type /Page /Parent 2 0 R /MediaBox [0 0 612 792] /Contents 5 0 R
/Resources << /Font << /F1 3 0 R >> >> >> endobj
5 0 obj << /Length 71 >> stream
BT /F1 12 Tf 72 720 Td (The gauge of Linz is read twice a day, at noon.) Tj ET
endstream endobj
trailer << /Size 6 /Root 1 0 R >>
%%EOF
"""


@dataclass(frozen=True)
class Side:
    """A checkout, and the folder in which its commands run."""

    name: str
    checkout: Path
    folder: Path

    def start(self, *arguments: str, cwd: Path, **given: Any) -> subprocess.Popen[str]:
        """Start Python on this checkout's package: one thread, no hub, a cache of its own."""
        env = os.environ | {
            "PYTHONPATH": str(self.checkout),
            "PYTHONSAFEPATH": "1",  # the folder it runs in has a `dalm`, too
            "XDG_CACHE_HOME": str(self.folder / "cache"),
            "HF_HUB_OFFLINE": "1",
            "CUDA_VISIBLE_DEVICES": "",
            "OMP_NUM_THREADS": "1",
            "TOKENIZERS_PARALLELISM": "false",
            "NO_PROXY": "127.0.0.1",
            "OPENAI_API_KEY": f"side-{self.name}",  # masked in replies: none of their words
        }
        return subprocess.Popen([sys.executable, *arguments], cwd=cwd, env=env, text=True, **given)

    def check(self) -> None:
        """Refuse to go on if Python would import another checkout's package."""
        line = "import dalm; print(dalm.__file__)"
        process = self.start("-c", line, cwd=self.folder, stdout=subprocess.PIPE)
        place = process.communicate()[0].strip()
        if self.checkout not in Path(place).parents:
            sys.exit(f"the {self.name} side would run {place}, not {self.checkout}")

    def run(self, name: str, url: str) -> subprocess.Popen[str]:
        """Start a command; what it prints is kept with what it writes, its log beside that."""
        folder = self.folder / name
        folder.mkdir(exist_ok=True)
        line = COMMANDS[name].format(**SHORT, out="{out}", url=url).format(out=name)
        out, log = (folder / "stdout.txt").open("w"), folder.with_suffix(".log").open("w")
        with out, log:
            words = ("-m", "dalm", *line.split())
            return self.start(*words, cwd=self.folder, stdout=out, stderr=log)


@dataclass
class Comparison:
    """What two folders have in common, and what not."""

    same: Counter[str] = field(default_factory=Counter)
    different: list[str] = field(default_factory=list)
    added: Counter[str] = field(default_factory=Counter)
    excepted: Counter[str] = field(default_factory=Counter)

    def differ(self, place: str, said: str) -> None:
        """Note a difference, unless it is an intended one."""
        pattern = next((each for each in EXCEPTIONS if fnmatchcase(place, each)), None)
        if pattern is None:
            self.different.append(f"{place}  {said}")
        else:
            self.excepted[pattern] += 1

    def __str__(self) -> str:
        alike = ", ".join(f"{count} {kind}" for kind, count in sorted(self.same.items()))
        lines = [f"{len(self.different)} DIFFERENT; " if self.different else ""]
        lines[0] += f"identical: {alike or 'nothing'}"
        lines += _first(self.different)
        lines += _first([f"added: {place} ({self.added[place]})" for place in sorted(self.added)])
        lines += [f"    intended: {k} ({n}): {EXCEPTIONS[k]}" for k, n in self.excepted.items()]
        return "\n".join(lines)


def _first(said: list[str]) -> list[str]:
    more = [f"… and {len(said) - SHOWN} more"] if len(said) > SHOWN else []
    return [f"    {each}" for each in said[:SHOWN] + more]


def compare(old: Path, new: Path) -> Comparison:
    """Compare everything in the old folder with the same in the new one."""
    found = Comparison()
    before, after = (dict(contents(folder)) for folder in (old, new))
    for place, value in before.items():
        if _file(place) not in after and place != _file(place):
            continue  # the file's absence is said once
        if place not in after:
            found.differ(place, "is missing")
        elif repr(value) != repr(after[place]):
            found.differ(place, f"{value!r:.80} → {after[place]!r:.80}")
        else:
            found.same[_kind(value)] += 1
    for place in after.keys() - before.keys():
        added = place if _file(place) in before else _file(place)
        found.added[re.sub(r"(?<=[:.])\d+(?=\.|$)", "*", added)] += 1
    return found


def _file(place: str) -> str:
    return place.partition(":")[0]


def _kind(value: object) -> str:
    if isinstance(value, Digest):
        return "tensors"
    return "figures" if isinstance(value, int | float) else "texts"


class Digest(str):
    """Type, shape and hash of a tensor."""

    __slots__ = ()


def contents(folder: Path) -> Iterator[tuple[str, object]]:
    """Yield every plain value in a folder's files, with its place."""
    files = [path for path in folder.rglob("*") if path.is_file()]
    for file in sorted(files, key=lambda path: (len(path.parts), path)):
        place = f"{folder.name}/{file.relative_to(folder)}"
        yield place, "a file"
        for key, value in leaves(read(file), ""):
            yield f"{place}:{key.removeprefix('.')}", value


def read(file: Path) -> Any:
    """Return what a file holds, as nested values where it has any."""
    if file.suffix == ".safetensors":
        with safe_open(file, "pt") as stored:
            tensors = {name: stored.get_tensor(name) for name in stored.keys()}  # noqa: SIM118
            return {"tensors": tensors, "metadata": stored.metadata()}
    if file.suffix in (".pt", ".pth"):
        return torch.load(file, map_location="cpu", weights_only=False)
    text = file.read_bytes().decode("utf-8", "surrogateescape")
    lines = CLOCKS_IN_TEXT.sub("", text).split("\n")
    parsers: dict[str, Callable[[], Any]] = {
        ".json": lambda: lines if file.name == "tokenizer.json" else json.loads(text),
        ".jsonl": lambda: [json.loads(line) for line in text.split("\n") if line],
        ".csv": lambda: list(csv.DictReader(io.StringIO(text, newline=""))),
        ".yaml": lambda: yaml.safe_load(text),
        ".md": lambda: Counter(lines),  # one more line of a model's card is an addition
    }
    return parsers.get(file.suffix, lambda: lines)()


def leaves(value: Any, place: str) -> Iterator[tuple[str, object]]:
    """Yield the plain values of a nested one, with their places; clocks are left out."""
    if isinstance(value, torch.Tensor):
        content = value.contiguous().reshape(-1).view(torch.uint8).numpy().tobytes()
        digest = hashlib.sha256(content).hexdigest()[:16]
        yield place, Digest(f"{value.dtype} {tuple(value.shape)} {digest}")
    elif isinstance(value, Mapping):
        for key, each in value.items():
            if key not in CLOCKS:
                yield from leaves(sorted(each) if key in UNORDERED else each, f"{place}.{key}")
    elif isinstance(value, list):
        yield f"{place}.length", f"{len(value)} items"  # one more item is no addition
        for number, each in enumerate(value):
            yield from leaves(each, f"{place}.{number}")
    else:
        yield place, value


class Stub(BaseHTTPRequestHandler):
    """A server that gives every request a reply of its own, and keeps what it was asked.

    The key says which side asks, and the address for which command: no settings file has the key.
    """

    work: Path

    def do_POST(self) -> None:
        """Keep the request, and reply in the shape that it asks for."""
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        side = self.headers["Authorization"].removeprefix("Bearer side-")
        with (self.work / side / self.path.split("/")[1] / "requests.jsonl").open("a") as out:
            out.write(json.dumps(body) + "\n")
        fields = body["response_format"]["json_schema"]["schema"]["properties"]
        text = json.dumps(self.reply(body["messages"][-1]["content"], fields))
        usage = {"prompt_tokens": len(body["messages"]), "completion_tokens": len(text)}
        choices = [{"index": 0, "message": {"role": "assistant", "content": text}}]
        content = json.dumps({"choices": choices, "usage": usage}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def reply(self, asked: str, fields: Mapping[str, Any]) -> dict[str, Any]:
        """Return a verdict by the request's hash, or questions on the first sentences."""
        if "verdict" in fields:
            words = fields["verdict"]["enum"]
            place = hashlib.sha256(asked.encode()).digest()[0] % len(words)
            return {"reason": f"word {place}", "verdict": words[place]}
        first, *second = re.findall(r"assage:\n(.*?)\.", asked)
        kind = "multi-passage" if second else "fact"
        question = {"question": f"What is known of {first[-30:]}?", "answer": first[-12:]}
        quotes = {"quote": f"{first}.", "other_quote": "".join(second)}
        return {"questions": [{**question, **quotes, "kind": kind}]}

    def log_message(self, *_: object) -> None:
        """Say nothing."""


def git(*arguments: str) -> str:
    """Run git, and stop where it can't go on."""
    done = subprocess.run(["git", *arguments], check=False, capture_output=True, text=True)
    if done.returncode:
        sys.exit(done.stderr.strip())
    return done.stdout.strip()


def check_out(commit: str, folder: Path) -> Path:
    """Return a clone of this repository at a commit."""
    git("clone", "--quiet", "--shared", "--no-checkout", str(ROOT), str(folder))
    git("-C", str(folder), "checkout", "--quiet", "--detach", commit)
    return folder


def make_inputs(folder: Path, old: Side) -> None:
    """Write tables, documents and models that both sides work on."""
    documents = folder / "documents"
    documents.mkdir(parents=True)
    for split in ("train", "test"):
        source = old.checkout / "dalm" / "datasets" / f"toy_data_{split}.csv"
        with source.open(newline="") as rows, (folder / f"{split}.csv").open("w") as out:
            out.writelines(islice(rows, 1))
            out.writelines(islice(rows, 0, 128, 2))  # two questions of each of 32 passages
    sentences = [f"In the year {1800 + n} hall {n % 7} got {n} lamps." for n in range(40)]
    notes = "".join(f"\n\n## Hall {n}\n\n" + " ".join(sentences[n::5]) for n in range(5))
    (documents / "notes.md").write_text(f"# Lamps\n\nLamps are lit at night.{notes}\n")
    (documents / "plain.txt").write_text("\n\n".join(" ".join(sentences[n::9]) for n in range(9)))
    (documents / "page.html").write_text(PAGE)
    (documents / "gauge.pdf").write_bytes(PDF)
    shutil.copy(folder / "test.csv", documents / "table.csv")
    with zipfile.ZipFile(documents / "letter.docx", "w") as packed:
        packed.writestr("[Content_Types].xml", "<Types/>")
        packed.writestr("word/document.xml", LETTER)
    if old.start("-c", MAKE_MODELS, cwd=folder, stderr=subprocess.DEVNULL).wait():
        sys.exit("the old side can't make the tiny models")


def with_sources(wanted: list[str]) -> list[str]:
    """Return the commands wanted and those whose files they read, in the table's order."""
    todo, found = list(wanted), set()
    while todo:
        name = todo.pop()
        if name not in found:
            found.add(name)
            read_by_it = {word.partition("/")[0] for word in COMMANDS[name].split() if "/" in word}
            todo += [*(read_by_it & COMMANDS.keys()), *RESUMED.get(name, ())[:1]]
    return [name for name in COMMANDS if name in found]


def run_both(name: str, sides: tuple[Side, Side], url: str) -> Comparison:
    """Run a command on both sides at once, and compare what they wrote."""
    if name in RESUMED:
        run, checkpoint = RESUMED[name]
        for side in sides:
            kept = sides[0].folder / run
            shutil.copytree(kept / checkpoint, side.folder / name / checkpoint)
            for file in ("settings.yaml", "metrics.jsonl"):
                shutil.copy(kept / file, side.folder / name)
    processes = [side.run(name, url) for side in sides]
    codes = [process.wait() for process in processes]
    found = compare(*(side.folder / name for side in sides))
    for side, code in zip(sides, codes, strict=True):
        if code:
            said = (side.folder / f"{name}.log").read_text().strip().splitlines()[-1:]
            found.different.insert(0, f"exit code {code} on the {side.name} side: {''.join(said)}")
    return found


def label(name: str) -> str:
    """Return a command's name, behind the word of its line if that isn't in it."""
    word = COMMANDS[name].partition(" ")[0]
    return name if name.startswith(word) else f"{word} {name}"


def main() -> int:
    """Run and compare every command, or those that are named, and those that they build on."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("commit", help="what the working tree is compared with")
    parser.add_argument("--work-dir", type=Path, help="new folder for both sides' files; it stays")
    parser.add_argument(
        "--only", nargs="+", choices=COMMANDS, default=list(COMMANDS), metavar="NAME"
    )
    given = parser.parse_args()
    if given.work_dir and given.work_dir.exists():
        parser.error(f"--work-dir {given.work_dir} is there; name a new folder")
    commit = git("-C", str(ROOT), "rev-parse", "--verify", f"{given.commit}^{{commit}}")
    work = (given.work_dir or Path(tempfile.mkdtemp(prefix="same_results-"))).resolve()
    old = Side("old", check_out(commit, work / "checkout"), work / "old")
    new = Side("new", ROOT, work / "new")
    for side in (old, new):
        side.folder.mkdir()
        side.check()
    make_inputs(work / "inputs", old)

    Stub.work = work
    server = ThreadingHTTPServer(("127.0.0.1", 0), Stub)
    Thread(target=server.serve_forever, daemon=True).start()
    different, begun = 0, time.monotonic()
    names = with_sources(given.only)
    for name in names:
        start = time.monotonic()
        found = run_both(name, (old, new), f"http://127.0.0.1:{server.server_port}/{name}/v1")
        different += bool(found.different)
        print(f"{label(name):<28}{time.monotonic() - start:4.0f} s  {found}", flush=True)
    verdict = f"{different} differ" if different else "all the same"
    print(f"{len(names)} commands, {time.monotonic() - begun:.0f} s: {verdict}")
    if different or given.work_dir:
        print(f"files      {work}")
    else:
        shutil.rmtree(work)
    return 1 if different else 0


if __name__ == "__main__":
    sys.exit(main())
