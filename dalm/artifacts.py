"""Write outputs whole or not at all, and claim them while they are written.

A file or folder is written beside its place under a hidden name and renamed when it is complete, so
a crash leaves the old one or the new one: a folder that is replaced has a hidden name for a moment,
from which the next claim restores it. A folder's last file is its manifest: the name, size and
hash of every other file, by which a damaged or partial copy is recognised.
"""

import errno
import hashlib
import json
import os
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Any

import yaml
from filelock import FileLock, Timeout

from dalm import stop_signals
from dalm.errors import UserError
from dalm.file_reading import DamagedError, read_record, reason_of, record_from

MANIFEST = "manifest.json"
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_unfinished: set[Path] = set()
"""What this process has to delete in any case: locks, and what isn't complete yet."""


@dataclass(frozen=True)
class _Entry:
    size: int
    sha256: str


@dataclass(frozen=True)
class _Manifest:
    files: dict[str, dict[str, Any]]


# What is refused before anything is computed


def check_folder(option: str, folder: Path) -> None:
    """Refuse a folder that could not be written to in the end.

    Raises:
        UserError: it is a file or in one, or the rights are missing.
    """
    _check_parents(option, folder, [folder, *folder.absolute().parents], "folder")


def check_file(option: str, file: Path, overwrite: bool, flag: str) -> None:
    """Refuse a file that could not be written in the end.

    `flag` is the option that allows replacing a file that exists.

    Raises:
        UserError: it is a folder or exists, or the rights are missing.
    """
    if file.is_dir():
        raise UserError(f"{option} {file}: a folder; name a file")
    if file.exists() and not file.is_file():
        raise UserError(f"{option} {file}: a device or a pipe; name a file")
    if file.exists() and not overwrite:
        raise UserError(f"{option} {file} exists; name another file, or add {flag}")
    _check_parents(option, file, file.absolute().parents, "path")


def _check_parents(option: str, path: Path, parents: Iterable[Path], what: str) -> None:
    """Refuse an output whose nearest existing parent is a file or can't be written to."""
    nearest = next(parent for parent in parents if parent.exists())
    if not nearest.is_dir():
        remedy = "name a folder" if what == "folder" else "name another path"
        raise UserError(f"{option} {path}: {nearest} is a file; {remedy}")
    if not os.access(nearest, os.W_OK | os.X_OK):
        raise UserError(f"{option} {path}: no right to write to {nearest}; name another {what}")


# Claims


@contextmanager
def claim(path: Path, option: str) -> Iterator[None]:
    """Hold an output for this process alone, by a lock beside it that dies with the process.

    Raises:
        UserError: another process is writing there.
    """
    target = _resolved(path)
    with _explained(path):
        target.parent.mkdir(parents=True, exist_ok=True)
        file = _lock_file(target)
        lock = FileLock(file)
        try:
            lock.acquire(timeout=0)
        except Timeout:
            raise UserError(
                f"{option} {path}: another process is writing there; wait for it to end, or name "
                "another path"
            ) from None
    try:
        with _deleted(file):  # FileLock takes no lock on a file that has lost its name
            _clean_up(target)
            yield
    finally:
        lock.release()


def check_unclaimed(path: Path, option: str) -> None:
    """Refuse an output that another process is writing now, without creating anything.

    Raises:
        UserError: another process is writing there.
    """
    if _lock_file(_resolved(path)).exists():
        with claim(path, option):
            pass


def _lock_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def numbered_folder(stem: Path) -> Path:
    """Make and return the first of `stem-1`, `stem-2` ... that doesn't exist yet."""
    with _explained(stem):
        stem.parent.mkdir(parents=True, exist_ok=True)
        for number in count(1):
            folder = stem.with_name(f"{stem.name}-{number}")
            with suppress(FileExistsError):
                folder.mkdir()
                return folder
    raise AssertionError("some number is free")


def _clean_up(target: Path) -> None:
    """Undo what processes that were killed while they wrote the target have left behind."""
    if not target.exists() and _old_name(target).exists():
        _old_name(target).rename(target)
    prefix = f".{target.name}."
    for file in target.parent.glob(".*.part"):
        if file.name.startswith(prefix) and file.name[len(prefix) : -len(".part")].isdigit():
            file.unlink(missing_ok=True)


# Writing


@contextmanager
def write_file(path: Path, mode: str = "w") -> Iterator[IO[Any]]:
    """Open a file beside `path` that takes its place when the block ends without an error.

    Text is UTF-8 with \\n as the line end.

    Raises:
        UserError: the disk is full or refuses; nothing stays behind.
    """
    options = {} if "b" in mode else {"encoding": "utf-8", "newline": "\n"}
    with stage_file(path) as staged, staged.open(mode, **options) as out:  # type: ignore[call-overload]
        yield out


@contextmanager
def stage_file(path: Path) -> Iterator[Path]:
    """Yield a path beside `path` for a library to write to; its file takes the place of `path`.

    Raises:
        UserError: the disk is full or refuses; nothing stays behind.
    """
    target = _resolved(path)
    if target.exists() and not target.is_file():  # a rename would put a file in a device's place
        raise UserError(f"{path} can't be written: a folder, device or pipe; name a file")
    staged = target.with_name(f".{target.name}.{os.getpid()}.part")
    with _explained(path), _deleted(staged):
        target.parent.mkdir(parents=True, exist_ok=True)
        yield staged
        with staged.open("rb") as written:
            os.fsync(written.fileno())
        staged.replace(target)
        sync(target.parent)


def write_text(path: Path, text: str) -> None:
    """Write a text file whole."""
    with write_file(path) as out:
        out.write(text)


def write_json(path: Path, content: Any) -> None:
    """Write JSON that people can read, too."""
    write_text(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")


def write_yaml(path: Path, content: Mapping[str, Any]) -> None:
    """Write YAML in the order of the mapping."""
    text = yaml.dump(dict(content), Dumper=_Dumper, sort_keys=False, allow_unicode=True)
    write_text(path, text)


class _Dumper(yaml.SafeDumper):
    """Write YAML without aliases, which aren't read."""

    def ignore_aliases(self, data: Any) -> bool:  # noqa: ARG002
        return True


@contextmanager
def write_folder(path: Path) -> Iterator[Path]:
    """Yield a new folder beside `path` that takes its place, sealed, when the block ends well.

    Raises:
        UserError: the disk is full or refuses; nothing stays behind.
    """
    target = _resolved(path)
    staging = target.with_name(f".{target.name}.writing")
    with _explained(path), _deleted(staging):
        shutil.rmtree(staging, ignore_errors=True)
        staging.mkdir(parents=True)
        yield staging
        seal(staging)
        publish(staging, target)


@contextmanager
def _deleted(path: Path) -> Iterator[None]:
    """Delete a file or folder when the block ends, or the process by a signal within it."""
    _unfinished.add(path)
    try:
        yield
    finally:
        _delete(path)
        _unfinished.discard(path)


def _delete(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
        return
    with suppress(OSError):  # gone, or a parent is a file; Windows deletes no open one
        path.unlink()


@stop_signals.on_abrupt_end
def _delete_unfinished() -> None:
    for path in list(_unfinished):
        _delete(path)


def seal(folder: Path, names: Collection[str] | None = None) -> None:
    """Put a folder's files on the disk, and write its manifest last.

    With `names`, for a folder that holds other files too, the manifest lists these files only.
    """
    paths = folder.rglob("*") if names is None else (folder / name for name in names)
    files = sorted(file for file in paths if file.is_file() and file.name != MANIFEST)
    listed = {}
    for file in files:
        with file.open("rb") as content:
            digest = hashlib.file_digest(content, "sha256").hexdigest()
            os.fsync(content.fileno())
        listed[file.relative_to(folder).as_posix()] = {
            "size": file.stat().st_size,
            "sha256": digest,
        }
    write_json(folder / MANIFEST, {"files": listed})


def publish(staging: Path, target: Path) -> None:
    """Give a complete folder its place; what was there is deleted after the new one is in place."""
    old = _old_name(target)
    shutil.rmtree(old, ignore_errors=True)
    with stop_signals.put_off():
        if target.exists():
            target.rename(old)
        staging.rename(target)
    sync(target.parent)
    shutil.rmtree(old, ignore_errors=True)


def _old_name(target: Path) -> Path:
    return target.with_name(f".{target.name}.old")


def verify(folder: Path) -> None:
    """Compare a folder with its manifest; one without a manifest passes if it is a folder.

    Raises:
        DamagedError: names the first file that is missing, or has another size or content.
    """
    if not os.path.lexists(folder / MANIFEST):
        return
    for name, listed in read_record(folder / MANIFEST, _Manifest).files.items():
        entry = record_from(listed, _Entry, f"{folder / MANIFEST}: {name}")
        file = folder / name
        if not file.is_file():
            raise DamagedError(f"{file} is missing")
        if file.stat().st_size != entry.size:
            raise DamagedError(f"{file} has {file.stat().st_size} bytes of {entry.size}")
        with file.open("rb") as content:
            if hashlib.file_digest(content, "sha256").hexdigest() != entry.sha256:
                raise DamagedError(f"{file} has another content than was written")


def sync(path: Path) -> None:
    """Put a folder's names on the disk, where the platform can."""
    with suppress(OSError):
        handle = os.open(path, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)


@contextmanager
def _explained(path: Path) -> Iterator[None]:
    """Turn what the operating system says of a write into one line."""
    try:
        yield
    except OSError as error:
        remedy = "free some space" if error.errno in _FULL else "name another path"
        raise UserError(f"{path} can't be written: {reason_of(error)}; {remedy}") from error


def _resolved(path: Path) -> Path:
    """Return where a path leads, so that a link stays a link and its target is replaced."""
    return Path(os.path.realpath(path))
