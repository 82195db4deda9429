"""Passages on a pump at Ulm and a boiler at Bern, pairs about them, and searches that rank them."""

from dalm.records import Hit, Passage
from dalm.synth.pairs import Pair

PASSAGES = [
    Passage.of("The pump at Ulm holds 12 bar and is green.", "Ulm"),
    Passage.of("Twelve valves of Bern are red. The boiler of Bern holds 3 bar.", "Bern"),
    Passage.of("A note: the pump at Ulm holds 12 bar, as everybody knows by now.", "Note"),
    Passage.of("Nothing here is of any use, but 12 bar are a lot.", "Else"),
]


def pair(place: int, query: str, answer: str) -> Pair:
    text = PASSAGES[place].text
    return Pair(PASSAGES[place], query, answer, text, "fact", "m", "1")


ULM = pair(0, "What pressure does the pump at Ulm hold?", "12 bar")
BERN = pair(1, "What pressure does the boiler of Bern hold?", "3 bar")


def ranking(*places: int):
    def search(queries, k):
        return [[Hit(PASSAGES[p], -float(p)) for p in places][:k] for _ in queries]

    return search
