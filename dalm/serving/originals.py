"""Find the file that a passage was taken from, within one folder and nowhere else."""

import codecs
import os
import stat
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from starlette.responses import FileResponse
from starlette.types import Receive, Scope, Send

from dalm.errors import UserError
from dalm.file_reading import user_path
from dalm.ingest.loaders import loader_of
from dalm.retrieval.documents import file_of
from dalm.serving.request_fields import is_one_line

_OFFICE = "application/vnd.openxmlformats-officedocument"
_TYPES = {
    ".pdf": "application/pdf",
    **dict.fromkeys((".html", ".htm", ".xhtml"), "text/html"),
    **dict.fromkeys(
        ".txt .text .log .md .markdown .csv .tsv .json .jsonl .rst .tex .xml .ipynb .eml".split(),
        "text/plain",
    ),
    ".docx": f"{_OFFICE}.wordprocessingml.document",
    ".pptx": f"{_OFFICE}.presentationml.presentation",
    ".xlsx": f"{_OFFICE}.spreadsheetml.sheet",
    ".odt": "application/vnd.oasis.opendocument.text",
    ".epub": "application/epub+zip",
    ".rtf": "application/rtf",
}
"""Media types by extension; what isn't here is for other programs to open."""
_POLICY = (
    "sandbox; default-src 'none'; style-src 'unsafe-inline'; img-src data:; base-uri 'none'; "
    "form-action 'none'; frame-ancestors 'none'"
)
"""Nothing runs, nothing is loaded, and nothing is sent."""
_PDF_POLICY = "base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
"""A browser's own viewer doesn't run in a sandbox; it shows a PDF and is no page of this server."""


class Originals:
    """The files of `--documents`, by the sources of passages."""

    def __init__(self, folder: str) -> None:
        path = user_path(folder)
        if not path.is_dir():
            raise UserError(f"--documents {folder}: no such folder; name the one that was indexed")
        self.name = path.absolute().name
        self.folder = path.resolve()

    def open(self, source: str) -> int | None:
        """Open the file of a source and return its descriptor; None if there is none.

        A source may begin with the folder's own name, as `dalm passages` writes it. Hidden files,
        and kinds of files that aren't read, are none; links are followed within the folder only.
        """
        for name in self._names(source):
            parts = PurePosixPath(name).parts
            if any(part.startswith((".", "/")) for part in parts) or not parts:
                continue
            if loader_of(Path(name)) is None or (found := self._inside(name)) is None:
                continue
            if (descriptor := self._opened(found)) is not None:
                return descriptor
        return None

    def _names(self, source: str) -> Iterator[str]:
        """Yield the names that a source may have in the folder, the likeliest first."""
        if not is_one_line(source) or "\\" in source:
            return
        # Longest first: a file's name may end like the source of a row.
        for name in dict.fromkeys((source, file_of(source))):
            if name.startswith(f"{self.name}/"):
                yield name.removeprefix(f"{self.name}/")
            yield name

    def _inside(self, name: str) -> PurePosixPath | None:
        """Return the path of a file within the folder, without links."""
        try:
            return PurePosixPath((self.folder / name).resolve(strict=True).relative_to(self.folder))
        except (OSError, ValueError, RuntimeError):
            return None

    def _opened(self, path: PurePosixPath) -> int | None:
        """Open a path step by step, and no link: one may have taken a folder's place meanwhile."""
        flags = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
        try:
            here = os.open(self.folder, flags | os.O_DIRECTORY)
        except OSError:
            return None
        try:
            for part in path.parts[:-1]:
                inner = os.open(part, flags | os.O_DIRECTORY, dir_fd=here)
                os.close(here)
                here = inner
            found = os.open(path.name, flags, dir_fd=here)
        except OSError:
            return None
        finally:
            os.close(here)
        if stat.S_ISREG(os.fstat(found).st_mode):
            return found
        os.close(found)
        return None


def _media_type(extension: str, descriptor: int) -> str:
    media = _TYPES.get(extension, "application/octet-stream")
    if media != "text/plain":
        return media
    head = os.pread(descriptor, 2**16, 0)
    try:
        codecs.getincrementaldecoder("utf-8")().decode(head)
    except UnicodeDecodeError:  # the browser guesses
        return media
    return f"{media}; charset=utf-8"


class OriginalResponse(FileResponse):
    """An open file, whole or in ranges, shown by the browser; it is closed when it was sent."""

    def __init__(self, descriptor: int, source: str) -> None:
        self.descriptor = descriptor
        name = PurePosixPath(file_of(source)).name
        extension = PurePosixPath(name).suffix.lower()
        super().__init__(
            f"/dev/fd/{descriptor}",
            media_type="application/octet-stream",
            filename=name,
            content_disposition_type="inline",
            stat_result=os.fstat(descriptor),
            headers={
                "Cache-Control": "no-store",
                "Content-Security-Policy": _PDF_POLICY if extension == ".pdf" else _POLICY,
            },
        )
        # Set here, for the class would add a character set: what a page says of itself counts.
        self.headers["Content-Type"] = _media_type(extension, descriptor)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> Any:
        """Send the file."""
        try:
            await super().__call__(scope, receive, send)
        finally:
            os.close(self.descriptor)
