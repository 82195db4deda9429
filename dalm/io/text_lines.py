"""Read lines of text files: compressed or not, in any encoding, with a place for every error."""

import codecs
import gzip
import io
import re
import zlib
from collections.abc import Generator, Iterator
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import IO, Any

from dalm.errors import UserError, reason_of
from dalm.io.text_encoding import (
    AUTO,
    DETECTION_BYTES,
    WIDE_BYTES,
    check_encoding,
    guess_encoding,
    log_guess,
    marked_encoding,
    suggest_encodings,
)

MEGABYTE = 1_000_000
UNPACKED_BYTES, UNPACKED_RATIO = 100 * MEGABYTE, 100
"""A packed file that exceeds both, the size and its ratio to the packed one, is refused."""
_LINE = re.compile(r"[^\r\n]*(?:\r\n|\r|\n)|[^\r\n]+")
UNDECODABLE = "\udfff"  # stands for bytes that can't be decoded; no text has it
NUL_BYTE = "a NUL byte, so this is UTF-16 or no text at all; save it as UTF-8"


class UnreadableError(UserError):
    """Report why a file can't be read, or not on; the message leaves out the file's name."""


class BrokenLineError(UnreadableError):
    """Report why one line can't be read; `number` counts from 1."""

    def __init__(self, number: int, reason: str, within: str = "") -> None:
        super().__init__(f"line {number}{within}: {reason}")
        self.number = number
        self.reason = f"{within.removeprefix(', ')}: {reason}" if within else reason


Line = tuple[int, str | BrokenLineError]
Lines = Iterator[Line]


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
    path: Path,
    encoding: str | None = None,
    max_bytes: int | None = None,
    *,
    recover: bool = False,
) -> Generator[Line, None, None]:
    """Yield each line with its number and its end as it is: `\\n`, `\\r\\n` or `\\r`.

    A byte order mark is dropped and takes precedence over `encoding`, which is UTF-8 by default. A
    line that can't be decoded is yielded as an error, where the encoding allows to go on after it;
    with `recover` that is always, and a line of more than `max_bytes` bytes is such an error, too.

    Raises:
        UnreadableError: the file can't be opened or decompressed, or not decoded from a line on,
            or a line has more than `max_bytes` bytes.
    """
    check_encoding(encoding)
    try:
        with open_file(path) as file:
            marked = marked_encoding(file.read(WIDE_BYTES))
            name = marked or (guess_file(path) if encoding == AUTO else encoding) or "utf-8"
            file.seek(3 if marked == "utf-8-sig" else 0)
            if marked == "utf-8-sig" or "\n".encode(name) == b"\n":
                yield from _byte_lines(path, file, name.removesuffix("-sig"), max_bytes, recover)
            else:
                yield from _wide_lines(file, name, max_bytes, recover)
    except (OSError, EOFError, zlib.error) as error:
        reason = reason_of(error)
        raise UnreadableError(f"it could not be read: {reason}; check the file") from error


def _byte_lines(
    path: Path, file: IO[bytes], encoding: str, max_bytes: int | None, recover: bool
) -> Lines:
    """Split at the byte of `\\n`, then decode: the lines after an undecodable one can be read."""
    number, suggestion = 0, None
    while data := file.readline(-1 if max_bytes is None else max_bytes + 1):
        number += 1
        if max_bytes is not None and len(data) > max_bytes:
            yield _too_long(number, max_bytes, recover=recover)
            while data and not data.endswith(b"\n"):
                data = file.readline(max_bytes)
            continue
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


def _wide_lines(file: IO[bytes], encoding: str, max_bytes: int | None, recover: bool) -> Lines:
    """Decode, then split: for encodings such as UTF-16, in which a line end is no single byte."""
    errors = "mark_undecodable" if recover else "strict"
    with io.TextIOWrapper(file, encoding, errors, newline="") as text:
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
                yield _too_long(number, max_bytes, recover=recover)
                while line and line[-1] not in "\r\n":
                    line = text.readline(max_bytes)
            elif UNDECODABLE in line:
                reason = f"not {encoding.upper()}; save it as UTF-8, or name its --encoding"
                yield number, BrokenLineError(number, reason)
            else:
                yield number, _checked(number, line)


def _mark_undecodable(error: UnicodeError) -> tuple[str, int]:
    if not isinstance(error, UnicodeDecodeError):
        raise error
    return UNDECODABLE, error.end


codecs.register_error("mark_undecodable", _mark_undecodable)


def _too_long(number: int, max_bytes: int, *, recover: bool) -> Line:
    """Return the error for a line that is too long, where reading goes on after it."""
    error = too_large(max_bytes, f"line {number}")
    if not recover:
        raise error
    reason = str(error).removeprefix(f"line {number} ")
    return number, BrokenLineError(number, reason)


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


def guess_file(path: Path) -> str:
    """Return the likeliest encoding of a file, and log it unless it is UTF-8."""
    status = path.stat()
    return _guess_file(path, status.st_size, status.st_mtime_ns)


@lru_cache(maxsize=1024)  # a table is read several times, and logged once
def _guess_file(path: Path, _size: int, _time: int) -> str:
    decoder = codecs.getincrementaldecoder("utf-8")()
    with open_file(path) as file:
        line = b""
        while chunk := file.read(MEGABYTE):
            try:
                decoder.decode(chunk)
            except UnicodeDecodeError as error:
                place = chunk.rfind(b"\n", 0, error.start) + 1
                line = chunk[place:] + file.read(DETECTION_BYTES)
                break
    guessed = guess_encoding(line)
    if guessed != "utf-8":
        log_guess(path.name, guessed)
    return guessed


def too_large(max_bytes: int, what: str = "the file") -> UnreadableError:
    """Return the refusal of something larger than `max_bytes`."""
    return UnreadableError(
        f"{what} is over {max_bytes / MEGABYTE:g} MB; split it, or raise --max-megabytes"
    )
