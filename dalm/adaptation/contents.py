"""Hash what stages read and write: files, folders, and models by their files or commit."""

import hashlib
from collections.abc import Sequence
from functools import lru_cache
from pathlib import Path

from huggingface_hub import try_to_load_from_cache
from huggingface_hub.errors import HFValidationError

from dalm.file_reading import user_path
from dalm.models.loading import EDITABLE

MISSING = "missing"
PASSED_OVER = {*EDITABLE, "manifest.json", "settings.yaml"}
"""Files of a folder that say where it is from, or when it was made."""


def content_of(source: str | Path | Sequence[Path]) -> str:
    """Return the hash of a file, of a folder or of several files, or a hub model's commit.

    `MISSING` if there is no such file. A hub name is known by the commit in the local cache, and by
    its name while nothing is there.
    """
    if isinstance(source, str):
        path = user_path(source)
        return content_of(path) if path.exists() else _hub_content(source)
    if isinstance(source, Path):
        if source.is_file():
            return _file_hash(source)
        if not source.is_dir():
            return MISSING
        names = [file.relative_to(source).as_posix() for file in _files(source)]
        return _joined(names, _files(source))
    return _joined([each.name for each in source], source)


def count_of(source: str | Path | Sequence[Path]) -> int:
    """Return how many files a source of several is; 0 for one."""
    return 0 if isinstance(source, str | Path) else len(source)


def _files(folder: Path) -> list[Path]:
    found = (file for file in folder.rglob("*") if file.is_file())
    hidden = (file for file in found if not file.relative_to(folder).parts[0].startswith("."))
    return sorted(file for file in hidden if file.name not in PASSED_OVER)


def _joined(names: Sequence[str], files: Sequence[Path]) -> str:
    hashed = hashlib.sha256()
    for name, file in zip(names, files, strict=True):
        hashed.update(f"{name}\0{_file_hash(file)}\0".encode(errors="surrogateescape"))
    return hashed.hexdigest()[:32]


def _file_hash(file: Path) -> str:
    try:
        status = file.stat()
    except OSError:
        return MISSING
    return _hash(file, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1 << 16)
def _hash(file: Path, _size: int, _modified: int) -> str:
    """Return a file's hash; one that has the size and time it had is not read again."""
    with file.open("rb") as content:
        return hashlib.file_digest(content, "sha256").hexdigest()[:32]


def _hub_content(name: str) -> str:
    for file in ("config.json", "modules.json"):
        try:
            found = try_to_load_from_cache(name, file)
        except HFValidationError:  # the path of a model that isn't trained yet
            return MISSING
        if isinstance(found, str):
            return f"{name}@{Path(found).parent.name}"
    return name
