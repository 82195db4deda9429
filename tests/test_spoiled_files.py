"""Every file that a command writes and another reads may be spoiled: one line names it, exit 2.

Which files there are is found by running the commands: a new one without a rule here is a failure.
"""

import fnmatch
import json
import logging
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import yaml

from dalm.cli import app, run
from tests.llm.stub_server import serving

FEW = ("--max-train-steps", 1, "--checkpointing-steps", 1, "--batch-size", 4)
TRAIN_RETRIEVER = ("train-retriever-only", "encoder", "table.csv", "--use-peft", *FEW)
TRAIN_PAIR = ("train-rag-e2e", "table.csv", "encoder", "generator", "--candidates", "index", *FEW)
PRETRAIN = ("pretrain", "table.csv", "generator", "--text-column", "Passage", *FEW[:4])
PRETRAIN += ("--sequence-length", 64, "--evaluation-steps", 1)
PASSAGES = ("passages", "docs", "--output", "passages/p.jsonl", "--min-words", 1)
MINE = ("mine-negatives", "table.csv", "--retriever-name-or-path", "encoder", "--cache-dir")
MINE += ("vectors", "--overwrite-output", "--output", "mined.jsonl")
JUDGED = (
    "eval-rag",
    "table.csv",
    "--retriever-name-or-path",
    "encoder",
    "--no-cache",
    "--top-k",
    2,
)
JUDGED += ("--generator-name-or-path", "generator", "--evaluate-generator", "--no-bounds")
JUDGED += ("--max-new-tokens", 1, "--baseline", "encoder", "--overwrite-output-dir")
JUDGED += ("--output-dir", "run", "--judge-model", "m", "--report", "report.html", "--judge")
ASK = ("qa-gen", "table.csv", "--backend", "http", "--model", "m", "--limit", 2, "--output-dir")
ASK += ("questions", "--base-url")
INDEX = ("index", "table.csv", "--index-dir", "index", "--retriever-name-or-path", "encoder")
INDEX += ("--calibrate", "table.csv")
SEARCH = ("search", "index", "Where does Ada live?")
SCORE = ("score-candidates", "table.csv", "--passages", "table.csv", "--cache-dir", "vectors")
SCORE += ("--teacher", "generator", "--generator-name-or-path", "generator", "--num-candidates", 3)
SCORE += ("--output", "scored.jsonl", "--overwrite-output")
RERANK = ("train-reranker", "reranker", "scored.jsonl", "--objective", "listwise", *FEW)


def evaluate(model: str) -> tuple[object, ...]:
    """Return the line that evaluates a retriever."""
    line = ("eval-retriever", "table.csv", "--retriever-name-or-path", model, "--no-cache")
    return (*line, "--top-k", 3, "--overwrite-output-dir", "--output-dir", "evaluation")


def resume(line: tuple[object, ...], folder: str) -> tuple[object, ...]:
    """Return the line that resumes a run."""
    checkpoint = f"{folder}/checkpoint-1"
    return (*line, "--output-dir", folder, "--resume-from-checkpoint", checkpoint)


@dataclass(frozen=True)
class Rule:
    """Files by a pattern, and the line that reads them; None: they are for people.

    `tolerated` is what the log says where the line does without the file. `harmless` are spoils
    that change nothing, `unnamed` those after which the error names what is missing instead.
    """

    pattern: str
    line: tuple[object, ...] | None
    tolerated: str = ""
    harmless: tuple[str, ...] = ()
    unnamed: tuple[str, ...] = ()
    spoils: tuple[str, ...] = ()
    """Those to try, where each takes a whole evaluation; all, if none are named."""
    named: str = ""
    """What the error names, if that isn't the file."""


TABLE = ("train-retriever-only", "encoder", "FILE", "--dry-run", "--output-dir", "new")
GENERATOR = ("train-generator-only", "table.csv", "pair/generator", "--dry-run")
GENERATOR += ("--output-dir", "new")
CONFIG = ("train-retriever-only", "--config", "FILE", "--output-dir", "new", "--dry-run")
REPORT = (*evaluate("retriever/retriever"), "--report", "r.html")
AGAIN = "damaged; their requests are sent again"
SCORED_AGAIN = "damaged; they are scored again"
LISTWISE = ("train-retriever-only", "encoder", "FILE", "--objective", "listwise", "--dry-run")
LISTWISE += ("--output-dir", "new")
RULES = (
    Rule("*README.md", None),
    Rule("retriever/retriever/*", evaluate("retriever/retriever")),
    Rule("pair/retriever/*", evaluate("pair/retriever")),
    Rule("merged/*", evaluate("merged")),
    Rule("pair/generator/*", GENERATOR),
    Rule("pretrained/generator/*", ("pretrain", "table.csv", *GENERATOR[2:])),
    Rule("retriever/checkpoint-1/*", resume(TRAIN_RETRIEVER, "retriever"), unnamed=("folder",)),
    Rule("pair/checkpoint-1/*", resume(TRAIN_PAIR, "pair"), unnamed=("folder",)),
    Rule("pretrained/checkpoint-1/*", resume(PRETRAIN, "pretrained"), unnamed=("folder",)),
    Rule(
        "retriever/metrics.jsonl",
        REPORT,
        "the report leaves it out",
        spoils=("null", "noise", "wrong"),
    ),
    Rule("*/metrics.jsonl", None),  # as that of the retriever
    Rule(
        "*/settings.yaml",
        CONFIG,
        unnamed=("empty", "half", "null", "{}", "[]", "wrong", "negative"),
    ),
    Rule("*/bits_per_byte.json", None),
    Rule("run/baseline/*", ("compare", "run/baseline", "run/baseline")),
    Rule("run/judge.jsonl", JUDGED, AGAIN, spoils=("half", "wrong")),
    Rule("run/generator.jsonl", JUDGED, AGAIN, spoils=("half", "wrong")),
    Rule("run/generator-likelihoods.txt", JUDGED, SCORED_AGAIN, spoils=("noise", "text")),
    Rule("run/*.trec", ("compare", "run/run.trec", "--qrels", "run/qrels.trec")),
    Rule("run/*", ("compare", "run", "run")),
    Rule("questions/journal.jsonl", ASK, AGAIN, spoils=("half", "wrong", "noise")),
    Rule("passages/p.unread.tsv", None),
    Rule("passages/p.jsonl", PASSAGES, harmless=("empty",)),
    Rule("passages/p.settings.yaml", PASSAGES, unnamed=("wrong", "negative")),
    Rule("vectors/scores/*", SCORE, SCORED_AGAIN, spoils=("noise", "text")),
    Rule("vectors/*", MINE, "is damaged", spoils=("empty", "half", "noise", "folder")),
    Rule("mined.jsonl", TABLE, "unread", harmless=("negative",), unnamed=("half", "wrong")),
    Rule("report.html", None),
    Rule("index/*.txn", None),  # LanceDB's, to write to the table
    Rule("index/*_hint.json", None),
    Rule("index/generations/1/store/*", SEARCH, named="index/generations/1/store"),
    Rule("index/generations/1/examples.json", None),  # a page does without them
    Rule("index/*", SEARCH),
    Rule("scored.jsonl", LISTWISE, "unread", harmless=("negative",)),
    Rule("reranked/reranker/*", (*SEARCH, "--reranker", "reranked/reranker")),
    Rule("reranked/checkpoint-1/*", resume(RERANK, "reranked"), unnamed=("folder",)),
    Rule("exported/manifest.json", None),
    Rule("exported/*", evaluate("exported/retriever")),
)
"""The first whose pattern fits counts."""


# Spoiling


def wrong_types(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: wrong_types(each) for key, each in value.items()}
    if isinstance(value, bool | int | float):
        return "x"
    return {str: 5, list: {"a": 1}}.get(type(value), [1])


def negative(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: negative(each) for key, each in value.items()}
    if isinstance(value, list):
        return [negative(each) for each in value]
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    return -abs(value) - 1 if is_number else value


def changed(file: Path, data: bytes, change: Callable[[Any], Any]) -> bytes | None:
    """Return the content with its values changed; None for a file that isn't JSON or YAML."""
    if file.suffix == ".jsonl":
        lines = (json.dumps(change(json.loads(line))) + "\n" for line in data.splitlines())
        return "".join(lines).encode()
    if file.suffix == ".json":
        return json.dumps(change(json.loads(data))).encode()
    if file.suffix == ".yaml":
        return yaml.safe_dump(change(yaml.safe_load(data))).encode()
    return None


def _cut(data: bytes) -> bytes:
    """Return the first half, which doesn't end where a line or an object does."""
    half = data[: max(0, len(data) // 2 - 3)]
    while half[-1:] in (b"}", b"\n"):
        half = half[:-1]
    return half


SPOILS: dict[str, Callable[[Path, bytes], bytes | None]] = {
    "empty": lambda *_: b"",
    "half": lambda _, data: _cut(data),
    "null": lambda *_: b"null\n",
    "5": lambda *_: b"5\n",
    "text": lambda *_: b'"x"\n',
    "[]": lambda *_: b"[]\n",
    "{}": lambda *_: b"{}\n",
    "wrong": lambda file, data: changed(file, data, wrong_types),
    "negative": lambda file, data: changed(file, data, negative),
    "not UTF-8": lambda _, data: b"\xff" + data,
    "noise": lambda *_: bytes((place * 7919 + place // 251) % 256 for place in range(3000)),
    "nest": lambda *_: b"[" * 20_000,
    "folder": lambda *_: b"",
    "unreadable": lambda _, data: data,
}


@contextmanager
def spoiled(file: Path, how: str) -> Iterator[bool]:
    """Spoil a file for the block; yields whether that changed anything."""
    data = file.read_bytes()
    content = SPOILS[how](file, data)
    same = content is None or (content == data and how not in ("folder", "unreadable"))
    if not same:
        file.unlink()
        if how == "folder":
            file.mkdir()
        else:
            assert content is not None
            file.write_bytes(content)
            file.chmod(0 if how == "unreadable" else 0o644)
    try:
        yield not same
    finally:
        if file.is_dir():
            shutil.rmtree(file)
        file.unlink(missing_ok=True)
        file.write_bytes(data)


# The files, written by the commands


@dataclass(frozen=True)
class Written:
    """The folder in which the commands were run, what they wrote, and the server they asked."""

    folder: Path
    files: list[Path]
    server: str


def reply(asked: str) -> str:
    """Judge, or write a question."""
    if "Answer" in asked and "verdict" in asked:
        return json.dumps({"verdict": "yes", "reason": "so it is"})
    return json.dumps({"questions": []})


@pytest.fixture(scope="module")
def written(
    tiny_models: Any, tiny_table: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Written]:
    folder = tmp_path_factory.mktemp("written")
    shutil.copytree(tiny_models.encoder, folder / "encoder")
    shutil.copytree(tiny_models.generator, folder / "generator")
    shutil.copytree(tiny_models.reranker, folder / "reranker")
    shutil.copy(tiny_table, folder / "table.csv")
    (folder / "docs").mkdir()
    (folder / "docs" / "a.txt").write_text(
        "Ada lives in Ulm. " * 9 + "\n\nThe valve opens at nine."
    )
    (folder / "docs" / "b.bin").write_bytes(b"\0")
    given = {path for path in folder.rglob("*") if path.is_file()}
    with pytest.MonkeyPatch.context() as patch, serving() as stub:
        patch.chdir(folder)
        stub.write = reply
        lines: list[tuple[object, ...]] = [
            PASSAGES,
            (*TRAIN_RETRIEVER, "--output-dir", "retriever"),
            (*TRAIN_PAIR, "--output-dir", "pair"),
            (*PRETRAIN, "--output-dir", "pretrained"),
            ("merge", "retriever/retriever", "--output-dir", "merged"),
            ("export", "retriever/retriever", "--output-dir", "exported"),
            MINE,
            SCORE,
            (*RERANK, "--output-dir", "reranked"),
            INDEX,
            (*ASK, stub.url),
            (*JUDGED, stub.url),
        ]
        for line in lines:
            assert run(app, list(map(str, line))) == 0, line
        files = sorted({path for path in folder.rglob("*") if path.is_file()} - given)
        yield Written(folder, [file.relative_to(folder) for file in files], stub.url)


def rule_of(file: Path) -> Rule:
    found = [rule for rule in RULES if fnmatch.fnmatch(str(file), rule.pattern)]
    assert found, f"{file}: which command reads it? Add a rule"
    return found[0]


def kinds(files: list[Path]) -> dict[tuple[str, str], Path]:
    """Return a file of each kind: of a name in folders of a name, or in any folder."""
    of_kind = dict[tuple[str, str], Path]()
    for file in files:
        rule = rule_of(file)
        if rule.line is not None:
            folder = "*" if rule.pattern.startswith("*") else file.parent.name
            of_kind.setdefault((folder, file.name), file)
    return of_kind


def test_every_file_has_a_rule_and_every_rule_a_file(written: Written) -> None:
    used = {rule_of(file).pattern for file in written.files}
    assert used == {rule.pattern for rule in RULES}
    assert len(kinds(written.files)) > 40


@pytest.mark.parametrize("how", SPOILS)
def test_a_spoiled_file_is_named(
    written: Written,
    how: str,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
) -> None:
    if how == "unreadable" and os.geteuid() == 0:
        pytest.skip("root may read everything")
    monkeypatch.chdir(written.folder)
    caplog.set_level(logging.INFO, "dalm")
    wrong = []
    for file in kinds(written.files).values():
        rule = rule_of(file)
        assert rule.line is not None
        if rule.spoils and how not in rule.spoils:
            continue
        line = [str(file) if part == "FILE" else str(part) for part in rule.line]
        line += [written.server] if rule.line in (ASK, JUDGED) else []
        with spoiled(file, how) as is_changed:
            if not is_changed:
                continue
            capsys.readouterr()
            caplog.clear()
            try:
                code = run(app, line)
            except Exception as error:
                wrong.append(f"{file}: {error!r}")
                continue
            said = [each for each in capsys.readouterr().err.splitlines() if each[:6] == "dalm: "]
            if code == 0 and (
                how in rule.harmless or (rule.tolerated and rule.tolerated in caplog.text)
            ):
                continue
            named = rule.named or file.name
            names = how in rule.unnamed or (len(said) == 1 and named in said[0])
            if code != 2 or not names:
                wrong.append(f"{file}: exit code {code}, {said}")
    assert not wrong, "\n".join(wrong)
