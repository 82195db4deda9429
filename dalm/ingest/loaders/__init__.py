"""Read files by their extension: a folder or a file in, documents out."""

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from dalm.errors import UserError
from dalm.ingest.document import Document, Reading, Unread, UnreadableError, check_text, too_large
from dalm.ingest.loaders.docx import read_docx
from dalm.ingest.loaders.html import read_html
from dalm.ingest.loaders.pdf import read_pdf
from dalm.ingest.loaders.table_rows import READERS as TABLES
from dalm.ingest.loaders.table_rows import read_rows
from dalm.ingest.loaders.text import read_markdown, read_text
from dalm.io.table_files import kind

Reader = Callable[[bytes, str, Reading], Document]

TEXTS: dict[str, Reader] = {
    **dict.fromkeys((".txt", ".text"), lambda d, s, r: read_text(d, s, r.encoding)),
    **dict.fromkeys((".md", ".markdown"), lambda d, s, r: read_markdown(d, s, r.encoding)),
    **dict.fromkeys((".html", ".htm", ".xhtml"), lambda d, s, r: read_html(d, s, r.encoding)),
    ".docx": lambda data, source, reading: read_docx(data, source, reading.max_bytes),
    ".pdf": lambda data, source, reading: read_pdf(data, source, reading.max_bytes),
}
ARCHIVES = frozenset(".zip .gz .tgz .tar .bz2 .xz .zst .7z .rar".split())


@dataclass(frozen=True, slots=True)
class File:
    """A file to read, and what it is called: its path below the folder that was named."""

    path: Path
    source: str
    size: int

    @property
    def is_table(self) -> bool:
        """Tell whether its rows are documents of their own."""
        return kind(self.path) in TABLES


def find_files(
    named: Iterable[str], without: Iterable[Path] = ()
) -> tuple[list[File], list[Unread]]:
    """Return the files named and those below folders named, sorted, and what can't be read.

    In a folder, names that begin with a dot are passed over; so are the files `without`.

    Raises:
        UserError: nothing has a name that was given.
    """
    left_out = {path.absolute() for path in without}
    files: dict[Path, File] = {}
    unread: list[Unread] = []
    for name in named:
        root = Path(name).expanduser()
        if not root.exists():
            raise UserError(f"no file or folder {name!r}; check the path")
        for path in sorted(_below(root, unread)) if root.is_dir() else [root]:
            if path.absolute() in left_out or path.absolute() in files:
                continue
            # A folder is part of its files' names: where they lie says what they are about.
            parent = root.absolute().parent
            source = path.absolute().relative_to(parent).as_posix()
            source = source.encode(errors="replace").decode()  # a name can be any bytes
            found = _file(path, source)
            if isinstance(found, File):
                files[path.absolute()] = found
            else:
                unread.append(found)
    return list(files.values()), unread


def _below(root: Path, unread: list[Unread]) -> Iterator[Path]:
    def report(error: OSError) -> None:
        unread.append(Unread(str(error.filename), f"{error.strerror}; check the rights"))

    for folder, folders, names in os.walk(root, onerror=report):
        folders[:] = [name for name in folders if not name.startswith(".")]
        yield from (Path(folder, name) for name in names if not name.startswith("."))


def _file(path: Path, source: str) -> File | Unread:
    suffix = kind(path)  # of what is compressed, for a table
    try:
        status = path.stat()
    except OSError as error:
        return Unread(source, f"{error.strerror}; check the file")
    if not stat.S_ISREG(status.st_mode):
        return Unread(source, "no file but a device, pipe or socket")
    if suffix in ARCHIVES:
        return Unread(source, "an archive; unpack it first")
    if suffix not in TEXTS and suffix not in TABLES:
        read = ", ".join((*TEXTS, *TABLES))
        what = f"of the kind {suffix}" if suffix else "without an extension"
        return Unread(source, f"{what}; read are {read}")
    return File(path, source, status.st_size)


def read_documents(file: File, reading: Reading) -> Iterator[Document | Unread]:
    """Read a file's documents, one after the other; what can't be read is said and passed over.

    A document's text is the file's own for plain text and Markdown (line ends as `\\n`, without a
    byte order mark), a cell of a table or a field of JSON to the letter, and what is shown for
    HTML, docx and PDF: paragraphs with an empty line between them.
    """
    try:
        if file.is_table:
            yield from _read_table(file, reading)
        else:
            yield _read_text(file, reading)
    except UnreadableError as error:
        yield Unread(file.source, str(error))
    except OSError as error:
        yield Unread(file.source, f"{error.strerror or error}; check the file")
    except Exception as error:  # whatever a library raises over a broken file
        what = " ".join(str(error).split())[:200] or type(error).__name__
        yield Unread(file.source, f"it could not be read ({what}); is it broken? save it again")


def _read_table(file: File, reading: Reading) -> Iterator[Document | Unread]:
    found = None
    for found in read_rows(file.path, file.source, reading):
        yield found
    if found is None:
        raise UnreadableError("it is empty")


def _read_text(file: File, reading: Reading) -> Document:
    with file.path.open("rb") as opened:
        data = opened.read(reading.max_bytes + 1)
    if len(data) > reading.max_bytes:
        raise too_large(reading.max_bytes)
    if not data.strip():
        raise UnreadableError("it is empty")
    document = TEXTS[file.path.suffix.lower()](data, file.source, reading)
    if not document.text[document.begin :].strip():
        raise UnreadableError("there is no text in it")
    check_text(document.text)
    return replace(document, title=check_text(document.title))
