"""Generate the toy domain: two tables on an invented domain, small enough to learn in minutes.

A survey of places describes devices in its own jargon: a passage mentions *the skerrow at Dulmaven*
and its *velt*, a question asks for the *pressure* of the *pump* there. There are eight kinds of
device at every place, so the place leaves eight passages to choose from; finding the right one, and
the right value in it, requires the jargon. Places, jargon and values are invented, so no model has
seen them before.

In a variant of the domain, a place's eight values are shared by all its devices: the answer to a
question stands in about four of the place's passages, as the pressure of one device, the oil of
another, and only the jargon tells which passage answers.

`python experiments/toy.py [folder]` writes both tables again, byte for byte the same; by default to
where the package has them.
"""

import csv
import sys
from collections.abc import Sequence
from pathlib import Path
from random import Random
from typing import Literal, TypeVar

Split = Literal["train", "test"]
Item = TypeVar("Item")

COLUMNS = ("Title", "Passage", "Query", "Answer")
FILES: dict[Split, str] = {"train": "toy_data_train.csv", "test": "toy_data_test.csv"}
PLACES: dict[Split, int] = {"train": 128, "test": 16}
PACKAGED = Path(__file__).parents[1] / "dalm" / "datasets"
STATED = 4  # attributes that a passage states, of six
SEED = 20

KINDS = {  # in a question: in a passage
    "pump": "skerrow",
    "valve": "tholm",
    "boiler": "quenby",
    "fan": "lirgan",
    "crane": "vundle",
    "motor": "mazzet",
    "furnace": "drostel",
    "gauge": "ophry",
}
QUESTIONS = {  # of an attribute, in plain words
    "velt": (
        "What pressure does the {kind} at {place} hold?",
        "At {place}, how high is the pressure of the {kind}?",
        "Which pressure was chosen for the {kind} of {place}?",
    ),
    "suthe": (
        "Which oil does the {kind} at {place} need?",
        "At {place}, what oil goes into the {kind}?",
        "What sort of oil should I buy for the {kind} of {place}?",
    ),
    "glarn": (
        "What paint covers the {kind} at {place}?",
        "At {place}, which paint protects the {kind}?",
        "Which paint should I order for the {kind} of {place}?",
    ),
    "pilque": (
        "Which seal fits the {kind} at {place}?",
        "At {place}, what seal belongs in the {kind}?",
        "What seal do I need for the {kind} of {place}?",
    ),
    "yarrick": (
        "What fuel does the {kind} at {place} use?",
        "At {place}, which fuel feeds the {kind}?",
        "Which fuel is right for the {kind} of {place}?",
    ),
    "dranth": (
        "Which company built the {kind} at {place}?",
        "At {place}, what company delivered the {kind}?",
        "What company put up the {kind} of {place}?",
    ),
}
CLAUSES = {  # of an attribute, in the jargon
    "velt": ("velt {value} is held", "it runs at velt {value}", "keepers want velt {value}"),
    "suthe": ("suthe {value} fills it", "it takes suthe {value}", "keepers pour suthe {value}"),
    "glarn": ("glarn {value} hides it", "it wears glarn {value}", "keepers brush glarn {value}"),
    "pilque": ("pilque {value} shuts it", "it has pilque {value}", "keepers cut pilque {value}"),
    "yarrick": (
        "yarrick {value} runs it",
        "it eats yarrick {value}",
        "keepers load yarrick {value}",
    ),
    "dranth": ("dranth {value} sent it", "it is by dranth {value}", "keepers write dranth {value}"),
}
OPENINGS = (
    "The {kind} at {place} stands in the {spot}.",
    "{place} keeps a {kind} in the {spot}.",
    "In the {spot} of {place} there is a {kind}.",
    "This sheet describes the {kind} at {place}, {spot}.",
)
SPOTS = ("lower hall", "east yard", "long shed", "old tower", "north wing", "river house")
TITLES = ("{place}: the {kind}", "The {kind} at {place}", "Sheet of {place}, {kind}")

# Names and values are composed of few pieces, so that new ones have no new piece.
FIRST, LAST, GRADE, LIQUID, MATTER, MAKER, TAIL = (
    tuple(pieces.split())
    for pieces in (
        "Dul Bran Kes Orm Tav Wil Hex Pra Zel Ith Gor Mun Fal Cre Yar Sto",
        "maven dora wick lund essa ovar ibor unta elsk arro igny umbra ostra gate mere quin",
        "tor kel ban mur sil dov fen gar hul jat nib zan",
        "bex cam dri fop gul hib jom lep ros sned tib wum",
        "ched flo grun hask kov lim nash pev skel thub vri yor",
        "blen dorf frol girt hesk jurn kalt morb parn quis tarn wald",
        "im ak ost ule ern ado iff arn eck oth una ird ams osk uve ygg",
    )
)
HEADS = {  # oil and fuel share values, paint and seal others: only the jargon tells them apart
    "velt": GRADE,
    "suthe": LIQUID,
    "yarrick": LIQUID,
    "glarn": MATTER,
    "pilque": MATTER,
    "dranth": MAKER,
}


def toy_rows(split: Split, *, shared: bool = False, draw: int = 0) -> list[dict[str, str]]:
    """Return the rows of one split, several questions per passage; no place is in both splits.

    With `shared`, those of the variant whose values are shared within a place. Another `draw` has
    other values at the same places.
    """
    rng = Random(SEED)
    places = _shuffled(rng, [first + last for first in FIRST for last in LAST])
    train, test = PLACES["train"], PLACES["test"]
    chosen = places[:train] if split == "train" else places[train : train + test]
    rng = Random(f"{SEED} {split}{f' {draw}' if draw else ''}")
    rows = []
    for place in chosen:
        of_place = _shared_values(rng) if shared else (_values(rng) for _ in KINDS)
        # Values are drawn in turn with the rest of a passage, of which `of_place` is a generator.
        for kind, values in zip(KINDS, of_place, strict=True):
            rows += _document(rng, place, kind, values)
    return rows


def write(folder: Path, *, shared: bool = False) -> None:
    """Write both tables into `folder`."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, name in FILES.items():
        with (folder / name).open("w", encoding="utf-8", newline="") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(toy_rows(split, shared=shared))


def _document(rng: Random, place: str, kind: str, values: dict[str, str]) -> list[dict[str, str]]:
    """Return the rows of one passage: a question for each attribute that it states."""
    names = {"place": place, "kind": KINDS[kind]}
    title = _pick(rng, TITLES).format(**names)
    opening = _pick(rng, OPENINGS).format(spot=_pick(rng, SPOTS), **names)
    clauses = [_pick(rng, CLAUSES[name]).format(value=value) for name, value in values.items()]
    passage = f"{opening} {_sentences(clauses)}"
    return [
        {
            "Title": title,
            "Passage": passage,
            "Query": _pick(rng, QUESTIONS[name]).format(place=place, kind=kind),
            "Answer": value,
        }
        for name, value in values.items()
    ]


def _values(rng: Random) -> dict[str, str]:
    """Draw the stated attributes, in the passage's order, with values of different first pieces."""
    heads: dict[str, str] = {}
    for name in _shuffled(rng, list(CLAUSES))[:STATED]:
        free = [head for head in HEADS[name] if head not in heads.values()]
        heads[name] = _pick(rng, free)
    return {name: head + _pick(rng, TAIL) for name, head in heads.items()}


def _shared_values(rng: Random) -> list[dict[str, str]]:
    """Draw the stated attributes of each of a place's devices, from eight values of the place.

    A Latin rectangle: within a device no value is there twice, and each device has another value of
    an attribute, so that a question has one answer, and one passage that gives it.
    """
    heads = _shuffled(rng, [*GRADE, *LIQUID, *MATTER, *MAKER])[: len(KINDS)]
    values = [head + _pick(rng, TAIL) for head in heads]
    shifts = dict(zip(CLAUSES, _shuffled(rng, range(len(KINDS))), strict=False))
    return [
        {
            name: values[(row + shifts[name]) % len(KINDS)]
            for name in _shuffled(rng, list(CLAUSES))[:STATED]
        }
        for row in range(len(KINDS))
    ]


def _sentences(clauses: Sequence[str]) -> str:
    """Join pairs of clauses to sentences."""
    pairs = [", and ".join(clauses[i : i + 2]) for i in range(0, len(clauses), 2)]
    return " ".join(pair[0].upper() + pair[1:] + "." for pair in pairs)


# Only Random.random() is guaranteed to be the same in every version of Python.
def _pick(rng: Random, items: Sequence[Item]) -> Item:
    return items[int(rng.random() * len(items))]


def _shuffled(rng: Random, items: Sequence[Item]) -> list[Item]:
    return sorted(items, key=lambda _: rng.random())


if __name__ == "__main__":
    write(Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGED)
