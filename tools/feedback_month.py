"""Live through a month of questions, judgments and changed documents, with kills.

    python tools/feedback_month.py [--train] [--questions 200] [--judged 20] [--kills 20] [--seed 0]

A real server answers questions of the toy domain and takes judgments of three people, one of whom
is wrong on purpose; a document is replaced and one removed. The server is killed (SIGKILL) at
random moments, and started again. Checked are: every judgment that was answered with 201, and every
answer whose end was told, is in the store as it was sent; passages that are gone are in no hit and
in no row of `dalm feedback`; the person who is wrong has far less weight than the others. With
--train the system is made by `dalm adapt`, and trained twice more with --feedback while it is
served; that is killed, too. Checked are that the first pair is found better and switched to; that
the index is switched to a new pair if the verdict says so, or --force does the second time, and
else not; that the server serves it; and that a rollback brings the generation before back. Exit
code 1: something is wrong, and the folder stays.
"""

import argparse
import csv
import json
import os
import random
import re
import shutil
import signal
import socket
import sys
import tempfile
import threading
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from http.client import HTTPException
from pathlib import Path
from typing import Any

from kill_training import ended, killed_after, start

import dalm
from dalm import cli
from dalm.adaptation.served_pair import Pair, content_of_pair
from dalm.io.tables import read_table
from dalm.models.tiny import build_encoder, build_generator
from dalm.prompts import MARKS
from dalm.records import normalise
from dalm.user_feedback.feedback_store import FeedbackStore

TABLE = Path(dalm.__file__).parent / "datasets" / "toy_data_train.csv"
PEOPLE = {"ada": 1, "bob": 1, "eve": -1}
"""People, and the sign with which they say what is right."""
BATCHES = {"num_train_epochs": 16, "per_device_train_batch_size": 32}
RETRIEVER = {**BATCHES, "learning_rate": 1e-3, "logit_scale": 20.0, "negatives_column": ""}
GENERATOR = {**BATCHES, "learning_rate": 1.5e-3, "use_peft": False}
"""Of small models with random weights."""
PLACES = 48
"""Places of a month with training: of them as many are held out as show a difference."""
LONGEST_TRAINING = 30.0
"""Seconds after which a training is killed, at most."""
START = time.perf_counter()
LONGEST = 0.4
"""Seconds after which the server is killed, at most, after a request began."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A question of the toy domain, and what the documents say."""

    query: str
    answer: str
    passage: str
    place: str


@dataclass
class Month:
    """The server, what it was asked and told, and what has to be true in the end."""

    folder: Path
    options: argparse.Namespace
    index: Path
    generator: str
    process: int = 0
    port: int = 0
    kills: int = 0
    training_kills: int = 0
    ended: dict[str, str] = field(default_factory=dict)
    """Answers whose end was told, by id."""
    broken: int = 0
    judged: dict[int, dict[str, Any]] = field(default_factory=dict)
    """Judgments that were answered with 201, by number."""
    gone: set[str] = field(default_factory=set)
    """Texts of passages that were deleted or replaced."""
    changed: set[str] = field(default_factory=set)
    """Places whose documents were deleted or replaced."""
    found_gone: int = 0
    """Hits that had one of them afterwards."""
    checks: list[tuple[str, object, bool]] = field(default_factory=list)

    def check(self, name: str, found: object, right: bool) -> None:
        """Note a check."""
        self.checks.append((name, found, right))
        seconds = time.perf_counter() - START
        print(f"{seconds:4.0f} s  {'right' if right else 'WRONG'}  {name}: {found}", flush=True)

    # The server

    def serve(self) -> None:
        """Start the server, and wait until it answers."""
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        line = ["serve", str(self.index), "--generator-name-or-path", self.generator]
        line += ["--port", str(self.port), "--feedback", "--allow-uploads"]
        line += ["--max-new-tokens", "8", "--reader-passages", "2", "--device", "cpu"]
        self.process = start(partial(cli.run, cli.app, line), self.folder / "serve.log")
        limit = time.monotonic() + 120
        while True:
            try:
                self.send("GET", "/health")
            except OSError:
                if (code := ended(self.process)) is not None or time.monotonic() > limit:
                    raise RuntimeError(f"no server: code {code}; see serve.log") from None
                time.sleep(0.02)
            else:
                return

    def kill(self) -> None:
        """Kill the server at once."""
        os.kill(self.process, signal.SIGKILL)

    def stop(self) -> None:
        """Kill the server, and wait for its end."""
        self.kill()
        os.waitpid(self.process, 0)

    def send(self, method: str, path: str, body: object = None) -> Any:
        """Return what the server answers."""
        with self.open(method, path, body) as reply:
            return json.load(reply)

    def open(self, method: str, path: str, body: object = None) -> Any:
        """Open a request."""
        data = None if body is None else json.dumps(body).encode()
        request = urllib.request.Request(
            f"http://127.0.0.1:{self.port}{path}", data, {"Content-Type": "application/json"},
            method=method,
        )  # fmt: skip
        try:
            return urllib.request.urlopen(request, timeout=300)
        except urllib.error.HTTPError as error:
            raise RuntimeError(f"{method} {path}: {error.code} {error.read().decode()}") from None

    def with_kill(self, work: Callable[[], Any], kill: bool) -> Any:
        """Return what the work returns; with `kill` the server is killed meanwhile, or after it."""
        timer = threading.Timer(random.uniform(0, LONGEST), self.kill)
        if kill:
            timer.start()
        try:
            found = work()
        except (OSError, ValueError, HTTPException) as error:
            if not kill:
                raise RuntimeError("the server broke a request off") from error
            found = None
        if kill:
            timer.join()
            os.waitpid(self.process, 0)
            self.kills += 1
            self.serve()
            self.check_kept()
        return found

    # What people do

    def ask(self, question: str, *, kill: bool = False) -> dict[str, Any] | None:
        """Ask a question; return the answer's id and passages, None if its end wasn't told."""
        told: dict[str, Any] = {}

        def work() -> None:
            model = self.model
            body = {"model": model, "messages": [{"role": "user", "content": question}],
                    "stream": True}  # fmt: skip
            text = ""
            with self.open("POST", "/v1/chat/completions", body) as reply:
                for line in reply:
                    if not line.startswith(b"data: {"):
                        continue
                    event = json.loads(line[6:])
                    choice = event["choices"][0]
                    text += choice["delta"].get("content") or ""
                    if choice["finish_reason"]:
                        told.update(id=event["id"], hits=event["citations"])
                        self.ended[event["id"]] = text

        self.with_kill(work, kill)
        if not told:
            self.broken += 1
            return None
        texts = {normalise(hit["text"]) for hit in told["hits"]}
        self.found_gone += len(texts & self.gone)
        return told

    @property
    def model(self) -> str:
        """The name of the generator."""
        return Path(self.generator).name

    def judge(self, *, kill: bool = False, **body: Any) -> None:
        """Judge something; a judgment that wasn't answered is sent again."""

        def work() -> None:
            with self.open("POST", "/v1/feedback", body) as reply:
                if reply.status == 201:
                    self.judged[json.load(reply)["id"]] = body

        before = len(self.judged)
        self.with_kill(work, kill)
        if len(self.judged) == before:
            self.judge(**body)

    def judge_all(self, asked: Asked, told: dict[str, Any], kills: set[str]) -> None:
        """Let everybody judge a passage of an answer: the right one, if it was read."""
        holds = [normalise(asked.passage) in normalise(hit["text"]) for hit in told["hits"]]
        hit = told["hits"][holds.index(True) if any(holds) else 0]
        right = 1 if any(holds) else -1
        for person, sign in PEOPLE.items():
            self.judge(
                answer_id=told["id"], person=person, kind="passage", passage_id=hit["id"],
                value=sign * right, kill=person in kills,
            )  # fmt: skip

    def check_kept(self) -> None:
        """Compare the store with what was told."""
        with FeedbackStore.open(self.index) as store:
            kept = {each.id: each for each in store.judgments()}
            answers = {each.id: each for each in store.answers()}
        lost = [number for number, body in self.judged.items() if not _same(kept.get(number), body)]
        missing = [
            name
            for name, text in self.ended.items()
            if name not in answers or answers[name].answer != text.strip() or answers[name].stopped
        ]
        if lost or missing:
            self.check("lost after a kill", f"judgments {lost}, answers {missing}", False)

    # Documents

    def texts_from(self, source: str) -> set[str]:
        """Return the passages of a document, normalised."""
        body = {"query": "a", "top_k": 100, "search": "dense", "where": f"source = '{source}'"}
        return {normalise(hit["text"]) for hit in self.send("POST", "/search", body)["hits"]}

    def sources(self) -> list[str]:
        """Return the sources of the documents."""
        return [each["source"] for each in self.send("GET", "/documents?limit=1000")["data"]]

    def remove(self, source: str) -> None:
        """Delete a document from the index and from the folder."""
        self.gone |= self.texts_from(source)
        self.send("DELETE", f"/documents?source={urllib.request.quote(source)}")
        (self.folder / "documents" / Path(source).name).unlink()

    def replace(self, source: str) -> None:
        """Put another text in a document's place, in the index and in the folder."""
        before = self.texts_from(source)
        file = self.folder / "documents" / Path(source).name
        text = file.read_text().replace(". ", " this year. ")
        file.write_text(text)
        self.send("POST", "/documents", {"text": text, "source": source})
        self.gone |= before - self.texts_from(source)


def _same(kept: Any, body: dict[str, Any]) -> bool:
    return kept is not None and all(getattr(kept, name) == value for name, value in body.items())


def make_domain(folder: Path, places: int, seed: int) -> tuple[list[Asked], str, str]:
    """Write documents, questions of people to train on, and two models; return the month's."""
    of_place: dict[str, list[Asked]] = {}
    with TABLE.open(encoding="utf-8", newline="") as lines:
        for row in csv.DictReader(lines):
            place = re.split(r"\W+at |:", row["Title"])
            name = place[-1] if " at " in row["Title"] else place[0]
            asked = Asked(row["Query"], row["Answer"], row["Passage"], name.strip())
            of_place.setdefault(asked.place, []).append(asked)
    (folder / "documents").mkdir()
    chosen = sorted(of_place)[:places]
    for place in chosen:
        sheets = dict.fromkeys(each.passage for each in of_place[place])
        parts = [f"## Sheet {number}\n\n{text}" for number, text in enumerate(sheets, 1)]
        text = "\n\n".join([f"# {place}", *parts])
        (folder / "documents" / f"{place}.md").write_text(f"{text}\n")
    rows = [each for place in chosen for each in of_place[place]]
    random.Random(seed).shuffle(rows)
    half = len(rows) // 2
    with (folder / "questions.csv").open("w", newline="") as out:
        writer = csv.writer(out)
        writer.writerow(["Query", "Answer", "Passage"])
        writer.writerows((row.query, row.answer, row.passage) for row in rows[:half])
    texts = [text for row in rows for text in (row.passage, row.query)]
    encoder = build_encoder(texts, folder / "encoder", seed=seed)
    texts += [row.answer for row in rows] + [*MARKS] * len(rows)
    return rows[half:], str(encoder), str(build_generator(texts, folder / "decoder", seed=seed))


def run_to_end(folder: Path, *line: object) -> None:
    """Run a command in a process of its own: LanceDB can't be forked once it was used."""
    words = [str(part) for part in line]
    process = start(partial(cli.run, cli.app, words), folder / f"{words[0]}.log")
    _, status = os.waitpid(process, 0)
    if code := os.waitstatus_to_exitcode(status):
        raise RuntimeError(f"dalm {' '.join(words)} ended with code {code}; see {words[0]}.log")


def index_documents(folder: Path, index: Path, *more: object) -> None:
    """Bring an index up to date with the documents."""
    passages = folder / "passages.jsonl"
    line = [folder / "documents", "--output", passages, "--overwrite-output"]
    run_to_end(folder, "passages", *line)
    run_to_end(folder, "index", passages, "--index-dir", index, *more)


def a_week(month: Month, asked: list[Asked], judged: int, kills: int) -> None:
    """Ask questions, and have the first of them judged by everybody."""
    moments = set(random.sample(range(len(asked) + judged * len(PEOPLE)), kills))
    moment = 0
    for place, each in enumerate(asked):
        told = month.ask(each.query, kill=moment in moments)
        moment += 1
        if place < judged:
            while told is None:
                told = month.ask(each.query)
            names = list(PEOPLE)
            month.judge_all(
                each, told, {names[n] for n in range(len(names)) if moment + n in moments}
            )
            moment += len(names)


def check_rows(month: Month) -> None:
    """Export the feedback, and check the rows and the weights."""
    rows = month.folder / "rows.jsonl"
    run_to_end(month.folder, "feedback", month.index, "--output", rows)
    table = read_table(rows)
    texts = {normalise(text) for text in table.texts("Passage")}
    if table.has("Negatives"):
        texts |= {normalise(text) for cell in table.column("Negatives") for text in cell}
    month.check("rows of deleted passages", len(texts & month.gone), not texts & month.gone)
    month.check("rows to train on", table.rows, table.rows > 0)
    reliability, weight = _people(month)
    others = [weight[name] for name in PEOPLE if name != "eve"]
    told = [f"{n} {weight[n]:.2f} (reliability {reliability[n]:.2f})" for n in PEOPLE]
    month.check("weight", ", ".join(told), weight["eve"] < min(others) / 5)


def _people(month: Month) -> tuple[dict[str, float], dict[str, float]]:
    from dalm.retrieval.index_folder import IndexFolder
    from dalm.user_feedback.feedback_tables import passages_of_index
    from dalm.user_feedback.training_rows import feedback_rows

    def written() -> int:
        with FeedbackStore.open(month.index) as store:
            store_of = IndexFolder(month.index).current().store
            found = feedback_rows([store], passages_of_index(store_of, store))
        people = {name: (each.reliability, each.weight) for name, each in found.people.items()}
        (month.folder / "people.json").write_text(json.dumps(people))
        return 0

    process = start(written, month.folder / "people.log")
    os.waitpid(process, 0)
    people = json.loads((month.folder / "people.json").read_text())
    return tuple({name: people[name][n] for name in PEOPLE} for n in (0, 1))  # type: ignore[return-value]


def live(folder: Path, options: argparse.Namespace) -> Month:
    """Live through the month; two of its four weeks are before the documents change."""
    places = PLACES if options.train else max(8, options.questions // 9)
    asked, retriever, generator = make_domain(folder, places, options.seed)
    index = folder / ("system/index" if options.train else "index")
    month = Month(folder, options, index, generator)
    if options.train:
        adapt(month, retriever)
        check_switch(month, retriever)
    else:
        index_documents(folder, index, "--retriever-name-or-path", retriever)
    month.serve()
    half, first = options.questions // 2, options.judged // 2
    kills = options.kills // 2
    a_week(month, asked[:half], first, kills)
    if options.train:
        check_training(month, retriever, 1)
    change_documents(month, asked[0].place)
    about = [each for each in asked[half:] if each.place in month.changed]
    others = [each for each in asked[half:] if each.place not in month.changed]
    rest = [*others[: options.judged - first], *about, *others[options.judged - first :]]
    a_week(month, rest[: options.questions - half], options.judged - first, options.kills - kills)
    if options.train:
        check_training(month, retriever, 2, "--force")
        check_rollback(month)
    month.stop()
    return month


def adapt(month: Month, retriever: str, *more: str, kills: int = 0) -> None:
    """Run `dalm adapt`, killed so many times on the way and started again."""
    recipe = month.folder / "stages.json"
    stages = {"retriever": RETRIEVER, "generator": GENERATOR}
    stages |= {name: {"max_new_tokens": 8} for name in ("evaluate-human", "evaluate-feedback")}
    recipe.write_text(json.dumps(stages))
    line = ["adapt", str(month.folder / "documents"), "--retriever-name-or-path", retriever]
    line += ["--generator-name-or-path", month.generator, "--backend", "none"]
    line += ["--questions", str(month.folder / "questions.csv"), "--precision", "fp32"]
    line += ["--output-dir", str(month.index.parent), "--stage-options", str(recipe)]
    line += ["--test-share", "0.3", "--device", "cpu", *more]
    for number in range(kills + 1):
        process = start(partial(cli.run, cli.app, line), month.folder / "adapt.log")
        if number < kills and killed_after(process, random.uniform(1, LONGEST_TRAINING)):
            month.training_kills += 1
            month.check_kept()
            continue
        if number == kills and (code := os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])):
            raise RuntimeError(f"dalm adapt ended with code {code}; see adapt.log")
        return


def served(month: Month) -> tuple[int, str]:
    """Return the number of the generation that is searched, and its retriever."""
    number = json.loads((month.index / "index.json").read_text())["generation"]
    file = month.index / "generations" / str(number) / "index.json"
    return number, json.loads(file.read_text())["retriever"]


def trained(month: Month) -> str:
    """Return the content of the pair that was trained last."""
    folder = month.index.parent
    models = (folder / name / name for name in ("retriever", "generator"))
    return content_of_pair(Pair(*map(str, models)))


def check_switch(month: Month, untuned: str) -> None:
    """Check that the first training is found better than random weights, and switched to."""
    outcome = json.loads((month.index.parent / "verdict.json").read_text())["outcome"]
    _, retriever = served(month)
    right = outcome == "better" and retriever != untuned
    month.check("first verdict and switch", f"{outcome}; {Path(retriever).parent.name}", right)


def check_training(month: Month, retriever: str, round_: int, *more: str) -> None:
    """Train from feedback while the index is served, and check what the verdict did."""
    before, pair = served(month), trained(month)
    adapt(month, retriever, "--feedback", *more, kills=2)
    after = served(month)
    verdict = json.loads((month.index.parent / "verdict.json").read_text())
    switched, is_new = after != before, trained(month) != pair
    wanted = is_new and (verdict["switches"] or "--force" in more)
    told = verdict["outcome"] if is_new else "the same pair again"
    told += f"; generation {before[0]} to {after[0]}"
    month.check(f"verdict and switch {round_}", told, wanted == switched)
    check_generation(month, f"served after {round_}")


def check_generation(month: Month, name: str) -> None:
    """Check that the server serves the generation that the index points to, within ten seconds."""
    number, limit = served(month)[0], time.monotonic() + 10
    while (found := month.send("POST", "/search", {"query": "a"})["generation"]) != number:
        if time.monotonic() > limit:
            break
        time.sleep(0.1)
    month.check(name, f"generation {found}", found == number)


def check_rollback(month: Month) -> None:
    """Switch back to the generation before, if there is one, and ask what was deleted."""
    pointer = json.loads((month.index / "index.json").read_text())
    if pointer["previous"] is None:
        month.check("rollback", "no generation before", True)
        return
    run_to_end(month.folder, "index", "--index-dir", month.index, "--rollback")
    number, _ = served(month)
    month.check("rollback", f"generation {number}", number == pointer["previous"])
    check_generation(month, "served after the rollback")


def change_documents(month: Month, place: str) -> None:
    """Remove the document of a place, and replace the next one."""
    sources = month.sources()
    first = next(n for n, source in enumerate(sources) if Path(source).stem == place)
    other = sources[(first + 1) % len(sources)]
    month.remove(sources[first])
    month.changed = {place}
    if month.options.replace:
        month.replace(other)
        month.changed.add(Path(other).stem)
    left = month.texts_from(sources[first])
    month.check("passages left of a removed document", len(left), not left)
    month.check("passages gone", len(month.gone), len(month.gone) > 1)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--train", action="store_true", help="train twice by dalm adapt")
    parser.add_argument("--questions", type=int, default=200)
    parser.add_argument("--judged", type=int, default=20, help="questions that three people judge")
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument("--replace", default=True, action=argparse.BooleanOptionalAction)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--work-dir", type=Path, help="empty folder; by default a temporary one")
    options = parser.parse_args()
    folder = options.work_dir or Path(tempfile.mkdtemp(prefix="dalm-month-"))
    folder.mkdir(parents=True, exist_ok=True)
    random.seed(options.seed)
    cli.import_commands()
    month = live(folder, options)
    month.check_kept()
    whole = len(month.ended) + month.broken >= options.questions
    month.check("answers whose end was told, all kept", len(month.ended), whole)
    month.check("answers broken off by kills", month.broken, month.broken <= month.kills)
    month.check("judgments answered with 201, all kept", len(month.judged),
                len(month.judged) == 3 * options.judged)  # fmt: skip
    month.check("kills", month.kills, month.kills == options.kills)
    if options.train:
        month.check("kills of adapt", month.training_kills, month.training_kills > 0)
    month.check("hits that are gone", month.found_gone, not month.found_gone)
    check_rows(month)
    width = max(len(name) for name, _, _ in month.checks)
    print("\n" + "\n".join(
        f"| {name:{width}} | {found} | {'right' if right else 'WRONG'} |"
        for name, found, right in month.checks
    ))  # fmt: skip
    if not all(right for _, _, right in month.checks):
        print(f"\nsomething is wrong; see {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
