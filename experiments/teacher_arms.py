"""Define the domains' settings, the kinds of labels and the arms in which teachers are compared.

All arms of a domain start from the same encoder and have the same questions, knowledge base, batch
size, learning rate and number of updates, however many of the questions an arm labels.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field, replace
from functools import partial
from typing import Any

from common import minilm
from domains import domain
from instruct_model import smollm2
from teacher_labels import file_of
from teacher_readers import by_heart, cross_encoder, questions_by_rules, tuned, untrained
from toy_models import fresh, misaligned, reader
from weak_encoder import weak_encoder

Options = dict[str, Any]

# Domains


@dataclass(frozen=True)
class Setting:
    """What all arms of a domain have in common."""

    retriever: Callable[[int], str]
    """The encoder to start from, by seed."""
    reader: Callable[[int], str]
    reader_length: int
    """Tokens of a prompt with its answer."""
    lengths: tuple[int, int]
    """Tokens of a query and of a passage."""
    options: Options
    """Batch, rate and number of updates."""
    reader_rate: float
    """Learning rate of a reader that is trained."""
    contrast: Options = field(default_factory=dict)
    """Further options of the contrastive loss."""
    candidates: int = 8
    """Candidates of a question: BM25's best by question and answer."""

    @property
    def training(self) -> Options:
        """The options of training a retriever."""
        query, passage = self.lengths
        return {**self.options, "query_max_len": query, "passage_max_len": passage}


def _real(retriever: Callable[[], str], passage: int, rate: float, updates: int) -> Setting:
    """Return the setting of a domain that SmolLM2 reads."""
    return Setting(
        retriever=lambda seed: retriever(),
        reader=lambda seed: smollm2(),
        reader_length=512,
        lengths=(64, passage),
        options={
            "per_device_train_batch_size": 16,
            "learning_rate": rate,
            "num_warmup_steps": 10,
            "precision": "bf16",
            "max_train_steps": updates,
        },
        reader_rate=2e-5,
    )


_COVIDQA = _real(minilm, 256, 3e-5, 96)
SETTINGS = {
    "toy-shared": Setting(
        retriever=partial(misaligned, shared=True),
        reader=partial(reader, shared=True),
        reader_length=160,
        lengths=(32, 96),
        options={
            "per_device_train_batch_size": 16,
            "learning_rate": 3e-4,
            "num_warmup_steps": 20,
            "max_train_steps": 256,
        },
        contrast={"logit_scale": 20.0},
        reader_rate=3e-4,
    ),
    "covidqa": _COVIDQA,
    "pubmedqa-250": _real(weak_encoder, 320, 1e-4, 64),
    "covidqa-reworded": _COVIDQA,
    "medquad": _real(weak_encoder, 256, 1e-4, 132),
    "pubmedqa": _real(weak_encoder, 320, 1e-4, 132),
}
"""Two epochs of COVID-QA and of the toy domain, three of MedQuAD and PubMedQA, four of its part."""
LABELLED_ONLY = {"covidqa-100": _COVIDQA, "covidqa-reworded-100": _COVIDQA}
"""Parts of domains on which labels are compared and nothing is trained."""
COMPARED = ("answer match", "reader", "answer match, then reader", "model's order")
"""Those labels."""


def _larger(setting: Setting, updates: int) -> Setting:
    """Return a setting for a GPU: batches of 32, 32 candidates of each question."""
    options = {**setting.options, "per_device_train_batch_size": 32, "max_train_steps": updates}
    return replace(setting, options=options, candidates=32)


LARGER = {
    "covidqa-larger": _larger(_COVIDQA, 120),
    "covidqa-reworded-larger": _larger(_COVIDQA, 120),
    "pubmedqa-larger": _larger(SETTINGS["pubmedqa"], 110),
    "medquad-larger": _larger(SETTINGS["medquad"], 110),
    "pubmedqa-20-larger": _larger(SETTINGS["pubmedqa"], 2),
}
"""Five epochs of the same domains, run only where they are named; the last one is a trial."""


def setting_of(name: str) -> Setting:
    return (SETTINGS | LABELLED_ONLY | LARGER)[name]


def domain_of(name: str) -> str:
    """Return the domain whose tables a setting takes."""
    return name.removesuffix("-larger")


# Labels

MODELS = {"generator", "cross-encoder", "llm-listwise"}
"""Teachers that are models."""
MATCH: Options = {"options": {"teacher": ["answer-match"]}}
READ: Options = {"options": {"teacher": ["generator"]}}
LABELS: dict[str, Options] = {
    "answer match": MATCH,
    "reader": READ,
    "answer match, then reader": {"options": {"teacher": ["answer-match", "generator"]}},
    "gold": {"options": {"teacher": ["gold"]}},
    "BM25's first": {"options": {"teacher": ["search"]}},
    "answer match, then BM25's first": {"options": {"teacher": ["answer-match", "search"]}},
    "answer match, then BM25's first, where the reader agrees": {
        "options": {"teacher": ["answer-match", "search"]},
        "agrees_with": "reader",
    },
    "random candidate": MATCH | {"positive": "random"},
    "reader, shuffled answers": READ | {"answers": "shuffled"},
    "untrained reader": READ | {"reader": "untrained"},
    "reader that knows the answers": READ | {"reader": "by heart"},
    "tuned reader": READ | {"reader": "tuned"},
    "cross-encoder": {"options": {"teacher": ["cross-encoder"]}, "reader": "cross-encoder"},
    "model's order": {"options": {"teacher": ["llm-listwise"]}},
}
"""How labels are made; `reader` is another one than the domain's, `agrees_with` other labels: what
those contradict is left unlabelled."""


def label_options(name: str, labels: str, model: str) -> Options:
    """Return the options with which labels are made, by a model if they need one."""
    setting = setting_of(name)
    options: Options = {"num_candidates": setting.candidates, **LABELS[labels]["options"]}
    if "cross-encoder" in options["teacher"]:
        options |= {"reranker": model}
    if "llm-listwise" in options["teacher"]:
        options |= {"llm": model}
    if "generator" in options["teacher"]:
        length = setting.reader_length
        options |= {"generator_name_or_path": model, "generator_max_len": length}
    return options


def label_cell(name: str, labels: str, seed: int) -> Options:
    """Return the cell that makes labels; those that no seed changes are made once, as seed 1's."""
    given = LABELS[labels]
    reads = bool(MODELS & {*given["options"]["teacher"]})
    is_drawn = given.get("positive") == "random" or "answers" in given or "reader" in given
    if not is_drawn and not (reads and name.startswith("toy")):
        seed = 1
    generator = reader_of(name, given.get("reader"), seed) if reads else ""
    if "agrees_with" in given:
        given = given | {"agrees_with": label_cell(name, given["agrees_with"], seed)}
    named = {"name": f"{name}: {labels}", "seed": seed, "domain": domain_of(name)}
    models = {"generator": generator} if reads else {}
    return given | named | models | {"options": label_options(name, labels, generator)}


def reader_of(name: str, kind: str | None, seed: int) -> str:
    """Return a reader's folder, which is made if it is missing."""
    if kind == "untrained" and name.startswith("toy"):
        return fresh(seed)[1]
    setting = setting_of(name)
    own = setting.reader(seed)
    options = {"learning_rate": setting.reader_rate, "generator_max_len": setting.reader_length}
    if kind is None:
        return own
    if kind == "cross-encoder":
        start = setting.retriever(seed)
        return cross_encoder(start, setting.options, setting.candidates, seed)
    if kind == "untrained":
        return untrained(own, seed)
    if kind == "by heart":
        return by_heart(domain_of(name), own, options, seed)
    assert kind == "tuned"
    return tuned(name, own, str(file_of(label_cell(name, "reader", seed))), options, seed)


# Arms

CONTRAST: Options = {"negatives_column": ""}
"""In-batch negatives, whatever makes the labels."""
SOFT: Options = {"marginal_temperature": 0.05}
"""Temperature of the retriever's softmax over the candidates."""
LISTWISE: Options = {"objective": "listwise", "contrastive_weight": 0.0, **SOFT}
"""The teacher's scores alone."""
BOTH: Options = LISTWISE | {"contrastive_weight": 1.0}
JOINT: Options = {"candidates": "index", **SOFT}


@dataclass(frozen=True)
class Arm:
    """A way to train the retriever."""

    name: str
    table: str | None = None
    """A key of `LABELS`, `gold pairs`, `questions` or `rules`; None: it isn't trained."""
    options: Options = field(default_factory=dict)
    command: str = "train-retriever-only"
    """What trains; `train-rag-e2e`: over an index; `train-reranker`: the retriever stays."""


def arms(name: str) -> Iterator[Arm]:
    """Yield the arms of a domain, the decisive ones first."""
    yield Arm("untuned")
    yield Arm("gold → contrast", "gold pairs", CONTRAST)
    if not name.startswith("pubmedqa"):  # answers that stand nowhere label nothing
        yield Arm("answer match → contrast", "answer match", CONTRAST)
        yield Arm("answer match → listwise", "answer match", LISTWISE)
        both = "answer match, then BM25's first"
        yield Arm(f"{both} → contrast", both, CONTRAST)
        both += ", where the reader agrees"
        yield Arm(f"{both} → contrast", both, CONTRAST)
    yield Arm("BM25's first → contrast", "BM25's first", CONTRAST)
    for labels in ("reader", "answer match, then reader"):
        if labels == "reader" or not name.startswith("pubmedqa"):
            yield Arm(f"{labels} → listwise", labels, LISTWISE)
            yield Arm(f"{labels} → contrast", labels, CONTRAST)
            yield Arm(f"{labels} → listwise and contrast", labels, BOTH)
    longer = CONTRAST | {"max_train_steps": 8 * setting_of(name).options["max_train_steps"]}
    for labels in ("gold", "answer match", "BM25's first", "reader"):
        if labels != "answer match" or not name.startswith("pubmedqa"):
            table = "gold pairs" if labels == "gold" else labels
            yield Arm(f"{labels} → contrast, eight times as long", table, longer)
    yield Arm("gold → listwise", "gold", LISTWISE)
    yield Arm("gold → listwise and contrast", "gold", BOTH)
    for labels in ("untrained reader", "reader, shuffled answers", "tuned reader"):
        yield Arm(f"{labels} → listwise and contrast", labels, BOTH)
    yield Arm("untrained reader → listwise", "untrained reader", LISTWISE)
    if name.startswith("toy"):
        for how, options in (("contrast", CONTRAST), ("listwise and contrast", BOTH)):
            yield Arm(f"cross-encoder → {how}", "cross-encoder", options)
    yield Arm("random candidate → contrast", "random candidate", CONTRAST)
    for objective in ("pdist", "rag_sequence"):
        for trained in (False, True):
            title = f"joint, {objective}, generator {'trained' if trained else 'frozen'}"
            options = {**JOINT, "objective": objective, "train_generator": trained}
            yield Arm(title, "questions", options, "train-rag-e2e")
    if not name.startswith("toy"):  # half the time
        options = {**JOINT, "objective": "rag_sequence", "train_generator": False}
        title = "joint, rag_sequence, generator frozen, K = 4"
        yield Arm(title, "questions", options | {"num_candidates": 4}, "train-rag-e2e")
    for labels in ("answer match", "reader", "gold"):
        if labels != "answer match" or not name.startswith("pubmedqa"):
            yield Arm(f"{labels} → reranker", labels, command="train-reranker")
    if name.startswith("covidqa"):
        yield Arm("questions by rules → contrast", "rules", CONTRAST)
    labels = "reader that knows the answers"
    yield Arm(f"{labels} → listwise and contrast", labels, BOTH)


def options_of(name: str, arm: Arm, passages: str) -> Options | None:
    """Return the options with which an arm trains; `passages` is the knowledge base."""
    setting = setting_of(name)
    if arm.table is None:
        return None
    if arm.command == "train-reranker":
        return {**setting.options, "num_candidates": setting.candidates}
    options = setting.training | arm.options
    if "negatives_column" in options or options.get("contrastive_weight"):
        options |= setting.contrast
    if options.get("objective") == "listwise":
        options |= {"num_candidates": setting.candidates}
    if arm.command == "train-rag-e2e":
        options = {"num_candidates": setting.candidates, "passages": [passages]} | options
        options |= {"generator_max_len": setting.reader_length}
        if arm.options["train_generator"]:
            options |= {"generator_learning_rate": setting.reader_rate}
    return options


def cell(name: str, arm: Arm, seed: int) -> Options:
    """Return an arm's cell."""
    setting = setting_of(name)
    reader = {"generator": setting.reader(seed)} if arm.command == "train-rag-e2e" else {}
    return reader | {
        "name": f"{name}: {arm.name}",
        "seed": seed,
        "domain": domain_of(name),
        "table": table_of(name, arm, seed),
        "retriever": setting.retriever(seed),
        "lengths": setting.lengths,
        "command": arm.command,
        "options": options_of(name, arm, domain(domain_of(name)).passages),
    }


def table_of(name: str, arm: Arm, seed: int) -> str | None:
    """Return the table that an arm is trained on; labels are made by a cell of their own."""
    if arm.table in LABELS:
        return str(file_of(label_cell(name, arm.table, seed)))
    tables = domain(domain_of(name))
    files: dict[str | None, Callable[[], str | None]] = {
        None: lambda: None,
        "gold pairs": lambda: tables.gold,
        "questions": lambda: tables.train,
        "rules": lambda: questions_by_rules(domain_of(name)),
    }
    return files[arm.table]()
