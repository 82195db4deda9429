"""Register a loader for each kind of file, and load files with them.

A new kind of file is a module beside these with a `Loader`, and its name in `LOADERS`. Another
package registers one as an entry point of the group `dalm.loaders`.
"""

import logging
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from importlib.metadata import entry_points
from pathlib import Path

from dalm.ingest.document import Document, File
from dalm.ingest.loaders.docx import DOCX
from dalm.ingest.loaders.html import HTML
from dalm.ingest.loaders.loader import (
    LoadDocument,
    Loader,
    LoaderOptions,
    LoadRows,
    UnreadableError,
    check_text,
    too_large,
)
from dalm.ingest.loaders.pdf import PDF
from dalm.ingest.loaders.table_rows import READERS
from dalm.ingest.loaders.text import MARKDOWN, TEXT
from dalm.ingest.skipped import Skipped
from dalm.io.table_files import kind

logger = logging.getLogger(__name__)

TABLES = [Loader(e[1:], e[1:], (e,), load_rows=read) for e, read in READERS.items()]
LOADERS: dict[str, Loader] = {
    loader.name: loader for loader in (TEXT, MARKDOWN, HTML, DOCX, PDF, *TABLES)
}
"""The loaders of this package by name, in the order of the help."""


@cache
def registered() -> dict[str, Loader]:
    """Return all loaders by name: this package's, and those of entry points, which may replace it.

    An entry point that can't be imported is logged and left out.
    """
    found = dict(LOADERS)
    for entry in entry_points(group="dalm.loaders"):
        try:
            loader: Loader = entry.load()
            found[loader.name] = loader
        except Exception as error:  # whatever another package raises
            logger.warning("loader     %s can't be imported (%s)", entry.value, error)
    return found


@cache
def by_extension() -> dict[str, Loader]:
    """Return the loaders by file extension."""
    return {extension: each for each in registered().values() for extension in each.extensions}


def loader_of(path: Path) -> Loader | None:
    """Return the loader for a file, by its extension; None if there is none."""
    return by_extension().get(kind(path))


def list_formats() -> str:
    """Return the kinds of files that this package loads, as help shows them."""
    documents = ", ".join(each.label for each in LOADERS.values() if each.load)
    tables = ", ".join(each.label for each in LOADERS.values() if each.load_rows)
    return f"{documents}, and the rows of {tables}"


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
            yield from _load_rows(loader.load_rows, file, options)
        elif loader.load:
            yield _load_document(loader.load, file, options)
    except UnreadableError as error:
        yield Skipped(file.source, str(error))
    except ImportError as error:
        package = f'"indomain[{loader.extra}]"' if loader.extra else error.name
        yield Skipped(
            file.source, f"loading {loader.label} needs {error.name}: pip install {package}"
        )
    except OSError as error:
        yield Skipped(file.source, f"{error.strerror or error}; check the file")
    except Exception as error:  # whatever a library raises over a broken file
        what = " ".join(str(error).split())[:200] or type(error).__name__
        yield Skipped(file.source, f"it could not be read ({what}); is it broken? save it again")


def _load_rows(load: LoadRows, file: File, options: LoaderOptions) -> Iterator[Document | Skipped]:
    found = None
    for found in load(file.path, file.source, options):
        yield found
    if found is None:
        raise UnreadableError("it is empty")


def _load_document(load: LoadDocument, file: File, options: LoaderOptions) -> Document:
    with file.path.open("rb") as opened:
        data = opened.read(options.max_bytes + 1)
    if len(data) > options.max_bytes:
        raise too_large(options.max_bytes)
    if not data.strip():
        raise UnreadableError("it is empty")
    document = load(data, file.source, options)
    if not document.text[document.begin :].strip():
        raise UnreadableError("there is no text in it")
    check_text(document.text)
    return replace(document, title=check_text(document.title))
