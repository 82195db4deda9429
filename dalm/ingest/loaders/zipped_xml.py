"""Read files that are zip archives of XML (docx, pptx, xlsx, odt, epub), within limits of size."""

import io
import lzma
import posixpath
import zipfile
import zlib
from collections.abc import Callable
from urllib.parse import unquote
from xml.parsers import expat

from dalm.io.text_lines import UnreadableError, too_large

BROKEN = (
    zipfile.BadZipFile,
    zipfile.LargeZipFile,
    zlib.error,
    lzma.LZMAError,
    EOFError,
    OSError,
    ValueError,
)
OLD_OFFICE = b"\xd0\xcf\x11\xe0"
"""How Office's files began before 2007, and how it writes those with a password."""

Attributes = dict[str, str]
Start = Callable[[str, Attributes], None]
End = Callable[[str], None]
Data = Callable[[str], None]


class ZippedXml:
    """The parts of such a file, unpacked one by one; all of them count towards `max_bytes`.

    Bytes are counted as they are unpacked: the sizes in an archive's directory can lie.

    Raises:
        UnreadableError: no such file, encrypted, broken, or too large once unpacked.
    """

    def __init__(self, data: bytes, what: str, extension: str, max_bytes: int) -> None:
        self.what, self.extension, self.max_bytes = what, extension, max_bytes
        self.bytes_left = max_bytes
        if data.startswith(OLD_OFFICE):
            raise UnreadableError(
                f"an old or encrypted Office file; save it as {extension} without a password"
            )
        try:
            self.archive = zipfile.ZipFile(io.BytesIO(data))
            self.names = frozenset(self.archive.namelist())
        except BROKEN as error:
            raise self._broken(error) from error

    def _broken(self, error: Exception) -> UnreadableError:
        return UnreadableError(f"not {self.what}, or truncated ({error}); save it again")

    def read(self, name: str) -> bytes:
        """Return a part; empty if there is none."""
        if name not in self.names:
            return b""
        try:
            with self.archive.open(name) as packed:
                part = packed.read(self.bytes_left + 1)
        except BROKEN as error:
            raise self._broken(error) from error
        except (RuntimeError, NotImplementedError) as error:  # a password, an unknown compression
            raise UnreadableError(
                f"could not be unpacked ({error}); save it without a password"
            ) from error
        self.bytes_left -= len(part)
        if self.bytes_left < 0:
            raise too_large(self.max_bytes, "its unpacked text")
        return part

    def need(self, name: str) -> bytes:
        """Return a part without which this is no such file."""
        if name not in self.names:
            raise UnreadableError(
                f"not {self.what}: there is no {name} in it; save it again as {self.extension}"
            )
        return self.read(name)

    def parse(
        self, name: str, start: Start, end: End | None = None, data: Data | None = None
    ) -> None:
        """Parse a part, if there is one."""
        if part := self.read(name):
            parse_xml(part, start, end, data, self.extension)

    def targets(self, name: str) -> dict[str, tuple[str, str]]:
        """Return what a part of an Office file relates to: type and name of the part by id."""
        folder, base = posixpath.split(name)
        found: dict[str, tuple[str, str]] = {}

        def start(tag: str, attributes: Attributes) -> None:
            if tag.endswith(" Relationship") and attributes.get("TargetMode") != "External":
                target = posixpath.join("/", folder, unquote(attributes.get("Target", "")))
                kind = attributes.get("Type", "").rpartition("/")[2]
                found[attributes.get("Id", "")] = (kind, posixpath.normpath(target).lstrip("/"))

        self.parse(posixpath.join(folder, "_rels", f"{base}.rels"), start)
        return found

    def target(self, name: str, kind: str, default: str = "") -> str:
        """Return the one part of this type that a part relates to."""
        parts = (part for each, part in self.targets(name).values() if each == kind)
        return next((part for part in parts if part in self.names), default)

    def core_title(self) -> str:
        """Return the title among an Office file's properties."""
        found: list[str] = []
        inside = False

        def start(tag: str, _: Attributes) -> None:
            nonlocal inside
            inside = tag.endswith(" title")

        def end(_: str) -> None:
            nonlocal inside
            inside = False

        self.parse(
            "docProps/core.xml", start, end, lambda text: found.append(text) if inside else None
        )
        return " ".join("".join(found).split())


def parse_xml(
    xml: bytes,
    start: Start,
    end: End | None = None,
    data: Data | None = None,
    extension: str = "",
) -> None:
    """Parse XML; tags and attributes are named `namespace name`.

    A DOCTYPE is refused, since its entities can expand without bound.
    """

    def doctype(*_: object) -> None:
        raise doctype_error(extension)

    parser = expat.ParserCreate(namespace_separator=" ")
    parser.buffer_text = True
    parser.StartElementHandler = start
    parser.EndElementHandler = end
    parser.CharacterDataHandler = data
    parser.StartDoctypeDeclHandler = doctype
    try:
        parser.Parse(xml, True)
    except expat.ExpatError as error:
        raise UnreadableError(f"broken XML inside ({error}); save it again") from error


def doctype_error(extension: str) -> UnreadableError:
    """Return the error for a DOCTYPE in a file of this extension."""
    return UnreadableError(
        f"its XML has a DOCTYPE, which such a file never has; save it again as {extension}"
    )


def attribute(attributes: Attributes, name: str, default: str = "") -> str:
    """Return an attribute by its local name, in whatever namespace."""
    if name in attributes:
        return attributes[name]
    return next((v for n, v in attributes.items() if n.rpartition(" ")[2] == name), default)
