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
    ("lines", "titles"),
    [
        ("1.2 Pumps ........ 14\n", "# 1.2 Pumps"),
        ("1.2 Pumps ........ 14\n1.3 Valves ...... 15\n", "Pumps, at last"),
        ("Contents\n\nPumps ..... 3\n", "PUMPS"),
        (
            "# Table of Contents\n\nPage\nPumps and what\n  they do ...... 3\nValves .... iv\n",
            "Valves",
        ),
        ("Inhaltsverzeichnis\nPumpen . . . . . . 3\nVentile . . . . . . . 7\n", "1. Ventile"),
        ("Inhalt\nPumpen . . . . . . 3\n\n\nVentile · · · · · · 7\n", "Pumpen"),
        ("目次\nポンプ……………… 3\nバルブ・・・ …… 7\n", "ポンプ"),
        ("Figure 3-1 A pump ............ 3-12\n", "Figure 3-1: A pump. Seen from above."),
        (
            "Chapter 1. A very long title indeed .. 1\nChapter 2. Short .......... 9\n",
            "Chapter 2. Short",
        ),
        ("1 Alpha ..... 1\n2 Beta ...\n   more of it ....... 4\n3 Gamma ..... 9\n", "1 Alpha"),
        ("| 1.2 Pumps ........ 14 |\n", "1.2 Pumps"),
        (
            "".join(f"o-{c} (C-o) . . . . . {9 - n // 3}\n" for n, c in enumerate("abcdefgh")),
            "o-a (C-o), o-b (C-o), o-c (C-o), o-d (C-o)",
        ),
        ("A.1 Forms ......... A-3\n", "A.1 Forms"),
        ("1.1 One ........ 14   1.2 Two ........ 15\n", "1.1 One 1.2 Two"),
        ("".join(f"1.{n} {n * 'x'} ....... {n}\n" for n in range(1, 9)), "x"),
        ("Contents\n" + "".join(f"{n * 'x'} ....... {n}\n" for n in range(1, 6)), "y"),
    ],
)
def test_contents_go_and_the_text_stays(lines, titles):
    below = f"{BODY}{titles}\n\n{BODY}"
    assert rest(BODY + lines + below) == BODY + below
    assert rest(f"{lines}\n{below}") == f"\n{below}"


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
        "1.2 Pumps ........ 14\n",
        "1.1 Advice ..... 90\n1.2 Travel ..... 95\n1.3 Repair ..... 100\n",
        "1. Pump A ..... 120\n2. Pump B ..... 140\n3. Pump C ..... 180\n4. Pump D ..... 220\n",
        "Contents\n\n2 x screw ..... 4\n1 x pump ..... 9\n4 x nut ..... 12\n\nThat is all.\n",
        "".join(f"{name * 3} ....... {101 + n // 2}\n" for n, name in enumerate("ABCDEFGHIJ")),
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


def listed_rest(text: str) -> str:
    for start, end in reversed(contents_lists(text)):
        text = text[:start] + text[end:]
    return text


def test_contents_without_dots_are_titles_that_come_again():
    assert listed_rest(LISTED + PARTS) == "Title\n\n\n\n" + PARTS


def test_what_stands_between_titles_stays():
    text = "Contents\n\nOf this kit:\nPumps\n  Why and how.\nValves\nPipes\n\n" + PARTS
    assert listed_rest(text) == "\nOf this kit:\n  Why and how.\n\n" + PARTS
    lines = "".join(f"{n * 'x'} ....... {n}\n" for n in range(1, 6))
    assert rest(f"Contents\n\nOf this kit:\n{lines}End.") == "\nOf this kit:\nEnd."


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
