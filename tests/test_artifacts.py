"""Outputs: whole or not at all, one writer at a time, damage is named."""

import errno
import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dalm import artifacts
from dalm.errors import UserError
from dalm.file_reading import DamagedError

HOLD = """
import sys, time
from pathlib import Path
from dalm.artifacts import claim
with claim(Path(sys.argv[1]), "--output-dir"):
    print("held", flush=True)
    time.sleep(60)
"""


@pytest.fixture
def sealed(tmp_path: Path) -> Path:
    """A folder as it is written."""
    with artifacts.write_folder(tmp_path / "model") as growing:
        (growing / "config.json").write_text("{}")
        (growing / "sub").mkdir()
        (growing / "sub" / "weights.bin").write_bytes(b"0123456789")
    return tmp_path / "model"


def test_a_claim_deletes_what_killed_writers_of_the_same_output_left(tmp_path: Path) -> None:
    for name in (".p.7.part", ".p.jsonl.8.part", ".q.9.part"):
        (tmp_path / name).write_text("x")
    with artifacts.claim(tmp_path / "p", "--output"):
        left = {path.name for path in tmp_path.glob(".*.part")}
    assert left == {".p.jsonl.8.part", ".q.9.part"}


def test_a_folder_appears_whole_with_its_manifest(sealed: Path) -> None:
    listed = json.loads((sealed / "manifest.json").read_text())["files"]
    assert {name: facts["size"] for name, facts in listed.items()} == {
        "config.json": 2,
        "sub/weights.bin": 10,
    }
    artifacts.verify(sealed)
    assert [path.name for path in sealed.parent.iterdir()] == ["model"]


def test_a_folder_that_fails_leaves_the_old_one(sealed: Path) -> None:
    def fail() -> None:
        with artifacts.write_folder(sealed) as growing:
            (growing / "config.json").write_text("[]")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert (sealed / "config.json").read_text() == "{}"
    assert [path.name for path in sealed.parent.iterdir()] == ["model"]


def test_a_kill_between_the_two_renames_loses_nothing(
    sealed: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rename = Path.rename

    def killed(path: Path, target: Path) -> Path:
        if path.name.endswith(".writing"):
            raise SystemExit
        return rename(path, target)

    monkeypatch.setattr(Path, "rename", killed)
    with pytest.raises(SystemExit), artifacts.write_folder(sealed) as staging:
        (staging / "other.json").write_text("{}")
    assert not sealed.exists()
    monkeypatch.undo()
    with artifacts.claim(sealed, "--output-dir"):
        artifacts.verify(sealed)
    assert (sealed / "config.json").read_text() == "{}"
    assert [path.name for path in sealed.parent.iterdir()] == ["model"]


def test_a_folder_is_replaced_as_a_whole(sealed: Path) -> None:
    with artifacts.write_folder(sealed) as growing:
        (growing / "other.json").write_text("{}")
    assert sorted(path.name for path in sealed.iterdir()) == ["manifest.json", "other.json"]


@pytest.mark.parametrize(
    ("spoil", "said"),
    [
        (lambda file: file.unlink(), "is missing"),
        (lambda file: file.write_bytes(b"01234"), "5 bytes of 10"),
        (lambda file: file.write_bytes(b"0123456780"), "another content"),
    ],
)
def test_damage_is_named(sealed: Path, spoil: object, said: str) -> None:
    spoil(sealed / "sub" / "weights.bin")  # type: ignore[operator]
    with pytest.raises(DamagedError, match=f"weights.bin.*{said}"):
        artifacts.verify(sealed)


@pytest.mark.parametrize("text", ["", "[]", "{", '{"files": 3}', '{"files": {"a": 1}}', "\udc80"])
def test_a_spoiled_manifest_is_damage(sealed: Path, text: str) -> None:
    (sealed / "manifest.json").write_bytes(text.encode("utf-8", "surrogateescape"))
    with pytest.raises(DamagedError, match=r"manifest\.json"):
        artifacts.verify(sealed)


def test_a_file_appears_when_it_is_whole(tmp_path: Path) -> None:
    file = tmp_path / "new" / "a.txt"
    with artifacts.write_file(file) as out:
        out.write("ä\n")
        assert not file.exists()
    assert file.read_bytes() == "ä\n".encode()

    def fail() -> None:
        with artifacts.write_file(file) as out:
            out.write("half")
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert [path.name for path in file.parent.iterdir()] == ["a.txt"]
    assert file.read_text() == "ä\n"


def test_a_link_stays_a_link(tmp_path: Path) -> None:
    target, link = tmp_path / "target.txt", tmp_path / "link.txt"
    target.write_text("old")
    link.symlink_to(target)
    artifacts.write_text(link, "new")
    assert link.is_symlink()
    assert target.read_text() == "new"


def test_a_full_disk_is_one_line_and_leaves_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(_handle: int) -> None:
        with Path("/dev/full").open("wb", buffering=0) as full:
            full.write(b"x")

    monkeypatch.setattr(os, "fsync", refuse)  # where a full disk shows at the latest
    with pytest.raises(UserError, match="No space left on device; free some space"):
        artifacts.write_text(tmp_path / "a.txt", "text")
    assert not list(tmp_path.iterdir())


def test_a_device_is_never_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)
    with pytest.raises(UserError, match="device or pipe"):
        artifacts.write_text(pipe, "text")
    with pytest.raises(UserError, match="a device or a pipe; name a file"):
        artifacts.check_file("--output", pipe, overwrite=True, flag="--overwrite-output")


def test_a_second_process_is_refused_and_a_dead_one_is_not_waited_for(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with subprocess.Popen(
        [sys.executable, "-c", HOLD, str(out)], stdout=subprocess.PIPE, text=True
    ) as holder:
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        with (
            pytest.raises(UserError, match=f"--output-dir {out}: another process is writing"),
            artifacts.claim(out, "--output-dir"),
        ):
            pass  # pragma: no cover
        holder.kill()
    with artifacts.claim(out, "--output-dir"):
        pass
    assert not list(tmp_path.iterdir())


def test_numbered_folders_are_made_once(tmp_path: Path) -> None:
    made = [artifacts.numbered_folder(tmp_path / "evaluation") for _ in range(3)]
    assert [path.name for path in made] == ["evaluation-1", "evaluation-2", "evaluation-3"]


@pytest.mark.parametrize("inside", ["file", "file/inside"])
def test_outputs_that_can_not_be_written_are_refused_first(tmp_path: Path, inside: str) -> None:
    (tmp_path / "file").write_text("")
    path = tmp_path / inside
    with pytest.raises(UserError, match=f"--output-dir {path}: {tmp_path}/file is a file"):
        artifacts.check_folder("--output-dir", path)


def test_a_claim_leaves_nothing_behind_and_can_be_made_again(tmp_path: Path) -> None:
    for _ in range(2):
        with artifacts.claim(tmp_path / "out", "--output"):
            assert [path.name for path in tmp_path.iterdir()] == [".out.lock"]
        assert list(tmp_path.iterdir()) == []


def test_a_file_below_a_file_is_explained(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("mine")
    with pytest.raises(UserError, match=r"out\.txt can't be written: .*; name another path"):
        artifacts.write_text(tmp_path / "taken" / "out.txt", "text")


def test_an_error_of_a_file_that_is_read_is_not_one_of_the_output(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(FileNotFoundError), artifacts.write_file(tmp_path / "out" / "a.txt") as out:
        out.write((tmp_path / "in" / "none.txt").read_text())
    assert not list((tmp_path / "out").iterdir())


def test_a_claimed_folder_holds_its_own_lock_and_is_not_left_empty(tmp_path: Path) -> None:
    folder = tmp_path / "new" / "out"
    with artifacts.claim_folder(folder, "--output-dir"):
        assert [path.name for path in folder.iterdir()] == [".dalm.lock"]
        assert [path.name for path in folder.parent.iterdir()] == ["out"]
        with pytest.raises(UserError, match=f"--output-dir {folder}: another process is writing"):
            artifacts.check_unclaimed(folder, "--output-dir")
    assert not folder.exists()
    artifacts.check_unclaimed(folder, "--output-dir")
    folder.mkdir()
    for name in (".a.json.7.part", ".a.part", "b.7.part"):
        (folder / name).write_text("")
    with artifacts.claim_folder(folder, "--output-dir"):
        pass
    assert sorted(path.name for path in folder.iterdir()) == [".a.part", "b.7.part"]


def test_the_first_file_that_no_process_holds_is_claimed(tmp_path: Path) -> None:
    path = tmp_path / "a[1].txt"
    (tmp_path / "a[1].2x").write_text("another's")
    with artifacts.claim_free(path) as first, artifacts.claim_free(path) as second:
        assert [first.name, second.name] == ["a[1].txt", "a[1].2.txt"]
        assert artifacts.claimed_beside(path) == []
        first.write_text("")
        second.write_text("")
    assert artifacts.claimed_beside(path) == [first, second]
    with artifacts.claim_free(path) as again:
        assert again == path
    (tmp_path / "file").write_text("")
    with pytest.raises(UserError, match="name another path"):
        artifacts.claim_free(tmp_path / "file" / "a.txt").__enter__()


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may do all")
def test_a_folder_in_one_that_can_not_be_written_to_can_be_claimed(tmp_path: Path) -> None:
    """As a mounted volume."""
    (tmp_path / "out").mkdir()
    tmp_path.chmod(0o555)
    try:
        with artifacts.claim_folder(tmp_path / "out", "--output-dir"):
            pass
    finally:
        tmp_path.chmod(0o755)


LIMIT = 100_000


def fill_python(path: Path) -> None:
    path.write_text("x" * 2 * LIMIT)


def fill_torch(path: Path) -> None:
    import torch

    torch.save(torch.zeros(LIMIT), path)


def fill_safetensors(path: Path) -> None:
    import torch
    from safetensors.torch import save_file

    save_file({"a": torch.zeros(LIMIT)}, path)


def fill_parquet(path: Path) -> None:
    import pyarrow
    import pyarrow.parquet

    pyarrow.parquet.write_table(pyarrow.table({"a": list(range(LIMIT))}), path)


def fill_tokenizer(path: Path) -> None:
    from tokenizers import Tokenizer, models

    words = {str(number): number for number in range(LIMIT // 5)}
    Tokenizer(models.WordLevel(words, unk_token="0")).save(str(path))


@pytest.mark.parametrize(
    "fill", [fill_python, fill_torch, fill_safetensors, fill_parquet, fill_tokenizer]
)
def test_a_full_disk_is_one_line_whatever_library_meets_it(
    tmp_path: Path, fill: Callable[[Path], None], file_size_limit: Callable[[int], object]
) -> None:
    fill(tmp_path / "warm")  # nothing is imported, and no cache written, under the limit
    (tmp_path / "warm").unlink()
    with (
        file_size_limit(LIMIT),
        pytest.raises(UserError, match=r"out can't be written: .*; free some space"),
        artifacts.write_folder(tmp_path / "out") as staging,
    ):
        fill(staging / "file")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EFBIG, errno.EDQUOT])
def test_the_system_s_words_for_a_full_disk_are_kept(number: int) -> None:
    reason = os.strerror(number)
    assert artifacts.full_disk(OSError(number, reason)) == reason
    assert artifacts.full_disk(Exception(f"I/O error: {reason} (os error {number})")) == reason
    assert artifacts.full_disk(Exception("(os error 2)")) is None
    assert artifacts.full_disk(OSError(errno.ENOENT, "none")) is None
