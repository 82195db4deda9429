"""A run that was killed, told to stop and resumed ends where one left alone ends, to the bit."""

import json
import os
import signal
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import torch
from safetensors import safe_open

from dalm import stop_signals
from dalm.cli import app, run
from dalm.errors import UserError
from dalm.training import checkpoints, metrics_log
from dalm.training.objectives.index_candidates import IndexCandidates
from tests.forked import PATIENCE, Forked

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")


@dataclass(frozen=True)
class Finished:
    """A process that has ended."""

    code: int
    errors: str


@dataclass(frozen=True)
class Story:
    """One command, run once without a break and once with breaks."""

    whole: Path
    broken: Path
    processes: dict[str, Finished] = field(default_factory=dict)
    seen: dict[str, list[int]] = field(default_factory=dict)


class Process:
    """`dalm` in a process of its own; it waits in the fourth refresh if a flag is given."""

    def __init__(self, *arguments: object, log: Path, refreshing: Path | None = None) -> None:
        def work() -> int:
            signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell may have it ignored
            stop_signals.listen()
            if refreshing is not None:
                pause_in_refresh(refreshing)
            return run(app, [str(argument) for argument in arguments])

        log.unlink(missing_ok=True)
        self.process = Forked(work, log)

    def end(self) -> Finished:
        return Finished(self.process.end(), self.process.text())

    def signal_when(self, number: signal.Signals, condition) -> Finished:
        """Send a signal as soon as `condition()` holds."""
        limit = time.monotonic() + PATIENCE
        while not condition() and self.process.poll() is None and time.monotonic() < limit:
            time.sleep(0.001)
        if self.process.poll() is None:
            self.process.send(number)
        return self.end()


def pause_in_refresh(flag: Path) -> None:
    """Let a refresh wait: that of a tiny index is over before anyone could break it off."""
    encode = IndexCandidates._encode

    def pausing(self, places):
        vectors = encode(self, places)
        if self.index.refreshes == 4:
            flag.touch()
            time.sleep(120)
        return vectors

    IndexCandidates._encode = pausing


def lines(folder: Path) -> list[dict[str, float]]:
    """Return the metrics without what two equal runs may differ in."""
    file = folder / "metrics.jsonl"
    read = map(json.loads, file.read_text().splitlines()) if file.exists() else ()
    return [{k: v for k, v in line.items() if k not in metrics_log.CLOCK} for line in read]


def logged(folder: Path, step: int):
    """Return whether the metrics of a step are on the disk."""
    return lambda: (
        f'{{"step": {step},'
        in ((folder / "metrics.jsonl").read_text() if (folder / "metrics.jsonl").exists() else "")
    )


def writing(folder: Path, step: int):
    """Return whether a checkpoint is being written."""
    return (folder / checkpoints.WRITING / f"checkpoint-{step}").exists


def saved(folder: Path) -> list[int]:
    return [step for step, _ in checkpoints.steps(folder)]


def exported(folder: Path) -> dict[str, bytes]:
    """Return the weights that a run wrote, by file."""
    files = [
        f for name in ("retriever", "generator") for f in (folder / name).rglob("*.safetensors")
    ]
    return {str(f.relative_to(folder)): f.read_bytes() for f in files}


def indices(folder: Path) -> dict[str, tuple[dict[str, str], bytes]]:
    """Return the index of each checkpoint: what is said of it, in any order, and its vectors."""
    found = {}
    for file in folder.glob("checkpoint-*/index_0.safetensors"):
        with safe_open(file, "np") as stored:
            vectors = stored.get_tensor("vectors").tobytes()
            found[file.parent.name] = (stored.metadata(), vectors)
    return found


def tell(story: Story, command: list[object], *breaks, refreshing: Path | None = None) -> Story:
    """Run a command whole; then break it off at each of `breaks`, and resume it each time."""
    log = story.whole.with_suffix(".txt")
    story.processes["whole"] = Process(*command, "--output-dir", story.whole, log=log).end()
    again = [*command, "--output-dir", story.broken]
    for number, condition in breaks:
        process = Process(*again, log=log, refreshing=refreshing)
        story.processes[number.name] = process.signal_when(number, condition)
        refreshing = None
        story.seen[number.name] = saved(story.broken)
        again = [*command, "--output-dir", story.broken, "--resume-from-checkpoint", "latest"]
    half_written = story.broken / checkpoints.WRITING / "checkpoint-99"
    half_written.mkdir(parents=True)
    (half_written / "trainer_state.json").write_text('{"global_step": 99}')
    with (story.broken / "metrics.jsonl").open("a") as out:
        out.write('{"step": 99, "lo')
    story.processes["resumed"] = Process(*again, log=log).end()
    return story


INDEX_OPTIONS = [
    *"--candidates index --objective emdr2 --reader-passages 2 --num-candidates 3".split(),
    *"--reconstruction-weight 0.5 --refresh-budget 0.02 --reader-warmup 0.2".split(),
    *"--gold-probability 0.5 --batch-size 4 --epochs 6 --generator-max-len 200".split(),
    *"--learning-rate 1e-2 --weight-decay 0.1".split(),
]


@pytest.fixture(scope="module")
def stories(tiny_models, tiny_table, tmp_path_factory) -> dict[str, Story]:
    folder = tmp_path_factory.mktemp("resume")
    shared = "--device cpu --precision fp32 --checkpointing-steps 3 --logging-steps 2".split()
    joint = Story(folder / "joint", folder / "joint-broken")
    joint_command = [
        *("train-rag-e2e", tiny_table, tiny_models.encoder, tiny_models.generator, *shared),
        *"--batch-size 4 --num-candidates 3 --epochs 6 --generator-max-len 128".split(),
        *"--use-peft both --lora-rank 2 --lora-dropout 0.1 --learning-rate 1e-2".split(),
    ]
    alone = Story(folder / "alone", folder / "alone-broken")
    alone_command = [
        *("train-retriever-only", tiny_models.encoder, tiny_table, *shared),
        *"--batch-size 3 --gradient-accumulation-steps 2 --epochs 8 --learning-rate 1e-3".split(),
        *"--lr-scheduler-type cosine --num-warmup-steps 3 --logit-scale 20".split(),
    ]
    index = Story(folder / "index", folder / "index-broken")
    index_command = [
        *("train-rag-e2e", tiny_table, tiny_models.encoder, tiny_models.generator, *shared),
        *INDEX_OPTIONS,
    ]
    refreshing = folder / "refreshing"
    tell(
        *(index, index_command),
        (signal.SIGKILL, refreshing.exists),
        (signal.SIGTERM, logged(index.broken, 22)),
        refreshing=refreshing,
    )
    tell(  # Five updates an epoch: killed in the second epoch, behind checkpoint 6 or in it.
        *(joint, joint_command),
        (signal.SIGKILL, logged(joint.broken, 8)),
        (signal.SIGTERM, logged(joint.broken, 12)),
    )
    # Four updates an epoch, each of two batches but the last one.
    tell(alone, alone_command, (signal.SIGINT, writing(alone.broken, 9)))
    return {"joint": joint, "alone": alone, "index": index}


@pytest.fixture(params=["joint", "alone", "index"])
def story(request, stories) -> Story:
    return stories[request.param]


def test_the_breaks_were_breaks(story):
    for name in ("whole", "resumed"):
        assert story.processes[name].code == 0, story.processes[name].errors
    last = lines(story.whole)[-1]["step"]
    newest = [steps[-1] for steps in story.seen.values() if steps]
    assert len(newest) == len(story.seen), "no checkpoint to resume from"
    assert newest == sorted(set(newest))
    assert newest[-1] < last


@pytest.mark.parametrize("name", ["joint", "index"])
def test_a_kill_leaves_the_last_finished_checkpoint(stories, name):
    killed = stories[name].processes["SIGKILL"]
    assert killed.code == -signal.SIGKILL, killed.errors
    assert all(step % 3 == 0 for step in stories[name].seen["SIGKILL"])


def test_a_resumed_index_is_that_of_an_unbroken_run(stories):
    """Also of a run that was killed while it made the index anew."""
    story = stories["index"]
    whole, broken = indices(story.whole), indices(story.broken)
    assert len(whole) == 2
    assert whole == broken
    last = lines(story.whole)[-1]
    assert last["refreshes"] > 5
    assert len({line["index_age"] for line in lines(story.whole)}) > 2
    said = story.processes["resumed"].errors
    assert f"index      loaded from {story.broken}/checkpoint-" in said
    assert "built again" not in said


def test_resumed_weights_are_those_of_an_unbroken_run(story):
    whole, broken = exported(story.whole), exported(story.broken)
    assert whole
    assert set(whole) == set(broken)
    assert [name for name in whole if whole[name] != broken[name]] == []


def test_resumed_metrics_are_those_of_an_unbroken_run(story):
    assert lines(story.whole) == lines(story.broken)


def test_every_step_had_something_to_learn(story):
    """Otherwise equal weights prove nothing."""
    assert all(line["grad_norm"] > 0 for line in lines(story.whole))


def test_unfinished_checkpoints_are_gone_in_the_end(story):
    assert not (story.broken / checkpoints.WRITING).exists()
    assert saved(story.broken) == saved(story.whole)


@pytest.mark.parametrize(
    ("name", "number"),
    [("joint", signal.SIGTERM), ("alone", signal.SIGINT), ("index", signal.SIGTERM)],
)
def test_a_signal_writes_a_checkpoint_and_says_so_in_one_line(stories, name, number):
    stopped = stories[name].processes[number.name]
    assert stopped.code == 128 + number  # 143 for SIGTERM, 130 for Ctrl-C
    assert "Traceback" not in stopped.errors
    said = [line for line in stopped.errors.splitlines() if line.startswith("dalm: ")]
    checkpoint = stories[name].broken / f"checkpoint-{stories[name].seen[number.name][-1]}"
    assert said == [
        f"dalm: stopped by {number.name} after writing {checkpoint}; "
        "run the same command with --resume-from-checkpoint latest to go on"
    ]


def whole_checkpoint(folder: Path, step: int, text: str = "weights") -> Path:
    path = folder / checkpoints.WRITING / f"checkpoint-{step}"
    path.mkdir(parents=True)
    (path / "trainer_state.json").write_text(json.dumps({"global_step": step}))
    (path / "weights").write_text(text)
    return path


def test_latest_is_the_last_finished_checkpoint(tmp_path):
    checkpoints.publish(whole_checkpoint(tmp_path, 9), tmp_path, keep=2)
    checkpoints.publish(whole_checkpoint(tmp_path, 10), tmp_path, keep=2)
    whole_checkpoint(tmp_path, 11)
    assert checkpoints.find("latest", tmp_path) == tmp_path / "checkpoint-10"


def test_without_a_finished_checkpoint_there_is_nothing_to_resume(tmp_path):
    half = whole_checkpoint(tmp_path, 3)
    with pytest.raises(UserError, match="no checkpoint in"):
        checkpoints.find("latest", tmp_path)
    (half / "trainer_state.json").unlink()
    with pytest.raises(UserError, match="not a checkpoint"):
        checkpoints.find(str(half), tmp_path)


def test_latest_skips_a_damaged_checkpoint_and_names_it(tmp_path, caplog):
    for step in (3, 6, 9):
        checkpoints.publish(whole_checkpoint(tmp_path, step), tmp_path, keep=3)
    (tmp_path / "checkpoint-9" / "weights").unlink()
    (tmp_path / "checkpoint-6" / "weights").write_text("WEIGHTS")  # as long, but another content
    assert checkpoints.find("latest", tmp_path) == tmp_path / "checkpoint-3"
    [line] = caplog.messages
    assert line.startswith("resuming from checkpoint-3; damaged: checkpoint-9 (")
    assert "weights is missing" in line
    assert "checkpoint-6 (" in line
    (tmp_path / "checkpoint-3" / "manifest.json").write_text("{")
    with pytest.raises(UserError, match=r"no checkpoint in .*; damaged: checkpoint-9"):
        checkpoints.find("latest", tmp_path)


def test_a_damaged_checkpoint_that_is_named_is_refused(tmp_path):
    checkpoints.publish(whole_checkpoint(tmp_path, 3), tmp_path, keep=1)
    checkpoint = tmp_path / "checkpoint-3"
    (checkpoint / "weights").write_text("cut")
    with pytest.raises(UserError, match="3 bytes of 7; resume from another checkpoint"):
        checkpoints.find(str(checkpoint), tmp_path)


def test_a_checkpoint_without_its_manifest_is_damaged(tmp_path):
    """It is what a copy that was broken off leaves."""
    checkpoints.publish(whole_checkpoint(tmp_path, 3), tmp_path, keep=1)
    (tmp_path / "checkpoint-3" / "manifest.json").unlink()
    with pytest.raises(UserError, match=r"damaged: checkpoint-3 \(.*manifest.json is missing"):
        checkpoints.find("latest", tmp_path)


def test_a_folder_that_another_machine_does_not_see_is_refused(tmp_path, monkeypatch):
    def check(folder):
        monkeypatch.setattr(checkpoints, "from_main", lambda probe: folder / probe.name)
        checkpoints.check_seen_by_all(tmp_path, torch.device("cpu"))

    monkeypatch.setattr(checkpoints, "world_size", lambda: 2)
    monkeypatch.setattr(checkpoints, "SEEN_WITHIN", 0.3)
    check(tmp_path)
    with pytest.raises(UserError, match="1 of 2 processes don't see what the main one writes"):
        check(tmp_path / "of another machine")
    assert not [*tmp_path.iterdir()]


def test_only_the_newest_checkpoints_are_kept(tmp_path):
    for step in (2, 4, 11):
        checkpoints.publish(whole_checkpoint(tmp_path, step), tmp_path, keep=2)
    assert saved(tmp_path) == [4, 11]


def test_a_run_resumed_from_an_earlier_checkpoint_replaces_the_later_ones(tmp_path):
    for step in (3, 6, 9):
        checkpoints.publish(whole_checkpoint(tmp_path, step, "old"), tmp_path, keep=3)
    checkpoints.publish(whole_checkpoint(tmp_path, 6, "new"), tmp_path, keep=3)
    assert saved(tmp_path) == [3, 6]
    assert checkpoints.find("latest", tmp_path) == tmp_path / "checkpoint-6"
    assert (tmp_path / "checkpoint-6" / "weights").read_text() == "new"
    checkpoints.publish(whole_checkpoint(tmp_path, 4, "newer"), tmp_path, keep=1)
    assert saved(tmp_path) == [4]


def test_a_checkpoint_is_never_seen_half_deleted(tmp_path, monkeypatch):
    """A kill while old checkpoints are deleted leaves no folder that looks like a checkpoint."""
    for step in (3, 6):
        checkpoints.publish(whole_checkpoint(tmp_path, step), tmp_path, keep=2)

    def killed(path, **options):
        (Path(path) / "weights").unlink()
        raise KeyboardInterrupt

    monkeypatch.setattr(checkpoints.shutil, "rmtree", killed)
    with pytest.raises(KeyboardInterrupt):
        checkpoints.publish(whole_checkpoint(tmp_path, 3, "new"), tmp_path, keep=2)
    assert all((path / "weights").exists() for _, path in checkpoints.steps(tmp_path))


def test_rewinding_drops_the_lines_behind_a_step_and_a_torn_one(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"step": 4}\n{"step": 6}\n{"st')
    metrics_log.rewind(file, 4)
    assert file.read_text() == '{"step": 1}\n{"step": 4}\n'
    metrics_log.rewind(tmp_path / "none.jsonl", 4)


def test_a_broken_line_of_metrics_is_named(tmp_path):
    file = tmp_path / "metrics.jsonl"
    file.write_text('{"step": 1}\n{"st\n{"step": 6}\n')
    with pytest.raises(UserError, match="line 2 is damaged"):
        metrics_log.rewind(file, 4)
