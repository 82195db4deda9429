"""From passages or documents to an index that is searched and asked."""

import json
import re
import shutil
import sys
from collections.abc import Iterator
from io import StringIO
from pathlib import Path

import psycopg
import pytest

from dalm.cli import app, run
from dalm.models import loading
from dalm.models.reranker import load_reranker
from dalm.prompts import GeneratorSettings
from dalm.rag.pipeline import NOT_FOUND

PAGES = {
    "pump.md": "# Pump\n\nThe pump needs oil of grade seven every week.\n",
    "valve.md": "# Valve\n\nThe valve is opened by hand, slowly, with both hands.\n",
}


def dalm(*line: object) -> int:
    return run(app, [str(part) for part in line])


@pytest.fixture(scope="module")
def table(people: Path) -> Path:
    return people


@pytest.fixture(scope="module")
def index(table, tiny_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("built") / "index"
    line = ["index", table, "--index-dir", folder]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    return folder


def test_an_index_is_searched_with_its_sources(index, capsys):
    assert dalm("search", index, "Where does Ada live?", "--search", "text", "--top-k", 1) == 0
    shown = capsys.readouterr().out
    assert shown.startswith("1. people.pdf, page 1 ")
    assert "Ada lives in Ulm." in shown


def test_what_is_found_is_ordered_by_a_reranker(index, tiny_models, capsys):
    """By words the one who is named comes first; by the reranker, whom it scores best."""
    reranker = load_reranker(str(tiny_models.reranker), loading.place("cpu", "fp32"))
    texts = ["Ada lives in Ulm.", "Cyrus lives in Graz."]  # Bela shares no word
    first = []
    for question in ("Ada lives in?", "Cyrus lives in?"):
        scores = dict(zip(texts, reranker.score(question, texts), strict=True))
        line = ["search", index, question, "--search", "text", "--json", "--top-k", 1]
        assert dalm(*line, "--precision", "fp32", "--reranker", tiny_models.reranker) == 0
        [hit] = json.loads(capsys.readouterr().out)
        first.append(hit["text"])
        assert hit["text"] == max(texts, key=scores.__getitem__)
        assert hit["score"] == hit["scores"]["reranked"]
        assert hit["score"] == pytest.approx(scores[hit["text"]], abs=1e-6)
        assert set(hit["scores"]) == {"text", "reranked"}
    assert first != texts, "the reranker has changed nothing"


def test_what_is_no_reranker_is_one_line(index, tiny_models, capsys):
    line = ["search", index, "Ada?"]
    assert dalm(*line, "--reranker", tiny_models.encoder) == 2
    assert "is an embedding model" in capsys.readouterr().err
    assert dalm(*line, "--rerank-top", 20) == 2
    assert "--rerank-top has no effect without --reranker" in capsys.readouterr().err


@pytest.mark.parametrize("mode", ["hybrid", "dense", "text"])
def test_conditions_hold_in_every_mode(index, capsys, mode):
    condition = "source = 'people.pdf' and Year > 1913"
    line = ["search", index, "Bela keeps", "--where", condition, "--json", "--search", mode]
    assert dalm(*line) == 0
    [hit] = json.loads(capsys.readouterr().out)
    assert (hit["text"], hit["page"], hit["Year"]) == ("Bela keeps two cats.", 2, 1914)
    stages = {"dense", "text", "fused"} if mode == "hybrid" else {mode}
    assert hit["scores"].keys() == stages
    assert hit["ranks"] == dict.fromkeys(stages, 1)


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (["search", "{index}", "x", "--where", "nosuch = 1"], "no column; there are id, text"),
        (["search", "nowhere", "x"], "nowhere is not an index; build it: dalm index"),
        (["index", "--index-dir", "{index}"], "name passages to index"),
        (["index", "{table}", "--index-dir", "{index}-new"], "needs a retriever"),
        (["index", "{table}", "--index-dir", "{index}", "--query-column", "Q"], "no effect"),
        (["index", "{table}", "--index-dir", "{index}", "--tokenizer", "t"], "no effect"),
        (["index", "--index-dir", "{index}", "--rebuild"], "--rebuild needs the passages"),
        (["index", "--index-dir", "{index}", "--rollback"], "no earlier generation"),
        (["search", "{index}", " "], "the question is empty"),
        (["search", "{index}", "caf\udce9"], "isn't UTF-8"),
        (["search", "{index}", "x", "--top-k", "100000000000000000000"], "at most 10000"),
        (["ask", "{index}", "x"], "dalm ask needs a generator"),
        (["ask", "{index}", " ", "--generator-name-or-path", "g"], "the question is empty"),
    ],
)
def test_what_cannot_be_done_is_one_line(
    index, table, tmp_path, monkeypatch, capsys, line, problem
):
    monkeypatch.chdir(tmp_path)
    assert dalm(*(part.format(index=index, table=table) for part in line)) == 2
    assert problem in capsys.readouterr().err


def test_another_retriever_needs_a_new_generation(index, table, tiny_models, tmp_path, caplog):
    other = ["--retriever-name-or-path", tiny_models.encoder, "--query-prompt", "q: "]
    shorter = [*other, "--passage-max-len", 20]
    folder = tmp_path / "index"
    assert dalm("index", table, "--index-dir", folder, *other) == 0
    assert dalm("index", table, "--index-dir", folder, *shorter) == 2
    assert dalm("index", table, "--index-dir", folder, *shorter, "--rebuild") == 0
    assert "generation 2" in caplog.text
    assert dalm("index", "--index-dir", folder, "--rollback") == 0
    assert "generation 1, before it was 2" in caplog.text
    assert "are found again" not in caplog.text
    assert dalm("search", folder, "Ada", "--search", "dense") == 0


def test_a_rollback_names_the_documents_that_come_back(tiny_rows, tiny_models, tmp_path, caplog):
    folder = tmp_path / "index"
    titled = [{"Title": row["Passage"].split()[0], **row} for row in tiny_rows]
    for name, rows, options in (
        ("all.jsonl", titled, []),
        ("fewer.jsonl", [row for row in titled if row["Title"] != "Ada"], ["--rebuild"]),
    ):
        table = tmp_path / name
        table.write_text("".join(json.dumps(row) + "\n" for row in rows))
        building = ["--retriever-name-or-path", tiny_models.encoder, *options]
        assert dalm("index", table, "--index-dir", folder, *building) == 0
    assert dalm("index", "--index-dir", folder, "--rollback") == 0
    assert "that the later generation doesn't have: 1, such as Ada;" in caplog.text


@pytest.mark.parametrize(
    ("files", "damage"),
    [
        ("generations/1/index.json", "gone"),
        ("generations/1/store", "gone"),
        ("generations/1/store/*/_versions/*.manifest", "empty"),
        ("generations/1/store/*/data/*.lance", "half"),
        ("generations/1/store/*/_indices/*/*.lance", "gone"),
    ],
)
def test_a_damaged_index_is_named_in_one_line_and_built_again(
    index, table, tiny_models, tmp_path, capsys, files, damage
):
    folder = shutil.copytree(index, tmp_path / "index")
    for file in folder.glob(files):
        content = file.read_bytes() if file.is_file() else b""
        shutil.rmtree(file) if file.is_dir() else file.unlink()
        if damage != "gone":
            file.write_bytes(content[: len(content) // 2 if damage == "half" else 0])
    line = ["search", folder, "Ada lives", "--search", "text"]
    assert dalm(*line) == 2
    [said] = capsys.readouterr().err.splitlines()
    assert str(folder / "generations" / "1") in said
    assert "build it again: dalm index ... --rebuild --retriever-name-or-path" in said
    again = ["index", table, "--index-dir", folder, "--rebuild"]
    assert dalm(*again, "--retriever-name-or-path", tiny_models.encoder) == 0
    assert dalm(*line) == 0
    assert "Ada lives in Ulm." in capsys.readouterr().out


def test_numbers_that_no_store_keeps_are_texts_in_conditions(tiny_models, tmp_path, capsys):
    table, folder = tmp_path / "passages.jsonl", tmp_path / "index"
    rows = [{"Passage": "Ada lives in Ulm.", "number": 10**30}]
    rows += [{"Passage": "Bela lives in Bern.", "number": 7}]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["index", table, "--index-dir", folder]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    where = ["--where", f"number = '{10**30}'", "--json"]
    assert dalm("search", folder, "lives", "--search", "text", *where) == 0
    [hit] = json.loads(capsys.readouterr().out)
    assert hit["number"] == 10**30


def test_an_index_follows_a_folder_of_documents(tmp_path, tiny_models, caplog, capsys):
    docs, folder = tmp_path / "docs", tmp_path / "index"
    docs.mkdir()
    for name, text in PAGES.items():
        (docs / name).write_text(text)
    built = ["index", docs, "--index-dir", folder, "--prune"]
    assert dalm(*built, "--retriever-name-or-path", tiny_models.encoder) == 0
    assert "2 new, 0 changed" in caplog.text
    (docs / "pump.md").unlink()
    (docs / "seal.md").write_text("# Seal\n\nThe seal is red and is changed once in a year.\n")
    assert dalm(*built) == 0
    assert "1 new, 0 changed, 1 unchanged" in caplog.text
    capsys.readouterr()
    assert dalm("search", folder, "pump oil seal", "--json") == 0
    sources = {hit["source"] for hit in json.loads(capsys.readouterr().out)}
    assert sources == {"docs/seal.md", "docs/valve.md"}


def test_fusion_is_calibrated_on_questions(index, tiny_table, tiny_models, tmp_path, caplog):
    folder = tmp_path / "index"
    line = ["index", tiny_table, "--index-dir", folder, "--calibrate", tiny_table]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    found = re.search(
        r"dense weight (\S+) on 20 questions: MRR@10 (\S+), dense (\S+), text (\S+)", caplog.text
    )
    weight, best, dense, text = (float(part.rstrip(",")) for part in found.groups())
    made = json.loads((folder / "generations" / "1" / "index.json").read_text())
    assert made["dense_weight"] == weight
    assert best >= max(dense, text)
    made = json.loads((folder / "generations" / "1" / "relevance.json").read_text())
    assert set(made["modes"]) == {"dense", "text", "hybrid"}


@pytest.fixture(scope="module")
def calibrated(tiny_table, tiny_models, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("calibrated") / "index"
    line = ["index", tiny_table, "--index-dir", folder, "--calibrate", tiny_table]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    return folder


def test_what_is_not_in_the_documents_is_not_answered(calibrated, tiny_models, capsys):
    line = ["ask", calibrated, "--generator-name-or-path", tiny_models.generator, "--json"]
    line += ["--max-new-tokens", 3, "--search", "text", "--reader-passages", 1]
    question = "Who in Paris sold violets?"
    assert dalm(*line, question) == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["not_found"]) == (NOT_FOUND, True)
    assert [each["relevant"] for each in found["passages"]] == [False]
    assert dalm(*line, question, "--answer-anyway") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"] != NOT_FOUND, found["not_found"]) == (True, False)
    assert dalm(*line, "Where does Ada live?") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] != NOT_FOUND
    assert all(each["relevant"] for each in found["passages"])
    assert 0 < found["passages"][0]["scores"]["relevance"] < 1


@pytest.mark.parametrize("behind", [False, True])
def test_an_index_is_evaluated_as_it_is_asked(calibrated, tiny_models, tmp_path, capsys, behind):
    table = tmp_path / "asked.jsonl"
    rows = [{"Query": "Where does Ada live?", "Answer": "in Ulm", "Answerable": "true"}]
    rows += [{"Query": "Who in Paris sold violets?", "Answer": "", "Answerable": "false"}]
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    line = ["eval-rag", table, "--search-index", calibrated, "--evaluate-generator"]
    line += ["--generator-name-or-path", tiny_models.generator, "--max-new-tokens", 3]
    line += ["--search", "text", *(["--reranker", tiny_models.reranker] if behind else [])]
    assert dalm(*line, "--output-dir", tmp_path / "run") == 0
    facts = json.loads((tmp_path / "run" / "results.json").read_text())["facts"]
    assert facts["search_index"]["generation"] == 1
    assert (facts["refused"], facts["passages"]) == (1, 10)
    lines = (tmp_path / "run" / "queries.jsonl").read_text().splitlines()
    answers = [json.loads(each)["answers"]["found"] for each in lines]
    assert answers[1] == NOT_FOUND != answers[0]
    capsys.readouterr()
    assert dalm("ask", calibrated, rows[0]["Query"], *line[5:], "--json") == 0
    asked = json.loads(capsys.readouterr().out)
    assert asked["answer"] == answers[0]
    assert ("reranked" in asked["passages"][0]["scores"]) == behind
    first = json.loads(lines[0])["hits"][0]["score"]
    assert first == pytest.approx(asked["passages"][0]["score"], rel=1e-6)


def test_an_evaluated_index_knows_the_documents(tiny_rows, tiny_models, tmp_path):
    """Of questions in a table that doesn't: those about a document are no independent ones."""
    rows = [{**row, "document": f"{place // 2 % 2}.md"} for place, row in enumerate(tiny_rows)]
    known, asked = tmp_path / "known.jsonl", tmp_path / "asked.jsonl"
    for file, lines in ((known, rows), (asked, tiny_rows)):
        file.write_text("".join(json.dumps(row) + "\n" for row in lines))
    folder, run = tmp_path / "index", tmp_path / "run"
    line = ["index", known, "--index-dir", folder]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 0
    assert dalm("eval-retriever", asked, "--search-index", folder, "--output-dir", run) == 0
    lines = map(json.loads, (run / "queries.jsonl").read_text().splitlines())
    assert {each["group"] for each in lines} == {"0.md", "1.md"}


@pytest.mark.parametrize(
    ("options", "problem"),
    [
        (
            ["--retriever-name-or-path", "r"],
            "--retriever-name-or-path has no effect",
        ),
        (["--passages", "p.csv"], "--passages has no effect with --search-index"),
        (["--query-max-len", "20"], "--query-max-len has no effect with --search-index"),
        (["--baseline", "b"], "--baseline doesn't go with --search-index"),
    ],
)
def test_an_index_is_evaluated_with_its_own_retriever(
    calibrated, tiny_table, capsys, options, problem
):
    assert dalm("eval-rag", tiny_table, "--search-index", calibrated, *options) == 2
    assert problem in capsys.readouterr().err


def test_an_evaluation_needs_something_to_search(tiny_table, capsys):
    assert dalm("eval-retriever", tiny_table) == 2
    assert "--retriever-name-or-path, or --search-index" in capsys.readouterr().err


# Answers


def test_an_answer_comes_with_the_passages_read(index, tiny_models, capsys):
    line = ["ask", index, "Where does Ada live?", "--generator-name-or-path", tiny_models.generator]
    line += ["--max-new-tokens", 5, "--reader-passages", 2]
    assert dalm(*line) == 0
    answer, _, passages = capsys.readouterr().out.partition("[1] ")  # it may be of line breaks
    *passages, cut = passages.splitlines()
    assert len(passages) == 2
    assert cut == "the answer is cut off at 5 tokens (--max-new-tokens)"
    assert dalm(*line, "--json") == 0
    found = json.loads(capsys.readouterr().out)
    assert found["answer"] == answer.strip()
    assert [each["number"] for each in found["passages"]] == [1, 2]
    assert {each["source"] for each in found["passages"]} <= {"people.pdf", "men.pdf"}


def test_an_answer_is_read_from_what_a_reranker_puts_first(index, tiny_models, capsys):
    line = ["Where does Ada live?", "--reranker", tiny_models.reranker, "--json"]
    assert dalm("search", index, *line, "--top-k", 1) == 0
    [best] = json.loads(capsys.readouterr().out)
    generator = ["--generator-name-or-path", tiny_models.generator, "--max-new-tokens", 3]
    assert dalm("ask", index, *line, *generator, "--reader-passages", 1) == 0
    [read] = json.loads(capsys.readouterr().out)["passages"]
    assert read["id"] == best["id"]
    assert read["scores"] == best["scores"]
    assert "reranked" in read["scores"]


def test_a_generator_that_was_not_trained_here_reads_what_its_window_takes(
    index, tiny_models, tmp_path, capsys, caplog
):
    line = ["ask", index, "Where does Ada live?", "--max-new-tokens", 3, "--json"]
    line += ["--generator-name-or-path"]
    assert dalm(*line, tiny_models.generator) == 0
    assert len(json.loads(capsys.readouterr().out)["passages"]) == 3  # of four that it would read
    assert "256 tokens of at most 256" in caplog.text
    trained = shutil.copytree(tiny_models.generator, tmp_path / "trained")
    GeneratorSettings(max_length=100, reader_passages=1).write(trained)
    assert dalm(*line, trained) == 0
    assert len(json.loads(capsys.readouterr().out)["passages"]) == 1
    assert "100 tokens of at most 256" in caplog.text


def test_without_a_passage_nothing_is_answered(index, tiny_models, capsys):
    line = ["ask", index, "Ada?", "--generator-name-or-path", tiny_models.generator, "--json"]
    assert dalm(*line, "--where", "page = 77") == 0
    found = json.loads(capsys.readouterr().out)
    assert (found["answer"], found["passages"]) == (NOT_FOUND, [])
    assert found["not_found"]


def test_a_conversation_searches_what_a_question_refers_to(index, tiny_models, capsys, monkeypatch):
    monkeypatch.setattr(sys, "stdin", StringIO("Where does Ada live?\nand Cyrus?\n\nno more\n"))
    line = ["ask", index, "--generator-name-or-path", tiny_models.generator, "--verbose"]
    assert dalm(*line, "--max-new-tokens", 3) == 0
    shown = capsys.readouterr().out
    assert "searched: Where does Ada live? and Cyrus?" in shown
    assert shown.count("[1] ") == 2


def test_questions_from_a_file_leave_nothing_but_answers_in_the_output(
    index, tiny_models, capsys, monkeypatch
):
    monkeypatch.setattr(sys, "stdin", StringIO("Where does Ada live?\nAnd Cyrus?\n"))
    assert dalm("ask", index, "--generator-name-or-path", tiny_models.generator, "--json") == 0
    rest, questions = capsys.readouterr().out.strip(), []
    while rest:
        turn, end = json.JSONDecoder().raw_decode(rest)
        questions.append(turn["question"])
        rest = rest[end:].strip()
    assert questions == ["Where does Ada live?", "And Cyrus?"]


def test_a_question_longer_than_the_retriever_reads_is_said(index, tiny_models, caplog):
    assert dalm("search", index, "Where does Ada live?") == 0
    assert "cut" not in caplog.text
    assert dalm("search", index, "Where does Ada live? " * 50) == 0
    assert "1 of 1 questions are cut at 50 tokens in the search by meaning; " in caplog.text


def test_values_of_another_type_than_the_column_has_are_said(tiny_models, tmp_path, caplog):
    rows = [[{"Passage": "Ada.", "n": 1, "x": 1.5, "t": "a"}], [{"Passage": "Bela.", "n": "one"}],
            [{"Passage": "Cyrus.", "n": 2, "x": 2, "t": 3}]]  # fmt: skip
    line = ["--retriever-name-or-path", tiny_models.encoder, "--index-dir", tmp_path / "index"]
    said = []
    for place, some in enumerate(rows):
        source = tmp_path / f"{place}.jsonl"
        source.write_text("\n".join(map(json.dumps, some)))
        caplog.clear()
        assert dalm("index", source, *line) == 0
        said.append([r.getMessage() for r in caplog.records if r.getMessage().startswith("column")])
    assert [len(each) for each in said] == [0, 1, 0]
    assert "n holds whole numbers in this index, and texts in what was read now" in said[1][0]


def test_a_link_to_no_folder_is_refused(table, tiny_models, tmp_path, capsys):
    (tmp_path / "link").symlink_to(tmp_path / "nowhere")
    line = ["index", table, "--index-dir", tmp_path / "link"]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 2
    assert "a link to a folder that doesn't exist" in capsys.readouterr().err


# Other stores


@pytest.fixture
def database(postgres: str) -> Iterator[tuple[str, psycopg.Connection]]:
    """An address with a user that needs no password, and a connection to look at the tables."""
    with psycopg.connect(postgres, autocommit=True) as connection:
        yield postgres, connection


def tables(connection: psycopg.Connection) -> set[str]:
    rows = connection.execute("SELECT tablename FROM pg_tables WHERE schemaname = 'public'")
    return {name for (name,) in rows if name.startswith("dalm_") and name.count("_") == 2}


def test_an_index_in_postgres_has_a_table_for_each_generation(
    database, table, tiny_models, tmp_path, capsys, caplog
):
    url, connection = database
    before, folder = tables(connection), tmp_path / "index"
    secret = url.replace("postgres:@", "postgres:hush-hush-1@")
    line = ["index", table, "--index-dir", folder, "--store", "pgvector", "--store-url", secret]
    model = ["--retriever-name-or-path", tiny_models.encoder]
    assert dalm(*line, *model) == 0
    assert len(tables(connection) - before) == 1
    assert dalm("search", folder, "Where does Ada live?", "--search", "text", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["text"] == "Ada lives in Ulm."
    assert dalm("index", table, "--index-dir", folder) == 0  # the store is known
    assert "3 unchanged" in caplog.text
    assert dalm("index", table, "--index-dir", folder, "--store", "lance") == 2
    assert "is in the store pgvector at postgresql://" in capsys.readouterr().err
    rebuilt = ["index", table, "--index-dir", folder, "--rebuild", *model]
    assert dalm(*rebuilt) == 0
    assert len(tables(connection) - before) == 2
    assert dalm("index", "--index-dir", folder, "--rollback") == 0
    assert dalm(*rebuilt, "--keep", 0) == 0
    assert len(tables(connection) - before) == 1
    assert dalm("search", folder, "Ada", "--search", "hybrid") == 0
    assert dalm(*rebuilt, "--keep", 0, "--store", "lance") == 0
    assert tables(connection) == before
    kept = "".join(file.read_text() for file in folder.rglob("*.json"))
    assert "hush-hush" not in kept + caplog.text


def test_an_index_in_a_folder_of_qdrant_has_a_collection_for_each_generation(
    table, tiny_models, tmp_path, monkeypatch, capsys, caplog
):
    monkeypatch.chdir(tmp_path)
    line = ["index", table, "--index-dir", "index", "--store", "qdrant", "--store-url", "q@1/a b"]
    model = ["--retriever-name-or-path", tiny_models.encoder]
    assert dalm(*line, *model) == 0
    first = collections(tmp_path)
    assert len(first) == 1
    assert dalm("index", table, "--index-dir", "index") == 0  # the store is known
    assert dalm(*line) == 0
    assert caplog.text.count("3 unchanged") == 2
    monkeypatch.chdir("index")
    for mode in ("text", "dense", "hybrid"):
        query = ["search", "../index", "Where does Ada live?", "--where", "Year < 1914"]
        assert dalm(*query, "--search", mode, "--json") == 0
        assert json.loads(capsys.readouterr().out)[0]["text"] == "Ada lives in Ulm."
    rebuilt = ["index", table, "--index-dir", ".", "--rebuild", "--keep", 0, *model]
    assert dalm(*rebuilt) == 0
    assert len(collections(tmp_path)) == 1
    assert collections(tmp_path) != first
    assert dalm(*rebuilt, "--store", "lance") == 0
    assert not collections(tmp_path)


def collections(folder: Path) -> set[str]:
    return {each.name for each in (folder / "q@1/a b/collection").iterdir()}


@pytest.mark.parametrize(
    ("line", "problem"),
    [
        (["--store", "nosuch"], "no such vector store; choose one of lance, pgvector"),
        (["--store", "pgvector"], "needs the server's address: --store-url"),
        (["--store-url", "postgresql://h/db"], "--store-url has no effect on --store lance"),
        (["--store", "pgvector", "--store-url", "http://h"], "an address such as postgresql://"),
        (
            ["--store", "pgvector", "--store-url", "postgresql://u:hush/hush@h/db"],
            "in a password write / as %2F",
        ),
        (
            ["--store", "pgvector", "--store-url", "postgresql://u:hush-hush@127.0.0.1:1/db"],
            "start the server, or correct its address",
        ),
        (
            [*"--store pgvector --store-url postgresql://h/db --vectors int8".split()],
            "--store pgvector has no int8 vectors; choose --vectors fp32 or binary",
        ),
        (["--store", "qdrant"], "needs the server's address, or a folder: --store-url"),
        (["--store", "qdrant", "--store-url", "ftp://h"], "https://..., or a folder"),
        *(
            (["--store", "qdrant", "--store-url", f"{before}hush-hush@h:1/v1"], "or a folder")
            for before in ("", "u:", "//u:", "http:/u:")
        ),
        (["--store", "pgvector", "--store-url", "http://h?x=hush-hush"], "an address such as"),
        (["--store", "pgvector", "--store-url", "http://h#hush-hush"], "an address such as"),
        (["--store", "qdrant", "--store-url", "http://127.0.0.1:1"], "start the server, or"),
        (
            ["--store", "qdrant", "--store-url", "http://127.0.0.1:1?api_key=hush-hush"],
            "put its key into the environment variable QDRANT_API_KEY",
        ),
    ],
)
def test_a_store_that_cannot_be_used_is_one_line(
    table, tiny_models, tmp_path, capsys, line, problem
):
    line = ["index", table, "--index-dir", tmp_path / "index", *line]
    assert dalm(*line, "--retriever-name-or-path", tiny_models.encoder) == 2
    [said] = capsys.readouterr().err.strip().splitlines()
    assert problem in said
    assert "hush" not in said


def test_codes_of_vectors_are_chosen_when_an_index_is_built(
    table, tiny_models, tmp_path, capsys, caplog
):
    folder = tmp_path / "index"
    line = ["index", table, "--index-dir", folder]
    model = ["--retriever-name-or-path", tiny_models.encoder]
    assert dalm(*line, *model, "--vectors", "int8") == 0
    assert "approximate by int8 vectors, scored again in fp32, recall@10 1.000" in caplog.text
    assert described(folder, 1)["vectors"] == "int8"
    assert described(folder, 1)["tuning"]
    assert dalm(*line) == 0  # they are known
    assert dalm("search", folder, "Bela keeps two cats.", "--search", "dense", "--json") == 0
    assert json.loads(capsys.readouterr().out)[0]["text"] == "Bela keeps two cats."
    assert dalm(*line, "--vectors", "binary") == 2
    [said] = capsys.readouterr().err.strip().splitlines()
    assert "has int8 vectors; leave --vectors binary out, or add --rebuild" in said
    assert dalm("index", "--index-dir", folder, "--rollback", "--vectors", "int8") == 2
    assert "--rollback does nothing else" in capsys.readouterr().err
    assert dalm(*line, *model, "--rebuild", "--vectors", "binary") == 0
    assert described(folder, 2)["vectors"] == "binary"
    assert dalm(*line, *model, "--rebuild", "--vectors", "fp32") == 0
    assert (described(folder, 3)["vectors"], described(folder, 3)["tuning"]) == ("fp32", {})


def described(folder: Path, generation: int) -> dict[str, object]:
    return json.loads((folder / "generations" / str(generation) / "index.json").read_text())
