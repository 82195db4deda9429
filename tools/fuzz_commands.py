"""Run every command on inputs that no user means, and list what ends in a traceback or never.

    python tools/fuzz_commands.py [--count 300] [--seed 0] [--only COMMAND ...] [--seconds 30]

Each input is a command line that works, with one thing changed: the value of an option, an option
given twice, a table, a file of options, a variable of the environment. All run in this process, in
a temporary folder, on tiny models. Exit code 1: some input ended in a traceback, took too long, or
printed more than one line of error, or a control character; each is printed with its seed.
"""

import argparse
import gzip
import io
import json
import logging
import os
import random
import shutil
import signal
import sys
import tempfile
import time
import traceback
import types
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Annotated, Any, Union, get_args, get_origin, get_type_hints

os.environ |= {"HF_HUB_OFFLINE": "1", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"}

from dalm import config, display
from dalm.cli import app, run
from dalm.models.tiny import build_encoder, build_generator

NUMBERS = "nan inf -inf -1 0 1 1e400 -0.0 1e-320 1_000 ١ 0x10 1.5 true".split()
NUMBERS += ["", " ", "9" * 40, "9" * 5000, "1\0", "--seed"]
TEXTS = ["", " ", "\0", "\udcff", "\x1b[31m", "\u202e", "[red]", "a" * 5000, "é", "{passage}", "-"]
PATHS = ["", " ", ".", "..", "missing/deep/x", "\0", "\udcff", "x" * 300, "x/" * 3000, "~nobody/x"]
PATHS += ["pipe", "folder", "dangling", "loop", "loop/x", "file", "file/below", "to-folder"]
PATHS += ["/dev/null", "/dev/full", "/dev/zero", "/proc/self/mem", "odd\x1b]0;x\x07", "a\nb"]
URLS = ["http://127.0.0.1:99999/v1", "http://", "http://[::1", "http://h:x", "http://a..b/"]
URLS += ["http://me:se-cret@h/v1", "me:se-cret@h/v1", "http://h/v1?key=se-cret", "ftp://h"]
URLS += ["http://h/#se-cret", "http://\x1b/", "http://" + "a" * 300, "http://127.0.0.1:9/v1"]
SECRET = "se-cret"
YAMLS = {
    "empty": "",
    "null": "null",
    "number": "5",
    "list": "[]",
    "nest": "[" * 20_000,
    "map nest": "a: {" * 5_000,
    "laughs": "a: &a [x]\n"
    + "".join(
        f"{chr(98 + n)}: &{chr(98 + n)} [{', '.join([f'*{chr(97 + n)}'] * 9)}]\n" for n in range(9)
    ),
    "merges": "a: &a {seed: 1}\nb: {<<: [*a, *a]}\n",
    "python": "seed: !!python/object/apply:os.system ['exit 1']\n",
    "date": "seed: 2024-13-45\n",
    "real date": "seed: 2024-01-02\n",
    "huge number": "seed: " + "9" * 5000,
    "no number": "seed: !!int abc\n",
    "null value": "seed:\n",
    "map value": "seed: {a: 1}\n",
    "list value": "seed: [1, 2]\n",
    "nul": 'output_dir: "a\\0b"\n',
    "surrogate": 'output_dir: "\\ud83d"\n',
    "number key": "1: 2\n",
    "null key": "~: 2\n",
    "list key": "? [a]\n: 1\n",
    "dotted key": "seed.x: 1\n",
    "dashes": "--seed: 1\n",
    "twice": "seed: 1\nseed: 2\n",
    "escape": 'output_dir: "\\e]0;x\\a"\n',
    "nan": "learning_rate: .nan\ntest_share: .nan\n",
    "boolean": "output_dir: true\n",
    "binary": b"\xff\xfe\x00\x01",
    "noise": bytes(range(256)) * 4,
    "tab": "seed:\t1\n\tb: 2\n",
    "documents": "seed: 1\n---\nseed: 2\n",
    "huge": b"seed: 1\n" * 300_000,
}
HEAD = "Passage,Query,Answer\n"
ROWS = [("Ada lives in Ulm. Ada keeps a dog.", "Where does Ada live?", "in Ulm")]
ROWS += [("Bela lives in Bern, by the lake.", "Where does Bela live?", "in Bern")]
ROWS += [("Cyrus came to Graz in 1913.", "When did Cyrus come to Graz?", "in 1913")]
ROWS += [("The valve opens at nine bars.", "When does the valve open?", "at nine bars")]
CSV = HEAD + "".join(",".join(f'"{cell}"' for cell in row) + "\n" for row in ROWS)


def lines(*rows: object) -> str:
    """Return rows as JSON lines."""
    return "".join(json.dumps(row) + "\n" for row in rows)


def row(*texts: str, **cells: object) -> dict[str, object]:
    """Return a row of a table, the first by default, with some cells changed."""
    return dict(zip(("Passage", "Query", "Answer"), texts or ROWS[0], strict=True)) | cells


TABLES: dict[str, str | bytes] = {
    "empty.csv": "",
    "head.csv": HEAD,
    "nul.csv": CSV + 'a,"b\0c",d\n',
    "quote.csv": CSV + 'a,"b,c\n',
    "long.csv": CSV + f'"{"x " * 1_500_000}",q,a\n',
    "commas.csv": CSV + "," * 100_000 + "\n",
    "wide.csv": ",".join(f"c{n}" for n in range(60_000)) + "\n" + "," * 59_999 + "\n",
    "latin.csv": CSV.encode() + b"M\xfcnchen,b,c\n",
    "utf16.csv": CSV.encode("utf-16"),
    "bom.csv": CSV.encode("utf-8-sig"),
    "return.csv": CSV.replace("\n", "\r"),
    "escape.csv": CSV + 'Ada \x1b]0;x\x07 lives \u202e in [red]Rom[/red].,"Where\x1b[2J?",Rom\n',
    "blank.csv": CSV + "\u200b,\u00a0,\u3000\n ,\t,\n",
    "noise.csv": bytes(range(256)) * 50,
    "noise.parquet": b"PAR1" + bytes(range(256)) * 50 + b"PAR1",
    "empty.parquet": b"",
    "noise.csv.gz": b"\x1f\x8b" + bytes(range(256)),
    "cut.csv.gz": gzip.compress(CSV.encode())[:-9],
    "bomb.csv.gz": gzip.compress(HEAD.encode() + b"a" * 150_000_000, 1),
    "nest.jsonl": "[" * 100_000 + "\n" + lines(row()),
    "nest.json": '{"Passage": ' * 50_000,
    "types.jsonl": lines(row(Passage=5), row(Query=None), row(Answer=[1]), row(Passage={"a": 1})),
    "values.jsonl": lines(5, None, "text", [], {}, row()),
    "surrogate.jsonl": '{"Passage": "\\ud83d", "Query": "a", "Answer": "b"}\n' + lines(row()),
    "nan.jsonl": '{"Passage": NaN, "Query": Infinity, "Answer": -Infinity}\n' + lines(row()),
    "number.jsonl": f'{{"Passage": {"9" * 5000}, "Query": 1e999}}\n' + lines(row()),
    "negatives.jsonl": lines(row(Negatives=5), row(Negatives={"a": 1}), row(Negatives=[[1]])),
    "answerable.jsonl": lines(row(Answerable="perhaps"), row(Answerable=7)),
    "provenance.jsonl": lines(row(page=-1, start="x", end=[], headings={"a": 1}, document="\0")),
    "same.csv": HEAD + "a,b,c\n" * 30,
    "table.txt": CSV,
    "run.trec": "q1 Q0 p1 1 nan x\n",
}


@dataclass(frozen=True)
class Input:
    """A command line, variables of the environment, and what was changed."""

    change: str
    arguments: list[str]
    environment: dict[str, str]


def base_lines() -> dict[str, list[str]]:
    """Return a quick command line for each command."""
    models = ["--retriever-name-or-path", "encoder"]
    training = ["--output-dir", "out", "--max-train-steps", "1", "--dry-run"]
    return {
        "passages": ["file.txt", "table.csv", "--output", "out.jsonl"],
        "qa-gen": ["table.csv", "--output-dir", "out", "--overwrite-output-dir"],
        "reading-comprehension": ["table.csv", "--output", "out.jsonl", "--overwrite-output"],
        "mine-negatives": ["table.csv", *models, "--output", "out.jsonl", "--overwrite-output"],
        "train-retriever-only": ["encoder", "table.csv", *training],
        "train-rag-e2e": ["table.csv", "encoder", "generator", *training],
        "train-generator-only": ["table.csv", "generator", *training],
        "pretrain": ["table.csv", "generator", *training, "--sequence-length", "64"],
        "merge": ["adapter", "--output-dir", "out"],
        "export": ["encoder", "--output-dir", "out", "--overwrite-output-dir"],
        "eval-retriever": ["table.csv", *models, "--output-dir", "out", "--overwrite-output-dir"],
        "eval-rag": [
            *("table.csv", *models, "--generator-name-or-path", "generator", "--max-new-tokens"),
            *("2", "--evaluate-generator", "--output-dir", "out", "--overwrite-output-dir"),
        ],
        "compare": ["run", "other"],
        "index": ["table.csv", *models, "--index-dir", "index"],
        "search": ["index", "Where?"],
        "ask": ["index", "Where?", "--generator-name-or-path", "generator", "--max-new-tokens=2"],
        "score-candidates": [
            *("table.csv", "--passages", "table.csv", "--teacher", "generator", "--no-cache"),
            *("--generator-name-or-path", "generator", "--output", "out.jsonl"),
        ],
        "train-reranker": ["encoder", "mined.jsonl", *training],
    }


CLASSES = {
    "passages": config.Passages,
    "qa-gen": config.QaGen,
    "reading-comprehension": config.ReadingComprehension,
    "mine-negatives": config.MineNegatives,
    "train-retriever-only": config.RetrieverOnly,
    "train-rag-e2e": config.RagE2E,
    "train-generator-only": config.GeneratorOnly,
    "pretrain": config.Pretraining,
    "merge": config.Merge,
    "export": config.Export,
    "eval-retriever": config.EvalRetriever,
    "eval-rag": config.EvalRag,
    "compare": config.CompareRuns,
    "index": config.Index,
    "search": config.Search,
    "ask": config.Ask,
    "score-candidates": config.ScoreCandidates,
    "train-reranker": config.RerankerTraining,
}


def prepare(folder: Path) -> None:
    """Write tables, models and things that aren't files; every input finds them in its folder."""
    texts = [cell for each in ROWS for cell in each]
    shape: dict[str, int] = {"width": 16, "layers": 1, "heads": 2, "seed": 0}
    build_encoder(texts, folder / "encoder", vocabulary=150, max_length=128, **shape)
    build_generator(texts, folder / "generator", vocabulary=300, max_length=256, **shape)
    (folder / "table.csv").write_text(CSV)
    (folder / "file.txt").write_text("\n\n".join(each[0] for each in ROWS))
    (folder / "file").write_text("text")
    others = [each[0] for each in ROWS[1:] + ROWS[:1]]
    mined = (row(*each, Negatives=[other]) for each, other in zip(ROWS, others, strict=True))
    (folder / "mined.jsonl").write_text(lines(*mined))
    for name, content in TABLES.items():
        (folder / name).write_bytes(content.encode() if isinstance(content, str) else content)
    for name, content in YAMLS.items():
        data = content.encode("utf-8") if isinstance(content, str) else content
        (folder / f"{name}.yaml").write_bytes(data)
    os.mkfifo(folder / "pipe")
    os.mkfifo(folder / "pipe.csv")
    (folder / "folder").mkdir()
    (folder / "folder.csv").mkdir()
    (folder / "dangling").symlink_to("nowhere/x")
    (folder / "loop").symlink_to("loop")
    (folder / "to-folder").symlink_to("folder")
    line = ["train-retriever-only", "encoder", "table.csv", "--use-peft", "--lora-rank", "2"]
    assert run(app, [*line, "--output-dir", "tuned", "--max-train-steps", "1"]) == 0
    shutil.copytree("tuned/retriever", "adapter")
    line = ["index", "table.csv", "--retriever-name-or-path", "encoder", "--index-dir", "index"]
    assert run(app, line) == 0
    for name in ("run", "other"):
        line = ["eval-retriever", "table.csv", "--retriever-name-or-path", "encoder"]
        assert run(app, [*line, "--output-dir", name]) == 0


def values_for(name: str, hint: Any) -> list[str]:
    """Return values for an option of a name and a type."""
    kinds = set(_flat(hint))
    if kinds & {int, float}:
        return NUMBERS
    if "url" in name or name == "judge":
        return URLS + TEXTS
    if str in kinds:
        is_path = any(
            part in name for part in ("path", "dir", "output", "report", "prompt", "pass")
        )
        return PATHS + TEXTS if is_path else [*TEXTS, *PATHS[:8]]
    return ["", "x", "nan", "\udcff"]


def _flat(hint: Any) -> Iterator[Any]:
    origin = get_origin(hint)
    if origin is Annotated:
        yield from _flat(get_args(hint)[0])
    elif origin in (Union, types.UnionType, list, tuple):
        for inner in get_args(hint):
            yield from _flat(inner)
    else:
        yield hint


def draw(command: str, chance: random.Random) -> Input:
    """Draw an input for a command."""
    base = base_lines()[command]
    hints = get_type_hints(CLASSES[command], include_extras=True)
    options = [field.name for field in fields(CLASSES[command])]
    kind = chance.choices(
        ["option", "two options", "table", "config", "twice", "order", "environment"],
        [50, 10, 15, 12, 4, 3, 6],
    )[0]
    changed, environment = list(base), dict[str, str]()
    if kind in ("option", "two options"):
        names = chance.sample(options, 1 if kind == "option" else 2)
        for name in names:
            value = chance.choice(values_for(name, hints[name]))
            spelled = f"--{name.replace('_', '-')}"
            changed += [f"{spelled}={value}"] if chance.random() < 0.5 else [spelled, value]
        kind = f"{kind} {' '.join(names)}"
    elif kind == "table":
        places = [place for place, each in enumerate(base) if not each.startswith("-")]
        place = chance.choice(places[: 2 if command != "train-rag-e2e" else 3])
        changed[place] = chance.choice([*TABLES, *PATHS, "pipe.csv", "folder.csv", *URLS[:8]])
    elif kind == "config":
        name = chance.choice([f"{each}.yaml" for each in YAMLS] + PATHS)
        changed += ["--config", name]
    elif kind == "twice":
        name = chance.choice(options)
        changed += [f"--{name.replace('_', '-')}", chance.choice(["1", "x"])] * 2
    elif kind == "order":
        chance.shuffle(changed)
        changed = changed[: chance.randrange(len(changed) + 1)]
    else:
        name = chance.choice(["COLUMNS", "LINES", "TERM", "HTTP_PROXY", "OPENAI_API_KEY", "TMPDIR"])
        name = chance.choice([name, "XDG_CACHE_HOME", "HF_HOME", "NO_COLOR", "PYTHONHASHSEED"])
        pool = ["0", "1", "-1", "abc", "", "9" * 20, "/dev/null", "\x1b[31m", f"{SECRET}\n"]
        environment[name] = chance.choice(pool)
        if name in ("COLUMNS", "LINES"):
            changed = ["--help"]
    return Input(kind, [command, *changed], environment)


class TooLongError(BaseException):
    """Report that an input took too long."""


@contextmanager
def limited(seconds: float) -> Iterator[None]:
    """Raise TooLongError in the block after so many seconds."""

    def stop(*_: object) -> None:
        raise TooLongError

    before = signal.signal(signal.SIGALRM, stop)
    signal.setitimer(signal.ITIMER_REAL, seconds, 1)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def problem_of(given: Input, seconds: float) -> tuple[str, str]:
    """Run an input; return the kind of problem, `""` for none, and the details."""
    out, err = io.StringIO(), io.StringIO()
    before = dict(os.environ)
    root = logging.getLogger()
    handlers, root.handlers = root.handlers, []
    os.environ |= given.environment
    try:
        with limited(seconds), redirect_stdout(out), redirect_stderr(err):
            display.prepare_terminal()
            code = run(app, given.arguments)
    except TooLongError:
        return "too long", "".join(traceback.format_exc()[-1500:])
    except (Exception, SystemExit):
        return "traceback", traceback.format_exc()[-2500:]
    finally:
        os.environ.clear()
        os.environ.update(before)
        root.handlers = handlers
    said = err.getvalue()
    shown = out.getvalue() + said
    last = said.strip().splitlines()[-1:] or [""]
    if code == 2 and not last[0].startswith("dalm: "):
        return "no line", said[-500:]
    if len(last[0]) > 1500:
        return "a long line", last[0][:300]
    if display.visible(shown, keep="\n\t\r") != shown:
        return "control characters", ascii(shown[-500:])
    if SECRET in shown:
        return "a secret", ascii(shown[-500:])
    return "", f"{code} {last[0][:200]}"


def main() -> None:
    """Draw inputs, run them, and print what went wrong."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--count", type=int, default=300)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--only", nargs="*", default=sorted(CLASSES))
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--verbose", action="store_true")
    given = parser.parse_args()
    kept = Path(tempfile.mkdtemp(prefix="dalm-fuzz-"))
    os.environ["XDG_CACHE_HOME"] = str(kept / "cache")
    template = kept / "template"
    template.mkdir()
    os.chdir(template)
    with redirect_stderr(io.StringIO()), redirect_stdout(io.StringIO()):
        prepare(template)
    found: Counter[str] = Counter()
    started = time.monotonic()
    for number in range(given.count):
        seed = given.seed + number
        chance = random.Random(seed)
        drawn = draw(chance.choice(given.only), chance)
        folder = kept / str(seed)
        copy(template, folder)
        os.chdir(folder)
        begun = time.monotonic()
        problem, details = problem_of(drawn, given.seconds)
        os.chdir(kept)
        shutil.rmtree(folder, ignore_errors=True)
        found[problem or "as it should"] += 1
        if problem or given.verbose:
            line = ascii(" ".join(drawn.arguments))[:300]
            print(f"\n{seed} {problem}: {drawn.change} {drawn.environment or ''}\n  {line}")
            print(f"  {time.monotonic() - begun:.1f} s  {details}", flush=True)
    shutil.rmtree(kept, ignore_errors=True)
    print(f"\n{dict(found)} in {time.monotonic() - started:.0f} s")
    sys.exit(1 if set(found) - {"as it should"} else 0)


def copy(template: Path, folder: Path) -> None:
    """Copy the template by links: what a command writes, it writes to files of its own."""
    folder.mkdir()
    for path in template.iterdir():
        target = folder / path.name
        if path.is_symlink():
            target.symlink_to(path.readlink())
        elif path.is_fifo():
            os.mkfifo(target)
        elif path.is_dir():
            shutil.copytree(path, target, copy_function=os.link)
        else:
            os.link(path, target)


if __name__ == "__main__":
    main()
