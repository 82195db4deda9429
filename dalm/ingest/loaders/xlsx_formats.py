"""Show the numbers of an Excel workbook as its formats do: dates, times, percentages, zeros."""

import re
from datetime import datetime, timedelta

from dalm.ingest.loaders.docx_styles import number
from dalm.ingest.loaders.zipped_xml import Attributes, ZippedXml

BUILT_IN_DATES = frozenset((*range(14, 23), 45, 47))
BUILT_IN_ELAPSED = 46
BUILT_IN_PERCENTS = frozenset((9, 10))
LITERAL = re.compile(r'"[^"]*"|\\.|\[[^\]]*\]|_.')
"""What a number's format shows as it is, its colours and conditions."""
ELAPSED = re.compile(r"\[(h+|m+|s+)\]", re.IGNORECASE)
WHOLE = re.compile(r"-?\d+")
DATE_CODE = re.compile(r"[dmyhs]", re.IGNORECASE)
FIRST_DAY, FIRST_DAY_1904 = datetime(1899, 12, 30), datetime(1904, 1, 1)
LAST_DAY = 2_958_465  # 9999-12-31


def read_formats(archive: ZippedXml, part: str) -> list[str]:
    """Return how each style of a cell shows its numbers (`_format`)."""
    custom: dict[int, str] = {}
    found: list[str] = []
    inside = False

    def start(tag: str, attributes: Attributes) -> None:
        nonlocal inside
        name, code = tag.rpartition(" ")[2], number(attributes.get("numFmtId", ""))
        if name == "numFmt":
            custom[code] = _format(attributes.get("formatCode", ""))
        elif name == "cellXfs":
            inside = True
        elif name == "xf" and inside:
            built_in = "date" if code in BUILT_IN_DATES else ""
            built_in = "percent" if code in BUILT_IN_PERCENTS else built_in
            built_in = "elapsed" if code == BUILT_IN_ELAPSED else built_in
            found.append(custom.get(code, built_in))

    def end(tag: str) -> None:
        nonlocal inside
        inside = inside and not tag.endswith(" cellXfs")

    archive.parse(part, start, end)
    return found


def _format(code: str) -> str:
    """Return what a number's format shows: a `date`, a `percent`, `elapsed` hours, or digits.

    The last are as many zeros, as of a postcode. It is empty for numbers as they are.
    """
    if ELAPSED.search(code):
        return "elapsed"
    shown = LITERAL.sub("", code)
    if DATE_CODE.search(shown) and "General" not in shown:
        return "date"
    first = shown.partition(";")[0].strip()
    zeros = first if len(first) > 1 and not first.strip("0") else ""
    return "percent" if "%" in shown else zeros


def shown_number(value: str, form: str, first_day: datetime) -> str:
    """Return a number as a format shows it; dates are counted from `first_day`."""
    try:
        amount = float(value)
    except ValueError:
        return value
    if form == "date" and 0 <= amount < LAST_DAY:
        return _moment(amount, first_day)
    if form == "elapsed" and abs(amount) < LAST_DAY:
        minutes, seconds = divmod(round(abs(amount) * 86400), 60)
        return f"{'-' * (amount < 0)}{minutes // 60}:{minutes % 60:02}:{seconds:02}"
    if form == "percent":
        return f"{amount * 100:.10g}%"
    if WHOLE.fullmatch(value):  # to the last digit
        return value.zfill(len(form)) if form.startswith("0") else value
    return f"{amount:.15g}"


def _moment(amount: float, first_day: datetime) -> str:
    moment = first_day + timedelta(seconds=round(amount * 86400))
    if amount < 1:
        return f"{moment:%H:%M:%S}".removesuffix(":00")
    return f"{moment:%Y-%m-%d %H:%M:%S}".removesuffix(" 00:00:00").removesuffix(":00")
