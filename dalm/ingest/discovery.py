"""Find the files to load in folders, and the reason for each file that can't be loaded."""

import os
import stat
from collections.abc import Iterable, Iterator
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.document import File
from dalm.ingest.loaders import by_extension, loader_of
from dalm.ingest.skipped import Skipped
from dalm.io.table_files import kind

ARCHIVES = frozenset(".zip .gz .tgz .tar .bz2 .xz .zst .7z .rar".split())


def find_files(
    names: Iterable[str], exclude: Iterable[Path] = ()
) -> tuple[list[File], list[Skipped]]:
    """Return the files named and those in folders named, sorted, and those that can't be loaded.

    In a folder, hidden files and folders (`.name`) are passed over; so are the files to `exclude`.

    Raises:
        UserError: a name that doesn't exist.
    """
    excluded = {path.absolute() for path in exclude}
    files: dict[Path, File] = {}
    skipped: list[Skipped] = []
    for name in names:
        root = Path(name).expanduser()
        if not root.exists():
            raise UserError(f"no file or folder {name!r}; check the path")
        for path in sorted(_walk(root, skipped)) if root.is_dir() else [root]:
            if path.absolute() in excluded or path.absolute() in files:
                continue
            # The folder's name is part of the source: it often says what its files are about.
            parent = root.absolute().parent
            source = path.absolute().relative_to(parent).as_posix()
            source = source.encode(errors="replace").decode()  # a name can be any bytes
            found = _file(path, source)
            if isinstance(found, File):
                files[path.absolute()] = found
            else:
                skipped.append(found)
    return list(files.values()), skipped


def _walk(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    def skip(error: OSError) -> None:
        skipped.append(Skipped(str(error.filename), f"{error.strerror}; check the rights"))

    for folder, folders, names in os.walk(root, onerror=skip):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _file(path: Path, source: str) -> File | Skipped:
    extension = kind(path)  # of what is compressed, for a table
    try:
        status = path.stat()
    except OSError as error:
        return Skipped(source, f"{error.strerror}; check the file")
    if not stat.S_ISREG(status.st_mode):
        return Skipped(source, "a device, pipe or socket; name a file")
    if extension in ARCHIVES:
        return Skipped(source, "an archive; unpack it first")
    if loader_of(path) is None:
        problem = f"unsupported file type {extension}" if extension else "no file extension"
        return Skipped(source, f"{problem}; supported: {', '.join(by_extension())}")
    return File(path, source, status.st_size)
