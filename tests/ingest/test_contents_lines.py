import time

import pytest

from dalm.ingest.contents_lines import contents_lines, contents_lists


def rest(text: str) -> str:
    found, at = "", 0
    for start, end in contents_lines(text):
        found, at = found + text[at:start], end
    return found + text[at:]


BODY = "The pump is opened by hand.\n"


@pytest.mark.parametrize(
    "lines",
    [
        "1.2 Pumps ........ 14\n",
        "1.2 Pumps ........ 14\n1.3 Valves ...... 15\n",
        "Contents\n\nPumps ..... 3\n",
        "# Table of Contents\n\nPage\nPumps and what\n  they do ...... 3\nValves .... iv\n",
        "Inhaltsverzeichnis\nPumpen . . . . . . 3\nVentile . . . . . . . 7\n",
        "Inhalt\nPumpen . . . . . . 3\n\n\nVentile · · · · · · 7\n",
        "目次\nポンプ……………… 3\nバルブ・・・ …… 7\n",
        "Figure 3-1 A pump ............ 3-12\n",
        "Chapter 1. A very long title indeed .. 1\nChapter 2. Short .......... 9\n",
        "1 Alpha ..... 1\n2 Beta ...\n   more of it ....... 4\n3 Gamma ..... 9\n",
        "| 1.2 Pumps ........ 14 |\n",
        "".join(f"o-{c} (C-o) . . . . . {9 - n // 3}\n" for n, c in enumerate("abcdefgh")),
        "A.1 Forms ......... A-3\n",
        "1.1 One ........ 14   1.2 Two ........ 15\n",
    ],
)
def test_contents_go_and_the_text_stays(lines):
    assert rest(BODY + lines + BODY) == BODY + BODY
    assert rest(lines.rstrip("\n")) == ""


def test_titles_with_rising_pages_that_come_again_are_contents():
    names = ["Alpha", "Beta", "Gamma", "Delta", "Epsilon"]
    lines = "".join(f"{name} ..... {n}\n" for n, name in enumerate(names))
    below = "".join(f"{name}\n\n{BODY}\n" for name in names)
    assert rest(lines + below) == below


@pytest.mark.parametrize(
    "text",
    [
        "Weight ........ 14 kg\nHeight ....... 20 cm\n",
        "Flow ........ 12.5\nHead ........ 30.1\n",
        "Voltage ........ 230\nCurrent ........ 12\nPower ........ 2500\n",
        "Temperature ..... 20\nHumidity ..... 50\nPressure ..... 1013\n",
        "1. Voltage ........ 230\n2. Current ...... 12\n3. Power ..... 900\n",
        "He waited ... 5 minutes later he left.\nWait... 5\n",
        "Tea ..... 2\nMilk ..... 3\nJuice ..... 4\nBeer ..... 5\nWine ..... 9\n",
        "Contents\n\nPump ..... 1\nBolt ..... 8\nHose ..... 1\nKey ..... 2\nNut ..... 1\n",
        "So on and so on...\nAnd then…\n\n1.2 Pumps\n",
        "".join(f"{name} ....... {4400 - n}\n" for n, name in enumerate("ABCDEFGHIJ")),
        "Soup ....... 4.50\nSalad ....... 6.20\n",
        "version 1.2..1.4\nrange(0..5)\n../../path 5\n",
        "Contents\nof the box: two pumps...\n",
        "Name: ....................\nDate: ....................\n",
    ],
)
def test_data_and_prose_stay(text):
    assert not contents_lines(text)


def test_lines_of_dots_take_no_time():
    began = time.process_time()
    for unit in (".", ". ", "…", "a .. ", "1.1 a .... 3 ", "\n. ."):
        contents_lines(unit * 200_000)
    assert time.process_time() - began < 5


LISTED = "Title\n\nContents\n\n  1. Pumps\n  1.1. What they do and\n       are\n"
LISTED += "  2. Valves\n  3. Pipes\n\n"
PARTS = "1. Pumps\n\nText.\n\n1.1. What they do and are\n\n2. Valves\n\nText.\n\n3. Pipes\n\nEnd.\n"


def test_contents_without_dots_are_titles_that_come_again():
    [(start, end)] = contents_lists(LISTED + PARTS)
    assert (LISTED + PARTS)[:start] + (LISTED + PARTS)[end:] == "Title\n\n\n" + PARTS


@pytest.mark.parametrize(
    "text",
    [
        LISTED,
        "Contents\n\nTwo pumps\nOil\nA key\n\nPlease check.\n",
        PARTS,
        "Contents\n" * 9,
        "Contents",
    ],
)
def test_lists_below_contents_that_do_not_come_again_stay(text):
    assert not contents_lists(text)
