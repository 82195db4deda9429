"""Read lines of text files: compressed or not, in any encoding, with a place for every error."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from typing import IO, Any

from dalm.errors import UserError, reason_of

MEGABYTE = 1_000_000
UNPACKED_BYTES, UNPACKED_RATIO = 100 * MEGABYTE, 100
"""A packed file that exceeds both, the size and its ratio to the packed one, is refused."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
NUL_BYTE = "a NUL byte, so this is UTF-16 or no text at all; save it as UTF-8"
DETECTION_BYTES = 2_000  # of an undecodable text, from its first undecodable line on
SUGGESTIONS = (
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 iso8859_2 koi8_r cp932 euc_jp gb18030 "
    "big5hkscs cp949"
).split()


class UnreadableError(UserError):
    """Report why a file can't be read, or not on; the message leaves out the file's name."""


class BrokenLineError(UnreadableError):
    """Report why one line can't be read; `number` counts from 1."""

    def __init__(self, number: int, reason: str, within: str = "") -> None:
        super().__init__(f"line {number}{within}: {reason}")
        self.number = number
        self.reason = f"{within.removeprefix(', ')}: {reason}" if within else reason


def check_encoding(encoding: str | None) -> None:
    """Refuse a name that is no encoding of text.

    Raises:
        UserError: names the option.
    """
    try:
        "".encode(encoding or "utf-8")
    except (LookupError, ValueError):
        raise UserError(f"--encoding {encoding}: unknown; use utf-8 or cp1252, say") from None


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark at the beginning stands for; None without one."""
    return next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), None)


def open_file(path: Path) -> IO[bytes]:
    """Open a file for reading; one that ends in `.gz` is decompressed."""
    if path.suffix.lower() == ".gz":
        return io.BufferedReader(_Unpacked(path), MEGABYTE)
    return path.open("rb")


class _Unpacked(io.RawIOBase):
    """Unpack a file, but not one made to fill the memory: a few kilobytes can become gigabytes."""

    def __init__(self, path: Path) -> None:
        self._file = gzip.open(path)  # noqa: SIM115 - `close` closes it
        self._most = max(UNPACKED_BYTES, UNPACKED_RATIO * path.stat().st_size)

    def readable(self) -> bool:
        return True

    def seekable(self) -> bool:
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        return self._file.seek(offset, whence)

    def readinto(self, buffer: Any) -> int:
        data = self._file.read(len(buffer))
        if self._file.tell() > self._most:
            raise UnreadableError(
                f"it unpacks to over {self._most / MEGABYTE:,.0f} MB, more than {UNPACKED_RATIO} "
                "times its size, as no text does; unpack it first if it is one"
            )
        buffer[: len(data)] = data
        return len(data)

    def close(self) -> None:
        self._file.close()
        super().close()


def read_lines(
    path: Path, encoding: str | None = None, max_bytes: int | None = None
) -> Iterator[tuple[int, str | BrokenLineError]]:
    """Yield each line with its number and its end as it is: `\\n`, `\\r\\n` or `\\r`.

    A byte order mark is dropped and takes precedence over `encoding`, which is UTF-8 by default. A
    line that can't be decoded is yielded as an error, where the encoding allows to go on after it.

    Raises:
        UnreadableError: the file can't be opened or decompressed, or not decoded from a line on,
            or a line has more than `max_bytes` bytes.
    """
    check_encoding(encoding)
    try:
        with open_file(path) as file:
            marked = marked_encoding(file.read(4))
            name = marked or encoding or "utf-8"
            file.seek(3 if marked == "utf-8-sig" else 0)
            if marked == "utf-8-sig" or "\n".encode(name) == b"\n":
                yield from _byte_lines(path, file, name.removesuffix("-sig"), max_bytes)
            else:
                yield from _wide_lines(file, name, max_bytes)
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error)
        raise UnreadableError(f"it could not be read: {reason}; check the file") from error


def _byte_lines(
    path: Path, file: IO[bytes], encoding: str, max_bytes: int | None
) -> Iterator[tuple[int, str | BrokenLineError]]:
    """Split at the byte of `\\n`, then decode: the lines after an undecodable one can be read."""
    number, suggestion = 0, None
    while data := file.readline(-1 if max_bytes is None else max_bytes + 1):
        number += 1
        if max_bytes is not None and len(data) > max_bytes:
            raise too_large(max_bytes, f"line {number}")
        try:
            text = data.decode(encoding)
        except UnicodeDecodeError as error:
            if suggestion is None:  # once, for it reads the file again
                suggestion = _suggestion(path, number)
            yield number, undecodable(number, error, error.encoding, suggestion)
            continue
        if "\r" in text and text.find("\r") != len(text) - 2:
            for part in _LINE.findall(text):
                yield number, _checked(number, part)
                number += 1
            number -= 1
        else:
            yield number, _checked(number, text)


def _wide_lines(
    file: IO[bytes], encoding: str, max_bytes: int | None
) -> Iterator[tuple[int, str | BrokenLineError]]:
    """Decode, then split: for encodings such as UTF-16, in which a line end is no single byte."""
    with io.TextIOWrapper(file, encoding, newline="") as text:
        number = 0
        while True:
            number += 1
            try:
                line = text.readline(-1 if max_bytes is None else max_bytes + 1)
            except UnicodeError as error:
                raise UnreadableError(
                    f"near line {number}: not {encoding.upper()} ({reason_of(error)}); save it as "
                    "UTF-8, or name its --encoding"
                ) from None
            if not line:
                return
            if max_bytes is not None and len(line) > max_bytes:
                raise too_large(max_bytes, f"line {number}")
            yield number, _checked(number, line)


def _checked(number: int, line: str) -> str | BrokenLineError:
    return BrokenLineError(number, NUL_BYTE) if "\0" in line else line


def undecodable(
    number: int, error: UnicodeDecodeError, encoding: str, suggestion: str
) -> BrokenLineError:
    """Return the error for a line, `number`, with bytes of another encoding; it names the byte."""
    line_start = error.object.rfind(b"\n", 0, error.start) + 1
    return BrokenLineError(
        number,
        f"not {encoding.upper()}; save it as UTF-8, or name its --encoding{suggestion}",
        f", byte {error.start - line_start + 1} ({error.object[error.start]:#04x})",
    )


def _suggestion(path: Path, number: int) -> str:
    """Suggest encodings from a file's lines from `number` on."""
    with open_file(path) as file:
        for _ in islice(file, number - 1):
            pass
        return suggest_encodings(file.read(2 * DETECTION_BYTES))


def suggest_encodings(data: bytes) -> str:
    """Return encodings in which the bytes look like natural language, as the end of an error.

    They are suggested and not used, because the detection is often wrong about a few letters: in
    trials French in cp1252 was taken for cp1250, and Polish in ISO 8859-2 for ISO 8859-10, at
    every length up to 5 kB.
    """
    from charset_normalizer import from_bytes

    end = data.find(b"\n", DETECTION_BYTES)
    sample = data[: end if 0 <= end < 2 * DETECTION_BYTES else DETECTION_BYTES]
    found = from_bytes(sample, cp_isolation=SUGGESTIONS)
    likely = {name for each in found if each.coherence > 0 for name in each.could_be_from_charset}
    names = [name for name in SUGGESTIONS if name in likely][:3]
    return f" (it may be {' or '.join(names)})" if names else ""


def too_large(max_bytes: int, what: str = "the file") -> UnreadableError:
    """Return the refusal of something larger than `max_bytes`."""
    return UnreadableError(
        f"{what} is over {max_bytes / MEGABYTE:g} MB; split it, or raise --max-megabytes"
    )
