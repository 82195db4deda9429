"""Recognise and guess the encodings of texts."""

import codecs
import logging

from dalm.errors import UserError

logger = logging.getLogger(__name__)

AUTO = "auto"
"""An encoding that is guessed for each file."""
_BYTE_ORDER_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),  # before UTF-16's, with which it begins
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)
WIDE_BYTES, LEAST_WIDE = 2_000, 8  # from which UTF-16 is recognised
FEW_NULS, MANY_NULS = 0.02, 0.5  # of the higher and the lower bytes
DETECTION_BYTES = 2_000  # of an undecodable text, from its first undecodable line on
SUGGESTIONS = (
    "cp1252 cp1250 cp1251 cp1253 cp1254 cp1255 cp1256 iso8859_2 koi8_r cp932 euc_jp gb18030 "
    "big5hkscs cp949"
).split()


def check_encoding(encoding: str | None) -> None:
    """Refuse a name that is no encoding of text.

    Raises:
        UserError: names the option.
    """
    try:
        "".encode("utf-8" if encoding in (None, AUTO) else encoding)
    except (LookupError, ValueError):
        raise UserError(f"--encoding {encoding}: unknown; use utf-8 or cp1252, say") from None


def marked_encoding(data: bytes) -> str | None:
    """Return the encoding that a byte order mark at the beginning stands for; None without one.

    UTF-16 shows without a mark, too, if it is of a script such as Latin: every other byte is NUL.
    """
    marked = next((name for mark, name in _BYTE_ORDER_MARKS if data.startswith(mark)), None)
    return marked or _wide_encoding(data[:WIDE_BYTES])


def _wide_encoding(data: bytes) -> str | None:
    if b"\0" not in data or len(data) < LEAST_WIDE:
        return None
    high, low = data[0::2].count(0) / len(data[0::2]), data[1::2].count(0) / len(data[1::2])
    if high < FEW_NULS and low > MANY_NULS:
        return "utf-16-le"
    return "utf-16-be" if low < FEW_NULS and high > MANY_NULS else None


def suggest_encodings(data: bytes) -> str:
    """Return encodings in which the bytes look like natural language, as the end of an error.

    They are suggested and not used unless a guess is asked for, because the detection is often
    wrong about a few letters: in trials French in cp1252 was taken for cp1250, and Polish in
    ISO 8859-2 for ISO 8859-10, at every length up to 5 kB.
    """
    likely = {name for name, _, coherence in _readings(data) if coherence > 0}
    names = [name for name in SUGGESTIONS if name in likely][:3]
    return f" (it may be {' or '.join(names)})" if names else ""


def guess_encoding(data: bytes) -> str:
    """Return the likeliest encoding of a text: UTF-8 if it is, else cp1252 if nothing tells.

    That is the one in which it looks least like a mess and most like a language, and the first of
    `SUGGESTIONS` of those that are equal. It is often wrong about a few letters: Hungarian in
    cp1250 and Turkish in cp1254 are taken for cp1252.
    """
    marked = marked_encoding(data)
    if marked:
        return marked
    try:
        data.decode()
    except UnicodeDecodeError as error:
        place = data.rfind(b"\n", 0, error.start) + 1
        found = _readings(data[place:])
        return min(found, key=_likelihood)[0] if found else "cp1252"
    return "utf-8"


def _likelihood(reading: tuple[str, float, float]) -> tuple[float, float, int]:
    name, chaos, coherence = reading
    return round(chaos, 2), -coherence, SUGGESTIONS.index(name)


def _readings(data: bytes) -> list[tuple[str, float, float]]:
    """Return the encodings of the bytes, and how messy and how like a language they look."""
    from charset_normalizer import from_bytes

    end = data.find(b"\n", DETECTION_BYTES)
    sample = data[: end if 0 <= end < 2 * DETECTION_BYTES else DETECTION_BYTES]
    found = from_bytes(sample, cp_isolation=SUGGESTIONS)
    return [
        (name, each.chaos, each.coherence)
        for each in found
        for name in each.could_be_from_charset
        if name in SUGGESTIONS
    ]


def log_guess(name: str, encoding: str) -> None:
    """Log an encoding that was guessed."""
    logger.info("encoding   %s: read as %s, a guess; --encoding names it", name, encoding)
