"""The evaluation commands as a whole: the same figures however they are computed, and gates."""

import json
import random
import subprocess
import sys
from pathlib import Path

import pytest

from dalm.cli import app, run
from dalm.config import EvalRetriever
from dalm.eval.evaluation_run import EvaluationRun
from dalm.eval.results import load

PACKAGE = Path(__file__).parents[2]


@pytest.fixture
def pair(tiny_models):
    return [
        *("--retriever-name-or-path", tiny_models.encoder),
        *("--generator-name-or-path", tiny_models.generator),
        *("--evaluate-generator", "--max-new-tokens", 4, "--precision", "fp32", "--top-k", 5),
    ]


def call(*arguments):
    return run(app, [str(argument) for argument in arguments])


def figures(folder):
    found = json.loads((folder / "results.json").read_text("utf-8"))
    return {
        line["measure"]: (line["mean"], *(line["interval"] or ())) for line in found["measures"]
    }


def the_same(folder, other):
    mine, theirs = figures(folder), figures(other)
    assert mine.keys() == theirs.keys()
    assert len(mine) > 20
    for measure, values in mine.items():
        assert theirs[measure] == pytest.approx(values, abs=1e-6), measure
    assert written(folder) == written(other)


def written(folder):
    """Return what was answered to each query, by what was read."""
    run = load(folder)
    ids = [query.id for query in run.queries]
    return {read: dict(zip(ids, texts, strict=True)) for read, texts in run.answers.items()}


@pytest.fixture
def plain(tmp_path, tiny_table, pair):
    folder = tmp_path / "plain"
    assert call("eval-rag", tiny_table, *pair, "--output-dir", folder) == 0
    return folder


def test_the_same_figures_in_another_order(tmp_path, tiny_rows, pair, plain):
    rows = random.Random(5).sample(tiny_rows, len(tiny_rows))
    table = tmp_path / "shuffled.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("eval-rag", table, *pair, "--output-dir", tmp_path / "other") == 0
    the_same(plain, tmp_path / "other")


def test_the_same_figures_one_text_at_a_time(tmp_path, tiny_table, pair, plain, monkeypatch):
    from dalm.models import generator, retriever
    from dalm.training import scoring

    monkeypatch.setattr(retriever, "ENCODE_TOKENS", 1)
    monkeypatch.setattr(generator, "GENERATE_TOKENS", 1)
    monkeypatch.setattr(scoring, "SCORED_TOKENS", 1)
    line = ["--output-dir", tmp_path / "other", "--no-cache"]
    assert call("eval-rag", tiny_table, *pair, *line) == 0
    the_same(plain, tmp_path / "other")


def test_the_same_figures_whatever_the_padding_side(tmp_path, tiny_table, pair, plain, tiny_models):
    for model in (tiny_models.encoder, tiny_models.generator):
        copy = tmp_path / model.name
        copy.mkdir()
        for file in model.iterdir():
            if file.is_dir():
                (copy / file.name).symlink_to(file)
            else:
                (copy / file.name).write_bytes(file.read_bytes())
        config = copy / "tokenizer_config.json"
        known = json.loads(config.read_text())
        side = "right" if known.get("padding_side", "right") == "left" else "left"
        config.write_text(json.dumps(known | {"padding_side": side}))
    line = [str(x).replace(str(tiny_models.encoder), str(tmp_path / "encoder")) for x in pair]
    line = [x.replace(str(tiny_models.generator), str(tmp_path / "generator")) for x in line]
    assert line != list(map(str, pair))
    assert call("eval-rag", tiny_table, *line, "--output-dir", tmp_path / "other") == 0
    the_same(plain, tmp_path / "other")


def test_the_same_figures_in_two_processes(tmp_path, tiny_table, pair, plain):
    line = [sys.executable, "-m", "torch.distributed.run", "--nproc-per-node", 2, "--standalone"]
    line += ["-m", "dalm", "eval-rag", tiny_table, *pair, "--output-dir", tmp_path / "other"]
    done = subprocess.run(
        list(map(str, line)), cwd=PACKAGE, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr[-2000:]
    the_same(plain, tmp_path / "other")
    facts = load(tmp_path / "other").facts
    assert facts["processes"] == 2
    assert done.stdout.count("by stage of the search") == 1


def test_bounds_are_read_from_other_passages(plain):
    results = load(plain)
    assert set(results.answers) == {"found", "gold", "random", "none"}
    assert len(set(map(tuple, results.answers.values()))) > 1
    nll = {name: results.measures[f"NLL{name}"] for name in ("", "[gold]", "[random]", "[none]")}
    for place, query in enumerate(results.queries):
        first = results.hits[place][0].passage.id
        assert (nll[""][place] == nll["[gold]"][place]) == (first in query.relevant)
        assert nll["[random]"][place] != nll["[gold]"][place] != nll["[none]"][place]


def test_behind_a_reranker_the_generator_reads_in_its_order(
    tmp_path, tiny_rows, tiny_table, pair, plain, tiny_models, capsys
):
    from sentence_transformers import CrossEncoder

    line = ["--reranker", tiny_models.reranker, "--output-dir", tmp_path / "out"]
    assert call("eval-rag", tiny_table, *pair, *line) == 0
    assert "reranked  " in capsys.readouterr().out
    results, texts = load(tmp_path / "out"), {row["Passage"] for row in tiny_rows}
    model = CrossEncoder(str(tiny_models.reranker))
    for place, query in enumerate(results.queries):
        scores = {text: float(model.predict((query.query, text))) for text in texts}
        best = sorted(texts, key=lambda text: -scores[text])[:5]
        assert [hit.passage.text for hit in results.reranked[place]] == best
        first = results.reranked[place][0].passage.id in query.relevant
        assert results.measures["R@1[reranked]"][place] == first
        columns = results.measures["NLL"][place], results.measures["NLL[gold]"][place]
        assert (columns[0] == columns[1]) == first
    same = [name for name in figures(plain) if name.partition("@")[0] in ("R", "RR", "nDCG")]
    assert {name: figures(plain)[name] for name in same} == {
        name: figures(tmp_path / "out")[name] for name in same
    }, "the figures of the retriever alone"
    assert results.answers["gold"] == load(plain).answers["gold"]


def test_what_is_no_reranker_is_refused_before_anything_is_read(pair, tiny_models, capsys):
    assert call("eval-rag", "nowhere.csv", *pair, "--reranker", tiny_models.encoder) == 2
    assert "is an embedding model (SentenceTransformer)" in capsys.readouterr().err


def test_unanswerable_questions_are_declined_or_not(tmp_path, tiny_rows, pair):
    rows = [row | {"Answerable": "true"} for row in tiny_rows]
    rows += [{"Query": "Who is Zeno?", "Passage": "", "Answer": "", "Answerable": "false"}]
    table = tmp_path / "marked.jsonl"
    table.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert call("eval-rag", table, *pair, "--output-dir", tmp_path / "out") == 0
    results = load(tmp_path / "out")
    assert [value is None for value in results.measures["abstention"]] == [True] * 20 + [False]
    assert [value is None for value in results.measures["false abstention"]] == [False] * 20 + [
        True
    ]
    assert results.measures["R@1"][-1] is None
    assert results.measures["EM"][-1] is results.measures["EM[gold]"][-1] is None
    assert results.facts["queries_unjudged"] == 1


def test_citations_are_asked_for_measured_and_taken_out(tmp_path, tiny_table, pair, monkeypatch):
    """An untrained model can't be made to cite: what it is asked is real, what it says is not."""
    from dalm.models.generator import Generator
    from dalm.prompts import CITE

    asked: list[str] = []
    real = Generator.generate_batches

    def generate(self, prompts, *rest, **options):
        asked.extend(self.tokenizer.decode(prompt.tokens) for prompt in prompts)
        for batch in real(self, prompts, *rest, **options):
            yield batch._replace(answers=["in Ulm [2]."] * len(batch.rows))

    monkeypatch.setattr(Generator, "generate_batches", generate)
    options = ["--citations", "--reader-passages", 2, "--output-dir", tmp_path / "out"]
    assert call("eval-rag", tiny_table, *pair, *options) == 0
    assert asked[0].startswith(CITE)
    assert asked[0].index("Passage:\n[1] ") < asked[0].index("Passage:\n[2] ")
    results = load(tmp_path / "out")
    assert results.answers["found"][0] == "in Ulm [2]."
    assert results.measures["EM"][0] == 1
    for place, query in enumerate(results.queries):
        read = [hit.passage.id for hit in results.hits[place][:2]]
        right = read[1] in query.relevant
        assert results.measures["citation precision"][place] == right
        known = right if set(read) & set(query.relevant) else None
        assert results.measures["citation recall"][place] == known
    assert "citation recall[gold]" not in results.measures


def test_gates_set_the_exit_code_and_lose_nothing(tmp_path, tiny_table, tiny_models, capsys):
    line = ["eval-retriever", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    assert call(*line, "--output-dir", tmp_path / "a", "--fail-below", "R@10=0", "mrr@10=0") == 0
    assert call(*line, "--output-dir", tmp_path / "b", "--fail-below", "R@1=1", "R@10=0") == 1
    said = capsys.readouterr().err
    assert "dalm: 1 of 2 gates failed" in said
    gates = json.loads((tmp_path / "b" / "results.json").read_text())["gates"]
    assert [gate["passed"] for gate in gates] == [False, True]
    assert call(*line, "--output-dir", tmp_path / "c", "--fail-below", "R@3=1") == 2
    assert "--fail-below R@3: not measured" in capsys.readouterr().err


def test_a_guard_that_fell_is_red_and_fails_only_if_asked(
    tmp_path, tiny_rows, tiny_table, tiny_models, capsys
):
    from dalm.models.tiny import build_encoder

    general = tmp_path / "general.jsonl"
    general.write_text("".join(json.dumps(row) + "\n" for row in tiny_rows[:10]))
    texts = [text for row in tiny_rows for text in row.values()]
    shape = {"width": 16, "layers": 2, "heads": 2, "vocabulary": 200, "max_length": 128}
    other = build_encoder(texts, tmp_path / "other", seed=3, **shape)
    pairs = [(tiny_models.encoder, other), (other, tiny_models.encoder)]
    codes = []
    for place, (mine, baseline) in enumerate(pairs):
        line = ["eval-retriever", tiny_table, "--retriever-name-or-path", mine]
        line += ["--baseline", baseline, "--guard", general, "--guard-margin", 0]
        folder = tmp_path / f"run-{place}"
        assert call(*line, "--output-dir", folder) == 0
        (gate,) = json.loads((folder / "results.json").read_text())["gates"]
        assert gate["text"].startswith(f"guard {general}: nDCG@10 ")
        codes.append(
            (gate["passed"], call(*line, "--output-dir", f"{folder}-2", "--fail-on-regression"))
        )
    # One of the two untrained models is the worse one on the guard, and fails for it.
    assert sorted(codes) == [(False, 1), (True, 0)]


def test_what_the_figures_cannot_show_is_printed_and_kept(tmp_path, tiny_table, pair, capsys):
    assert call("eval-rag", tiny_table, *pair, "--output-dir", tmp_path / "run") == 0
    kept = json.loads((tmp_path / "run" / "results.json").read_text("utf-8"))
    first = kept["measures"][0]
    assert (first["count"], first["documents"]) == (20, 10)
    said = capsys.readouterr().out
    assert "95 % intervals over 20 queries of 10 documents" in said
    # The words of each question are in its passage; the generator is untrained.
    for finding in ("no retriever can show a gain over BM25", "the generator isn't shown"):
        (note,) = [note for note in kept["findings"] if note.startswith(finding)]
        assert f"note: {note}" in said
    assert figures(tmp_path / "run")["Success@1[BM25]"][0] == 1


def test_runs_are_compared_afterwards(tmp_path, plain, tiny_table, pair, capsys):
    assert (
        call("eval-rag", tiny_table, *pair, "--reader-passages", 3, "--output-dir", tmp_path / "b")
        == 0
    )
    capsys.readouterr()
    assert call("compare", plain, tmp_path / "b") == 0
    said = capsys.readouterr().out
    assert "nDCG@5 is" in said
    assert "for both systems on every query" in said
    qrels = tmp_path / "qrels"
    qrels.write_text((plain / "qrels.trec").read_text())
    assert call("compare", plain / "run.trec", "--qrels", qrels, "--measures", "nDCG@5") == 0
    mean = figures(plain)["nDCG@5"][0]
    assert f"nDCG@5   {mean:.3f}" in capsys.readouterr().out
    assert call("compare", plain, "--fail-on-regression") == 2
    assert "compares runs with the first; name two or more" in capsys.readouterr().err


def test_a_baseline_that_is_nowhere_is_refused_before_anything_is_computed(
    tiny_table, pair, tmp_path, capsys
):
    line = ["eval-rag", tiny_table, *pair, "--output-dir", tmp_path / "out"]
    for option in ("--baseline", "--baseline-generator"):
        assert call(*line, option, "no/such-model") == 2
        said = capsys.readouterr().err
        assert "no/such-model can't be loaded" in said
        assert "encoding" not in said
        assert "searching" not in said


def test_answers_outlast_a_baseline_that_fails(tmp_path, tiny_table, tiny_models, pair, capsys):
    broken = tmp_path / "broken"
    broken.mkdir()
    (broken / "config.json").write_text("{")
    folder = tmp_path / "out"
    line = ["eval-rag", tiny_table, *pair, "--output-dir", folder]
    assert call(*line, "--baseline-generator", broken) == 2
    assert "broken can't be loaded" in capsys.readouterr().err
    assert len(load(folder).answers["found"]) == 20
    assert call(*line, "--baseline", tiny_models.encoder, "--overwrite-output-dir") == 0
    assert load(folder / "baseline").answers == load(folder).answers
    assert call(*line, "--overwrite-output-dir") == 0
    assert list((folder / "baseline").iterdir()) == []


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--measures", "R@20"], "needs 20 passages, and --top-k 10"),
        (["--measures", "foo@3"], "no measure 'foo@3'"),
        (["--fail-below", "R@10"], "--fail-below R@10"),
        (["--fail-below", "R@3=1"], "--fail-below R@3: not measured; measured are nDCG@10"),
        (["--fail-below", "EM=1"], "--fail-below EM: not measured"),
        (["--report", "page.pdf"], "the page is HTML; name it page.html"),
        (["--guard", "x.csv"], "--guard has no effect without --baseline"),
        (["--fail-on-regression"], "has no effect without --baseline"),
        (["--cache-dir", __file__], "a file; name a folder"),
    ],
)
def test_what_cannot_work_is_refused_before_a_model_loads(tiny_table, options, said, capsys):
    line = ["eval-retriever", tiny_table, "--retriever-name-or-path", "no/such-model"]
    assert call(*line, *options) == 2
    assert said in capsys.readouterr().err


HELD = """
import sys, time
from pathlib import Path
from dalm.artifacts import claim, claim_folder
held = claim_folder if sys.argv[2] == "--output-dir" else claim
with held(Path(sys.argv[1]), sys.argv[2]):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("option", ["--output-dir", "--report"])
def test_an_output_that_another_process_writes_is_refused(
    tmp_path, tiny_table, tiny_models, capsys, option
):
    path = tmp_path / "page.html"
    line = ["eval-retriever", tiny_table, "--retriever-name-or-path", tiny_models.encoder]
    line += ["--output-dir", path if option == "--output-dir" else tmp_path / "out"]
    line += ["--report", path] if option == "--report" else []
    held = [sys.executable, "-c", HELD, str(path), option]
    pipe = subprocess.PIPE
    with subprocess.Popen(held, stdin=pipe, stdout=pipe, cwd=PACKAGE) as other:
        assert other.stdout.readline() == b"held\n"
        assert call(*line) == 2
        other.stdin.close()
    said = capsys.readouterr().err
    assert f"{option} {path}: another process is writing there; wait" in said
    assert len(said.splitlines()) == 1
    assert call(*line) == 0


def test_runs_that_start_together_have_folders_of_their_own(
    tmp_path, tiny_table, tiny_models, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    config = EvalRetriever(retriever_name_or_path=str(tiny_models.encoder))
    with EvaluationRun(config) as first, EvaluationRun(config) as second:
        assert [run.folder.name for run in (first, second)] == ["evaluation-1", "evaluation-2"]
        second.read_datasets(str(tiny_table))
        second.finish(second.evaluate("x", second.models.retriever()), [])
    assert [folder.name for folder in tmp_path.iterdir()] == ["evaluation-2"]
    assert load(tmp_path / "evaluation-2").name == "x"


def test_a_run_that_fails_leaves_no_numbered_folder(tmp_path, tiny_models, monkeypatch):
    monkeypatch.chdir(tmp_path)
    line = ["eval-retriever", "missing.csv", "--retriever-name-or-path", tiny_models.encoder]
    assert call(*line) == 2
    assert list(tmp_path.iterdir()) == []
