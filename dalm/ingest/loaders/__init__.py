"""Register a loader for each kind of file, find files, and load them.

A new kind of file is a module beside these with a `Loader`, and its name in `LOADERS`. Another
package registers one as an entry point of the group `dalm.loaders`.
"""

import logging
import os
import stat
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path, PurePath

from dalm.errors import UserError, reason_of
from dalm.file_reading import user_path
from dalm.ingest.loaders.docx import DOCX
from dalm.ingest.loaders.eml import EML
from dalm.ingest.loaders.epub import EPUB
from dalm.ingest.loaders.html import HTML
from dalm.ingest.loaders.ipynb import IPYNB
from dalm.ingest.loaders.loader import (
    Document,
    File,
    LoadDocument,
    Loader,
    LoaderOptions,
    Skipped,
)
from dalm.ingest.loaders.markdown import MARKDOWN
from dalm.ingest.loaders.odt import ODT
from dalm.ingest.loaders.pdf import PDF
from dalm.ingest.loaders.pptx import PPTX
from dalm.ingest.loaders.rst import RST
from dalm.ingest.loaders.rtf import RTF
from dalm.ingest.loaders.table_rows import TABLES
from dalm.ingest.loaders.tex import TEX
from dalm.ingest.loaders.text import TEXT
from dalm.ingest.loaders.xlsx import XLSX
from dalm.ingest.loaders.xml import XML
from dalm.io.cell_values import CellError, check_surrogates
from dalm.io.table_files import kind
from dalm.io.text_encoding import AUTO, guess_encoding, log_guess
from dalm.io.text_lines import UnreadableError, too_large
from dalm.plugins import entry_points_of, load_entry_point

logger = logging.getLogger(__name__)

ARCHIVES = frozenset(".zip .gz .tgz .tar .bz2 .xz .zst .7z .rar".split())
SAVED_AS = {
    ".doc": ".docx", ".dot": ".docx", ".ppt": ".pptx", ".pps": ".pptx", ".xls": ".xlsx",
    ".msg": ".eml", ".mobi": ".epub", ".azw3": ".epub", ".pages": ".docx", ".numbers": ".xlsx",
    ".key": ".pptx", ".ods": ".xlsx", ".odp": ".pptx", ".mht": ".html", ".mhtml": ".html",
}  # fmt: skip
"""Kinds that are not read, and those of the same content that are."""
KINDS = (
    *(TEXT, MARKDOWN, HTML, DOCX, PDF, PPTX, XLSX, ODT, RTF, EML, EPUB, IPYNB, RST, TEX, XML),
    *TABLES,
)
LOADERS: dict[str, Loader] = {loader.name: loader for loader in KINDS}
"""The loaders of this package by name, in the order of the help."""


@cache
def registered() -> dict[str, Loader]:
    """Return all loaders by name: this package's, and those of entry points, which may replace it.

    An entry point that can't be imported is logged and left out.
    """
    found = dict(LOADERS)
    for entry in entry_points_of("dalm.loaders").values():
        try:
            loader: Loader = load_entry_point(entry)
            found[loader.name] = loader
        except UserError as error:  # other kinds of files can be read without it
            logger.warning("%s", error)
    return found


@cache
def by_extension() -> dict[str, Loader]:
    """Return the loaders by file extension."""
    return {extension: each for each in registered().values() for extension in each.extensions}


def loader_of(path: Path) -> Loader | None:
    """Return the loader for a file, by its extension; None if there is none."""
    return by_extension().get(kind(path))


def has_several_tables(files: Iterable[File]) -> bool:
    """Tell whether there is more than one table among files."""
    loaders = (loader_of(file.path) for file in files)
    return sum(loader is not None and loader.load_rows is not None for loader in loaders) > 1


def list_formats() -> str:
    """Return the kinds of files that this package loads, as help shows them."""
    documents = ", ".join(each.label for each in LOADERS.values() if each.load)
    tables = ", ".join(each.label for each in LOADERS.values() if each.load_rows)
    return f"{documents}, and the rows of {tables}"


# Finding files


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
        root = user_path(name)
        if not name.strip() or not root.exists():
            raise UserError(f"no file or folder {name!r}; check the path")
        for path in sorted(_walk(root, skipped)) if root.is_dir() else [root]:
            if path.absolute() in excluded or path.absolute() in files:
                continue
            source = _source(path, root)
            found = _file(path, source)
            if isinstance(found, File):
                files[path.absolute()] = found
            else:
                skipped.append(found)
    return list(files.values()), skipped


def _source(path: Path, root: Path) -> str:
    """Return what a file below a folder is called, with the folder's name, which often says a lot.

    The name of a file can be any bytes: what is no text in it becomes a question mark.
    """
    source = path.absolute().relative_to(root.absolute().parent).as_posix()
    return source.encode(errors="replace").decode()


def _walk(root: Path, skipped: list[Skipped]) -> Iterator[Path]:
    """Yield the files in a folder and in those that links in it lead to, each folder once."""

    def skip(error: OSError) -> None:
        source = _source(Path(error.filename), root)
        skipped.append(Skipped(source, f"{error.strerror}; check the rights"))

    top = Path(os.path.realpath(root))
    seen: set[Path] = set()

    def is_entered(folder: Path) -> bool:
        real = Path(os.path.realpath(folder))
        if real.is_relative_to(top):  # where a link within the folder leads is read anyway
            return not folder.is_symlink()
        if top.is_relative_to(real):
            reason = f"a link to a folder that holds this one; name {real} instead"
            skipped.append(Skipped(_source(folder, root), reason))
            return False
        is_new = real not in seen
        seen.add(real)
        return is_new

    for folder, folders, names in os.walk(root, onerror=skip, followlinks=True):
        shown = (Path(folder, name) for name in sorted(folders) if not name.startswith("."))
        folders[:] = [path.name for path in shown if is_entered(path)]
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
    if extension in SAVED_AS:
        return Skipped(source, f"{extension} is not read; save it as {SAVED_AS[extension]}")
    if loader_of(path) is None:
        problem = f"unsupported file type {extension}" if extension else "no file extension"
        return Skipped(source, f"{problem}; supported: {', '.join(by_extension())}")
    return File(path, source, status.st_size)


# Loading files


def read_documents(file: File, options: LoaderOptions) -> Iterator[Document | Skipped]:
    """Yield a file's documents; a file or row that can't be read is yielded as skipped.

    A document's text is the file's own for plain text and Markdown (line ends as `\\n`, without a
    byte order mark), the exact cell of a table or field of JSON, and the visible text of HTML,
    docx and PDF, with an empty line between paragraphs.
    """
    loader = loader_of(file.path)
    assert loader is not None, file
    try:
        if loader.load_rows:
            found = False
            for each in loader.load_rows(file.path, file.source, options):
                found = True
                yield each
            if not found:
                yield Skipped(file.source, "it is empty")
        elif loader.load:
            yield _load_document(loader.load, file, options)
    except UserError as error:
        yield Skipped(file.source, str(error))
    except ImportError as error:
        package = f'"indomain[{loader.extra}]"' if loader.extra else error.name
        yield Skipped(
            file.source, f"loading {loader.label} needs {error.name}: pip install {package}"
        )
    except OSError as error:
        yield Skipped(file.source, f"{error.strerror or error}; check the file")
    except Exception as error:  # whatever a library raises over a broken file
        reason = f"it could not be read ({reason_of(error)}); is it broken? save it again"
        yield Skipped(file.source, reason)


def _load_document(load: LoadDocument, file: File, options: LoaderOptions) -> Document:
    with file.path.open("rb") as opened:
        data = opened.read(options.max_bytes + 1)
    if len(data) > options.max_bytes:
        raise too_large(options.max_bytes)
    if not data.strip():
        raise UnreadableError("it is empty")
    if options.encoding == AUTO:  # each file has its own
        encoding = guess_encoding(data)
        if encoding != "utf-8" and b"\0" not in data:
            log_guess(file.source, encoding)
        options = replace(options, encoding=encoding)
    document = load(data, file.source, options)
    if not document.title:
        document = replace(document, title=PurePath(file.source).stem)
    if not document.text[document.begin :].strip():
        raise UnreadableError("there is no text in it")
    try:
        check_surrogates(document.text)
        check_surrogates(document.title)
    except CellError as error:
        raise UnreadableError(str(error)) from None
    return document
