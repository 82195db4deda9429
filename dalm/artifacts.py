"""Write outputs whole or not at all, and claim them while they are written.

A file or folder is written beside its place under a hidden name and renamed when it is complete, so
a crash leaves the old one or the new one: a folder that is replaced has a hidden name for a moment,
from which the next claim restores it. A folder's last file is its manifest: the name, size and
hash of every other file, by which a damaged or partial copy is recognised.
"""

import errno
import glob
import hashlib
import json
import os
import re
import shutil
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import IO, Annotated, Any

import yaml
from filelock import FileLock, Timeout

from dalm import stop_signals
from dalm.errors import UserError, reason_of
from dalm.file_reading import DamagedError, read_record, record_from

MANIFEST = "manifest.json"
BLOCK = 64 << 20
"""Bytes of a file that are hashed at a time."""
MAX_THREADS = 16
_FULL = {errno.ENOSPC, errno.EDQUOT, errno.EFBIG}
_FULL_OF_LIBRARIES = re.compile(
    rf"\(os error ({'|'.join(map(str, _FULL))})\)|iostream error|PytorchStreamWriter failed"
)
_unfinished: set[Path] = set()
"""What this process has to delete in any case: locks, and what isn't complete yet."""


@dataclass(frozen=True)
class _Entry:
    size: Annotated[int, 0]
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


class ClaimedError(UserError):
    """Report that another process is writing to an output."""


@contextmanager
def claim(path: Path, option: str = "") -> Iterator[None]:
    """Hold an output for this process alone, by a lock beside it that dies with the process.

    Raises:
        ClaimedError: another process is writing there; `option` is named with the path.
    """
    target = _resolved(path)
    with explained(path):
        target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(_lock_file(target), path, option):
        _clean_up(target)
        yield


@contextmanager
def claim_free(path: Path) -> Iterator[Path]:
    """Hold a file for this process alone, and yield it: `a.txt`, or `a.2.txt` if it is held …"""
    with ExitStack() as claims:
        for number in count(1):
            free = path.with_suffix(f".{number}{path.suffix}") if number > 1 else path
            with suppress(ClaimedError):
                claims.enter_context(claim(free))
                break
        yield free


def claimed_beside(path: Path) -> list[Path]:
    """Return the files that `claim_free` has given to any process and that are there."""
    pattern = f"{glob.escape(path.stem)}.[0-9]*{path.suffix}"
    return [each for each in (path, *sorted(path.parent.glob(pattern))) if each.is_file()]


@contextmanager
def claim_folder(folder: Path, option: str) -> Iterator[None]:
    """Hold a folder whose files are written one by one; it is made if need be, but not left empty.

    The lock is in the folder: its parent may be out of bounds.

    Raises:
        UserError: another process is writing there.
    """
    made = not folder.exists()
    try:
        with explained(folder):
            folder.mkdir(parents=True, exist_ok=True)
        with _locked(_lock_in(folder), folder, option):
            delete_unfinished(folder)
            yield
    finally:
        if made:
            with suppress(OSError):  # it holds something now
                folder.rmdir()


def check_unclaimed(folder: Path, option: str) -> None:
    """Refuse a folder that another process is writing to now, without creating anything.

    Raises:
        UserError: another process is writing there.
    """
    if _lock_in(folder).exists():
        with claim_folder(folder, option):
            pass


@contextmanager
def _locked(file: Path, path: Path, option: str) -> Iterator[None]:
    lock = FileLock(file)
    with explained(path):
        try:
            lock.acquire(timeout=0)
        except Timeout:
            named = f"{option} {path}".lstrip()
            raise ClaimedError(
                f"{named}: another process is writing there; wait for it to end, or name another "
                "path"
            ) from None
    try:
        with _deleted(file):  # FileLock takes no lock on a file that has lost its name
            yield
    finally:
        lock.release()


def _lock_file(target: Path) -> Path:
    return target.with_name(f".{target.name}.lock")


def _lock_in(folder: Path) -> Path:
    return _resolved(folder) / ".dalm.lock"


def numbered_folder(stem: Path) -> Path:
    """Make and return the first of `stem-1`, `stem-2` ... that doesn't exist yet."""
    with explained(stem):
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
    delete_unfinished(target.parent, target.name)


def delete_unfinished(folder: Path, name: str | None = None) -> None:
    """Delete what killed processes have left of a file that they wrote, or of all in a folder."""
    for file in folder.glob(".*.part"):
        written, _, process = file.name[1 : -len(".part")].rpartition(".")
        if process.isdigit() and written and name in (None, written):
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
    with explained(path), _deleted(staged):
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
    with explained(path), _deleted(staging):
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
    for file in files:
        with file.open("rb") as content:
            os.fsync(content.fileno())
    listed = {
        file.relative_to(folder).as_posix(): {"size": file.stat().st_size, "sha256": digest}
        for file, digest in zip(files, _digests(files), strict=True)
    }
    write_json(folder / MANIFEST, {"files": listed})


def _digests(files: Sequence[Path]) -> list[str]:
    """Return the SHA-256 of each file; of one over `BLOCK` bytes, of its blocks' SHA-256.

    Blocks are hashed in parallel: a checkpoint of tens of gigabytes would take minutes otherwise.
    """
    with ThreadPoolExecutor(min(MAX_THREADS, os.cpu_count() or 1)) as pool:
        parts = [[pool.submit(_block, file, start) for start in _starts(file)] for file in files]
        blocks = [[part.result() for part in of_file] for of_file in parts]
    whole = (one[0] if len(one) == 1 else hashlib.sha256(b"".join(one)).digest() for one in blocks)
    return [digest.hex() for digest in whole]


def _starts(file: Path) -> range:
    return range(0, max(file.stat().st_size, 1), BLOCK)


def _block(file: Path, start: int) -> bytes:
    """Return the SHA-256 of the block of a file that begins at `start`."""
    hashed, left = hashlib.sha256(), BLOCK
    with file.open("rb") as content:
        content.seek(start)
        while left and (piece := content.read(min(left, 1 << 20))):
            hashed.update(piece)
            left -= len(piece)
    return hashed.digest()


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


def verify(
    folder: Path,
    *,
    only: str | None = None,
    besides: Collection[str] = (),
    most_bytes: int | None = None,
) -> None:
    """Compare a folder, or `only` a file, with its manifest; one without a manifest passes.

    Files `besides` may be changed; those of over `most_bytes` are compared by their size alone.

    Raises:
        DamagedError: names the first file that is missing, or has another size or content.
    """
    if not os.path.lexists(folder / MANIFEST):
        return
    entries = {}
    for name, listed in read_record(folder / MANIFEST, _Manifest).files.items():
        entry = record_from(listed, _Entry, f"{folder / MANIFEST}: {name}")
        file = folder / name
        if name in besides or (only is not None and name != only):
            continue
        if not file.is_file():
            raise DamagedError(f"{file} is {'no file' if file.exists() else 'missing'}")
        if file.stat().st_size != entry.size:
            raise DamagedError(f"{file} has {file.stat().st_size} bytes of {entry.size}")
        if most_bytes is None or entry.size <= most_bytes:
            entries[file] = entry.sha256
    for file, digest in zip(entries, _digests(list(entries)), strict=True):
        if digest != entries[file]:
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
def explained(path: Path, remedy: str = "free some space") -> Iterator[None]:
    """Turn what the operating system says of a write within the block into one line.

    `remedy` is that of a full disk.

    Raises:
        UserError: the disk is full or refuses.
    """
    try:
        yield
    except UserError:
        raise
    except Exception as error:
        if reason := full_disk(error):
            raise UserError(f"{path} can't be written: {reason}; {remedy}") from error
        if not isinstance(error, OSError) or _is_of_another_file(error, path):
            raise
        reason = reason_of(error)
        raise UserError(f"{path} can't be written: {reason}; name another path") from error


def full_disk(error: BaseException) -> str | None:
    """Return what an error says of a full disk, or of an exceeded quota or file size; else None.

    Libraries wrap it: safetensors and tokenizers quote the system's line, torch loses it.
    """
    while error is not None:
        if isinstance(error, OSError) and error.errno in _FULL:
            return os.strerror(error.errno)
        if found := _FULL_OF_LIBRARIES.search(str(error)):
            return os.strerror(int(found[1])) if found[1] else "the disk is full, or refuses"
        error = error.__cause__ or error.__context__  # type: ignore[assignment]
    return None


def _is_of_another_file(error: OSError, path: Path) -> bool:
    """Tell whether an error names a file that has nothing to do with `path`: one that was read."""
    if not isinstance(error.filename, str | os.PathLike):
        return False
    named, target = _resolved(Path(error.filename)), _resolved(path)
    return target.parent not in named.parents and named not in target.parents


def _resolved(path: Path) -> Path:
    """Return where a path leads, so that a link stays a link and its target is replaced."""
    return Path(os.path.realpath(path))
