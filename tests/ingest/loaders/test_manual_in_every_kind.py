"""One manual, as other programs write it in each kind of file."""

from pathlib import Path

import pytest

MANUALS = Path(__file__).parent / "manuals"
KINDS = sorted(path.name for path in MANUALS.glob("manual.*"))
WORDS = (
    "Amber pumps, The power of the pump is, and it must, below nine, See, valve, "
    "Steps, Do this:, Open the valve., Close it:, slowly, with care, Wait., amber, brown, "
    "with a second paragraph, Pressures, A quote of the maker., Its definition., Last paragraph, "
    "Measured at 20 °C."
).split(", ")


@pytest.mark.parametrize("name", KINDS)
def test_every_word_and_its_structure_is_read(document, name):
    found = document(name, (MANUALS / name).read_bytes())
    text = " ".join(found.text.split())
    assert [words for words in WORDS if words not in f"{found.title} {text}"] == []
    assert found.title == (
        "Amber pumps" if name in ("manual.ipynb", "manual.rtf") else "Pump manual"
    )
    assert found.unread == ()
    assert "Amber pumps" in [heading.text for heading in found.headings]
    assert ("Steps" in [h.text for h in found.headings]) == (name != "manual.pptx")
    rows = [line for line in found.text.splitlines() if "P-1" in line]
    assert [[word in row for word in ("P-1", "2 bar", "thin")] for row in rows] == [[True] * 3]
    assert "def f(x):\n    return x + 1" in found.text
    assert "10^" not in found.text
    units = [
        found.text[a:b] for e in found.blocks for a, b in zip(e.units, e.units[1:], strict=False)
    ]
    assert any("Pump" in unit for unit in units)
    assert all(block.units[0] == block.start < block.end for block in found.blocks)


@pytest.mark.parametrize("name", ["manual.docx", "manual.odt", "manual.pptx", "manual.html"])
def test_equations_are_the_same_text_whatever_the_kind(document, name):
    text = document(name, (MANUALS / name).read_bytes()).text
    assert "P=(Q⋅Δp)/η" in text
    assert "∑_(i=1)^n x_i^2=√((a+b)/2)∫_0^1 sin x" in text


def test_a_workbook_of_openpyxl(document):
    found = document("pumps.xlsx", (MANUALS / "pumps.xlsx").read_bytes())
    assert found.text == (
        "Pumps\n\nPressures of the year\n\nPump\tPressure\tTested\tShare\n"
        "P-1\t2.5\t2024-03-01\t5%\n"
        "P-2\t0.3\t2024-03-02 10:30\t100%\n\nSecond\tTable\nx\t\tTRUE\n\n"
        "Team A\tone\tx\nTeam A\ttwo\ty\n\nSecond sheet\n\nonly"
    )
    assert found.title == "pumps"
    assert [(each.level, each.text) for each in found.headings] == [
        (2, "Pumps"),
        (2, "Second sheet"),
    ]
    assert found.unread[0].startswith("formula without a stored value")


def test_slides_of_python_pptx(document):
    found = document("slides.pptx", (MANUALS / "slides.pptx").read_bytes())
    assert found.text == (
        "Amber pumps\n\n- Open the valve\n  - slowly\n- Close it\n\nNotes: Say it twice.\n"
        "Really.\n\n"
        "Table\n\nPump\tPressure\nP-1\t2 bar\nP-2\t5 bar\n\nA text box."
    )
    assert [found.text[page:].split("\n")[0] for page in found.pages] == ["Amber pumps", "Table"]
    assert [each.partition(":")[0] for each in found.unread] == ["chart"]
