"""The documentation: its commands and options exist, its Python runs, its links lead somewhere."""

import ast
import inspect
import itertools
import re
import shlex
import shutil
import typing
from collections.abc import Callable, Iterator
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
import yaml

import dalm
from dalm.cli import app, run
from dalm.config import Columns
from dalm.io.examples import read_passages
from dalm.records import Hit
from dalm.retrieval.index_folder import IndexFolder
from dalm.user_feedback.feedback_store import FeedbackStore
from dalm.user_feedback.judgments import AnswerRecord, Judgment

ROOT = Path(__file__).parents[1]
SKILL = ROOT / "skills" / "dalm" / "SKILL.md"
PAGES = [
    *(ROOT / "README.md", ROOT / "CONTRIBUTING.md", SKILL),
    *sorted((ROOT / "docs").glob("*.md")),
]
NEXT = re.compile(r"next +dalm ")
SCRIPT = re.compile(r'run_script\("([a-z0-9-]+)"\)')


def code_blocks(page: Path, language: str = "") -> list[str]:
    """Return the contents of a page's fenced blocks in one language."""
    fences = re.findall(r"^```(\w*)\n(.*?)^```$", page.read_text("utf-8"), re.M | re.S)
    return [code for name, code in fences if name == language]


def commands(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page's blocks and of its inline code, split into words."""
    blocks = "\n".join(code_blocks(page)).replace("\\\n", " ")
    inline = re.findall(r"`((?:dalm|python dalm/)[^`\n]*)`", page.read_text("utf-8"))
    for line in [*blocks.splitlines(), *inline]:
        if re.match(r"dalm [a-z]|python dalm/|torchrun ", line):
            yield shlex.split(line, comments=True)


def command_of(words: list[str]) -> tuple[str, list[str]]:
    """Return a command's name and its arguments."""
    if words[0] == "python":
        found = SCRIPT.search((ROOT / words[1]).read_text())
        assert found, words[1]
        return found[1], words[2:]
    if words[0] == "torchrun":
        start = words.index("dalm")
        return words[start + 1], words[start + 2 :]
    return words[1], words[2:]


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_commands_of_a_page_exist_and_take_its_options(page: Path) -> None:
    for words in commands(page):
        name, arguments = command_of(words)
        assert name in dalm.COMMANDS or name == "version", words
        known = {n for a in app[name].assemble_argument_collection() for n in a.names}
        options = {word.partition("=")[0] for word in arguments if word.startswith("--")}
        spelled = {option.replace("_", "-") for option in options}
        assert spelled <= known | {"--config", "--help"}, words


def test_the_readme_shows_every_command() -> None:
    shown = set(re.findall(r"^\| `dalm ([a-z0-9-]+)` \|", (ROOT / "README.md").read_text(), re.M))
    assert shown == set(dalm.COMMANDS)


def test_the_page_of_the_python_api_shows_every_function_as_it_can_be_called() -> None:
    page = (ROOT / "docs" / "python-api.md").read_text("utf-8")
    rows = re.findall(r"^\| `dalm ([a-z0-9-]+)` \| `(\w+)\((.*)\)` \| `(\w+)` \|", page, re.M)
    assert [name for name, *_ in rows] == list(dalm.COMMANDS)
    for name, function, arguments, options in rows:
        assert inspect.unwrap(getattr(dalm, function)) is dalm.command(name)
        signature = inspect.signature(dalm.command(name))
        call = ast.parse(f"f({arguments})", mode="eval").body
        assert isinstance(call, ast.Call)
        signature.bind(*call.args, **{str(each.arg): each for each in call.keywords})
        assert list(signature.parameters) == [
            each.strip() for each in re.findall(r"(\w+)(?:=\w+)?", arguments)
        ]
        assert typing.get_args(signature.parameters["settings"].annotation)[0] is getattr(
            dalm, options
        )


def test_ci_finds_one_line_to_install_and_test() -> None:
    lines = (ROOT / "README.md").read_text().splitlines()
    assert len([line for line in lines if line.endswith("inv test")]) == 1


DOCUMENTS = {
    "danube": "The Danube is a river of Europe. It was measured at 2,850 km in 1934. "
    "Barges carry gravel on the Danube because the roads are narrow.",
    "kettle": "The kettle was invented by Ada Holm in 1891. A kettle is a vessel for water. "
    "The kettle whistles because steam escapes through its spout.",
    "lighthouse": "The lighthouse of Torsund was built by Olaf Brandt in 1872. The lighthouse is "
    "41 metres high. Its lamp burns paraffin because electricity came late to Torsund.",
    "bakery": "The bakery in Melk was founded by Rosa Lind in 1903. The bakery sells 400 loaves "
    "every day. Its oven is heated with beech wood because beech burns slowly.",
    "observatory": "The observatory on Mount Kelan was opened by Ivan Petrov in 1956. The "
    "observatory has a mirror of 3 metres. Its dome turns at night because the stars move.",
    "orchard": "The orchard of Linz was planted by Karl Moser in 1888. The orchard has 220 trees. "
    "Bees are kept in the orchard because blossoms need pollination.",
    "ferry": "The ferry to Arran was launched by Fiona Reid in 1967. The ferry carries 90 cars. "
    "It sails at noon because the tide is high then.",
    "mill": "The mill at Skagen was restored by Nils Berg in 1979. The mill grinds rye. Its sails "
    "are red because the miller wanted ships to see them.",
}


@pytest.fixture
def run_chain(
    tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Callable[[Path], list[str]]:
    """Run a page's commands in a folder with documents, in order; return their names."""
    (tmp_path / "documents").mkdir()
    for name, text in DOCUMENTS.items():
        (tmp_path / "documents" / f"{name}.md").write_text(f"# The {name}\n\n{text}\n")
    monkeypatch.chdir(tmp_path)
    names = {
        "BAAI/bge-small-en-v1.5": str(tiny_models.encoder),
        "Qwen/Qwen2.5-0.5B-Instruct": str(tiny_models.generator),
    }

    def run_all(page: Path) -> list[str]:
        done = []
        for words in _in_blocks(page):
            if words[1] == "feedback":
                _judge(Path("index"))
            if words[1] != "serve":  # it would not end
                assert run(app, [names.get(word, word) for word in words[1:]]) == 0, words
                done.append(words[1])
        return done

    return run_all


def _judge(index: Path) -> None:
    """Let two people find the first passage right for ten questions, and the second one wrong."""
    from dalm.user_feedback.feedback_store import FeedbackStore
    from dalm.user_feedback.judgments import AnswerRecord, Judgment

    store = IndexFolder(index).current().store
    right, wrong = list(store.passages_of(list(store.digests())).values())[:2]
    with FeedbackStore.open(index) as feedback:
        for number in range(10):
            shown = {"question": f"Question {number}?", "answer": "An answer.", "generation": 1}
            hits = [{"id": each.id, "text": each.text} for each in (right, wrong)]
            feedback.keep_answer(AnswerRecord(id=str(number), searched="", hits=hits, **shown))
            for person, passage, value in itertools.product("ab", (right, wrong), (1, -1)):
                if (passage is right) == (value == 1):
                    about = {"answer_id": str(number), "person": person, "value": value}
                    feedback.judge(Judgment(kind="passage", passage_id=passage.id, **about))


def _in_blocks(page: Path) -> Iterator[list[str]]:
    """Yield the commands of a page's blocks that have arguments."""
    for line in "\n".join(code_blocks(page)).replace("\\\n", " ").splitlines():
        words = shlex.split(line) if line.startswith("dalm ") else []
        if len(words) > 3:
            yield words


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_the_chain_of_the_readme_runs(run_chain: Any, tmp_path: Path) -> None:
    stages = ["adapt", "passages", "qa-gen", "train-rag-e2e", "eval-rag", "index", "ask"]
    assert run_chain(ROOT / "README.md") == stages
    assert "EM" in (tmp_path / "evaluation-1" / "results.json").read_text()
    assert (tmp_path / "report.html").is_file()


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_the_chains_of_the_skill_run(run_chain: Any, tmp_path: Path, caplog: Any) -> None:
    caplog.set_level("INFO", "dalm")
    done = run_chain(SKILL)
    assert done[:3] == ["adapt", "passages", "qa-gen"]
    assert {"eval-retriever", "eval-rag", "compare", "ask"} <= set(done)
    assert done[-5:] == ["train-retriever-only", "index", "index", "feedback", done[-5]]
    assert len((tmp_path / "rows.csv").read_text().splitlines()) > 5
    assert "only queries are embedded in another way" in caplog.text, "nothing was encoded again"
    assert (tmp_path / "report.html").is_file()


def test_the_skill_says_what_it_is_for_in_few_lines() -> None:
    text = SKILL.read_text(encoding="utf-8")
    _, front, body = text.split("---\n", 2)
    said = yaml.safe_load(front)
    assert set(said) == {"name", "description"}
    assert said["name"] == SKILL.parent.name
    assert len(said["description"]) <= 1024, "what agents read of a skill that they don't use"
    assert len(body.splitlines()) < 200


# By hand where nothing leads to it; then every line that is printed as the next one.
def judge_answers(passages: str, folder: str) -> None:
    """Index the passages, and keep answers of which two people found a passage right."""
    building = ["--index-dir", folder, "--retriever-name-or-path", "BAAI/bge-small-en-v1.5"]
    assert run(app, ["index", passages, *building]) == 0
    with FeedbackStore.open(folder) as store:
        for place, passage in enumerate(read_passages(passages, Columns())):
            question = f"Which one is number {place}?"
            asked = {"question": question, "searched": question, "answer": "this"}
            hits = [Hit(passage, 1.0).to_dict()]
            store.keep_answer(AnswerRecord(id=f"a{place}", generation=1, hits=hits, **asked))
            for person in ("p", "q"):
                known = {"answer_id": f"a{place}", "person": person, "passage_id": passage.id}
                store.judge(Judgment(kind="right_passage", **known))


STARTS = [
    "passages documents --output passages.jsonl",
    "train-retriever-only BAAI/bge-small-en-v1.5 questions/question_answer_pairs_train.csv "
    "--output-dir adapters --use-peft --max-train-steps 1",
    "train-generator-only questions/question_answer_pairs_train.csv Qwen/Qwen2.5-0.5B-Instruct "
    "--output-dir reader --max-train-steps 1",
    "mine-negatives questions/question_answer_pairs_train.csv "
    "--retriever-name-or-path BAAI/bge-small-en-v1.5 --output negatives.jsonl "
    "--max-share off --no-cache",
    "train-reranker BAAI/bge-small-en-v1.5 negatives.jsonl --output-dir reranked "
    "--max-train-steps 1",
    "score-candidates questions/question_answer_pairs_train.csv --passages passages.jsonl "
    "--teacher answer-match --output scored.jsonl",
    "export questions-tuned --output-dir exported",
    "merge adapters/retriever --output-dir merged",
    "merge questions-tuned/generator --base Qwen/Qwen2.5-0.5B-Instruct --weight 0.5 "
    "--output-dir half",
    "pretrain passages.jsonl Qwen/Qwen2.5-0.5B-Instruct --output-dir pretrained "
    "--max-train-steps 1 --sequence-length 64",
]


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_every_line_that_is_printed_as_the_next_one_runs(
    tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: Any
) -> None:
    here = tmp_path / "my project"
    (here / "documents").mkdir(parents=True)
    for name, text in DOCUMENTS.items():
        (here / "documents" / f"{name}.md").write_text(f"# The {name}\n\n{text}\n")
    shutil.copytree(tiny_models.encoder, here / "BAAI" / "bge-small-en-v1.5")
    shutil.copytree(tiny_models.generator, here / "Qwen" / "Qwen2.5-0.5B-Instruct")
    monkeypatch.chdir(here)
    caplog.set_level("INFO", "dalm")
    followed = set()
    for start in [*STARTS, "feedback judged --output judged.csv"]:
        if start.startswith("feedback"):
            judge_answers("passages.jsonl", "judged")
        waiting = [shlex.split(start)]
        while waiting:
            words = waiting.pop()
            caplog.clear()
            assert run(app, words) == 0, shlex.join(words)
            lines = [line.split(maxsplit=2)[2] for line in caplog.messages if NEXT.match(line)]
            waiting += [shlex.split(line) for line in lines]
            followed |= {words[0]} if lines else set()
            if words[:2] == ["eval-rag", "questions/question_answer_pairs_test.csv"]:
                assert "8 passages for" in caplog.text, "all of passages.jsonl"
    printing = {
        name
        for name, path in dalm.COMMANDS.items()
        if "log_next" in (source := inspect.getsource(import_module(path.split(":")[0])))
        or "next_step" in source
    }
    assert printing <= followed, "a command prints a line that was not followed"


@pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")  # PEFT reads it
def test_the_python_of_the_readme_runs(
    tiny_models: Any, tiny_table: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    [code] = code_blocks(ROOT / "README.md", "python")
    names = {
        "questions/question_answer_pairs_train.csv": tiny_table,
        "BAAI/bge-small-en-v1.5": tiny_models.encoder,
        "Qwen/Qwen2.5-0.5B-Instruct": tiny_models.generator,
    }
    for name, path in names.items():
        assert name in code
        code = code.replace(name, str(path))
    monkeypatch.chdir(tmp_path)
    exec(compile(code, "README.md", "exec"), {})
    assert (tmp_path / "tuned" / "retriever" / "adapter_config.json").is_file()
    assert (tmp_path / "tuned" / "generator" / "adapter_config.json").is_file()


def test_the_first_snippet_for_an_exported_retriever_runs(
    tiny_models: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The others need frameworks: `tools/try_snippets.py` runs them."""
    monkeypatch.chdir(tmp_path)
    assert run(app, ["export", str(tiny_models.encoder), "--output-dir", "served"]) == 0
    found: dict[str, Any] = {}
    exec(code_blocks(ROOT / "docs" / "elsewhere.md", "python")[0], found)
    assert found["scores"].shape == (1, 2)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_the_python_of_a_page_names_what_exists(page: Path) -> None:
    for code in code_blocks(page, "python"):
        for node in ast.walk(ast.parse(code)):
            if isinstance(node, ast.ImportFrom) and node.module == "dalm":
                assert all(hasattr(dalm, alias.name) for alias in node.names), code


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.name)
def test_links_lead_to_files_and_headings(page: Path) -> None:
    text = page.read_text("utf-8")
    for target in re.findall(r"\]\((?!https?:)([^)]+)\)", text):
        name, _, anchor = target.partition("#")
        file = page.parent / name if name else page
        assert file.exists(), target
        if anchor:
            assert anchor in headings(file), target


def headings(page: Path) -> set[str]:
    """Return the anchors of a page's headings, as GitHub makes them."""
    found = re.findall(r"^#+ (.+)$", page.read_text("utf-8"), re.M)
    return {re.sub(r"[^\w -]", "", each).lower().replace(" ", "-") for each in found}


def test_the_architecture_page_names_files_that_exist() -> None:
    """Files are named from the root or from the package: `training/losses.py`, `loaders/`."""
    page = (ROOT / "docs" / "architecture.md").read_text("utf-8")
    for name in set(re.findall(r"[\w./]+/(?:[\w.]+\.py)?|\w+\.py", page)):
        places = [ROOT / name, ROOT / "dalm" / name, *(ROOT / "dalm").glob(f"*/{name}")]
        assert any(place.exists() for place in places), name
