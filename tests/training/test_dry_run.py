"""A dry run shows what would be trained, counts it, and leaves nothing behind."""

import json
import logging
import re
from dataclasses import dataclass, field

import pytest
import torch

from dalm.cli import app, run
from dalm.config import GeneratorOnly
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.models.retriever import Retriever, load_retriever
from dalm.records import Example, Passage
from dalm.training import dry_run
from dalm.training.data.sft_rows import SftRows
from dalm.training.objectives.objective import Loss, Objective
from dalm.training.objectives.sft import SupervisedFineTuning

CPU = place("cpu", "fp32")


@pytest.fixture
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), CPU, max_length=200)


@pytest.fixture
def rows(generator, tiny_rows):
    examples = [Example(r["Query"], r["Answer"], Passage.of(r["Passage"])) for r in tiny_rows]
    return SftRows(examples, generator)


def commands(tiny_models, tiny_table):
    table, encoder, generator = map(str, (tiny_table, tiny_models.encoder, tiny_models.generator))
    return {
        "retriever": ["train-retriever-only", encoder, table],
        "pair": ["train-rag-e2e", table, encoder, generator],
        "dalm": ["train-rag-e2e", table, encoder, generator, "--objective", "dalm"],
        "index": ["train-rag-e2e", table, encoder, generator, "--candidates", "index"],
        "generator": ["train-generator-only", table, generator],
        "searched": [
            *("train-generator-only", table, generator, "--use-peft"),
            *("--retriever-name-or-path", encoder),
        ],
        "texts": ["pretrain", table, generator, "--sequence-length", "64"],
        "nothing": ["pretrain", table, "--from-scratch", "1m", "--sequence-length", "64"],
    }


@pytest.mark.parametrize("name", ["retriever", "pair", "dalm", "index", "generator", "searched"])
def test_every_training_command(tiny_models, tiny_table, tmp_path, caplog, name):
    line = [*commands(tiny_models, tiny_table)[name], "--output-dir", str(tmp_path / "out")]
    line += "--dry-run --batch-size 4 --gradient-accumulation-steps 2 --epochs 2".split()
    before = tiny_table.read_bytes()
    with caplog.at_level(logging.INFO):
        assert run(app, line) == 0
    said = caplog.text
    assert "6 updates of 8 rows, 2 epochs" in said
    assert re.search(r"tokens     about [\d,]+ for the models to read", said)
    assert re.search(r"memory     about [\d.]+ MB: weights [\d.]+ MB, gradients", said)
    assert re.search(r"time       about \d+ s on cpu", said)
    assert "nothing was written" in said
    assert ("⟦<eos>⟧" in said) is (name != "retriever")
    assert not list(tmp_path.iterdir())
    assert tiny_table.read_bytes() == before


@pytest.mark.parametrize("name", ["texts", "nothing"])
def test_pretraining_too(tiny_models, tiny_table, tmp_path, caplog, name):
    line = [*commands(tiny_models, tiny_table)[name], "--output-dir", str(tmp_path / "out")]
    with caplog.at_level(logging.INFO):
        assert run(app, [*line, *"--dry-run --batch-size 1 --epochs 2".split()]) == 0
    said = caplog.text
    packed = re.search(r"([\d,]+) tokens to learn, packed into (\d+) rows of \d+", said)
    assert packed
    assert f"{2 * int(packed[2])} updates of 1 rows, 2 epochs" in said
    read = re.search(r"tokens     about ([\d,]+) for the models to read", said)
    assert int(read[1].replace(",", "")) > 2 * int(packed[1].replace(",", ""))
    [shown] = re.findall(r"(\d+) of them in the loss", said)
    assert said.count("⟦") - 1 == int(shown), "and once where the marks are explained"
    assert "⟦<eos>⟧" in said
    assert re.search(r"memory     about [\d.]+ MB: weights [\d.]+ MB, gradients", said)
    assert re.search(r"time       about \d+ s on cpu", said)
    assert not list(tmp_path.iterdir())


def test_a_dry_run_asks_no_hub(tiny_models, tiny_table, tmp_path, monkeypatch):
    def ask(*_):
        raise AssertionError("the hub was asked")

    monkeypatch.setattr("dalm.training.run.check_repository", ask)
    line = [*commands(tiny_models, tiny_table)["generator"], "--output-dir", str(tmp_path / "out")]
    assert run(app, [*line, "--dry-run", "--hub-model-id", "a/b"]) == 0


def test_a_dry_run_finds_what_the_run_would(tiny_models, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("Passage,Query\na,b\n")
    line = ["train-generator-only", str(table), str(tiny_models.generator), "--dry-run"]
    assert run(app, [*line, "--output-dir", str(tmp_path / "out")]) == 2
    assert "'Answer'" in capsys.readouterr().err


def figures(text):
    """Return the tokens to read, the index's passages and tokens, and its encodings."""
    index = re.search(
        r"index +([\d,]+) passages of ([\d,]+) tokens, .*update and (\d+) times", text
    )
    found = re.search(r"tokens +about ([\d,]+) for", text)
    return [int(n.replace(",", "")) for n in (found[1], *index.groups())]


def test_an_index_of_many_passages_is_encoded_in_part_and_every_candidate_counted(
    tiny_models, tiny_table, tmp_path, caplog, monkeypatch
):
    line = [*commands(tiny_models, tiny_table)["index"], "--output-dir", str(tmp_path / "out")]
    line += "--dry-run --batch-size 4 --epochs 3 --num-candidates 4 --generator-max-len 200".split()
    encode, encoded = Retriever.encode_tokens, []

    def counting(self, rows, kind):
        encoded.append(len(rows))
        return encode(self, rows, kind)

    monkeypatch.setattr(Retriever, "encode_tokens", counting)
    found = []
    for most in (2_000, 6):
        monkeypatch.setattr(dry_run, "MAX_PASSAGES", most)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run(app, [*line, "--refresh-budget", "0.5"]) == 0
        found.append(figures(caplog.text))
        assert ("by 6 of them; searching them all takes longer" in caplog.text) is (most == 6)
        assert re.search(r"AdamW [\d.]+ MB, index [\d.]+ MB, activations", caplog.text)
        times = found[-1][3]
        assert f"forward and backward, {1 + times} encodings of the index" in caplog.text
    assert encoded == [10, 6]
    (whole, *index), (sampled, *sampled_index) = found
    assert index[:2] == sampled_index[:2]
    assert index[0] == 10
    assert index[2] > 0
    # Three epochs of 20 questions with 4 prompts each, of some 45 tokens: the frame alone has 20.
    assert whole > 3 * 20 * 4 * 25
    assert sampled == pytest.approx(whole, rel=0.2)


def test_the_refreshes_of_an_index_are_those_that_a_run_makes(
    tiny_models, tiny_table, tmp_path, caplog
):
    line = [*commands(tiny_models, tiny_table)["index"], "--output-dir", str(tmp_path / "out")]
    line += "--batch-size 4 --epochs 4 --num-candidates 4 --generator-max-len 200".split()
    line += "--refresh-budget 0.1 --logging-steps 1 --device cpu --precision fp32".split()
    with caplog.at_level(logging.INFO):
        assert run(app, [*line, "--dry-run"]) == 0
        assert run(app, line) == 0
    lines = (tmp_path / "out" / "metrics.jsonl").read_text().splitlines()
    expected = json.loads(lines[-1])["refreshes"] - 1  # the first one builds it
    assert expected >= 3
    assert figures(caplog.text)[3] == pytest.approx(expected, abs=2)


@pytest.mark.parametrize("name", ["pair", "index"])
def test_each_of_two_processes_measures_alone(
    tiny_models, tiny_table, tmp_path, caplog, monkeypatch, name
):
    """In a dry run no process group is made; the second process ended with an IndexError."""
    line = [*commands(tiny_models, tiny_table)[name], "--output-dir", str(tmp_path / "out")]
    line += "--dry-run --num-candidates 4 --generator-max-len 200".split()
    found = []
    for ranks, size in ((1, "4"), (2, "2")):
        monkeypatch.setenv("WORLD_SIZE", str(ranks))
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run(app, [*line, "--batch-size", size]) == 0
        assert "5 updates of 4 rows, 1 epochs" in caplog.text
        found.append(int(re.search(r"tokens +about ([\d,]+)", caplog.text)[1].replace(",", "")))
    # Prompts share the instruction within a process: of half of them each, less is shared.
    assert 0.9 * found[0] <= found[1] <= (1.5 if name == "index" else 1.1) * found[0]
    monkeypatch.setenv("RANK", "1")  # it has nothing to say
    assert run(app, [*line, "--batch-size", "2"]) == 0


def test_few_rows_are_measured_with_all_candidates_of_the_batch(
    tiny_models, tiny_table, tmp_path, caplog, monkeypatch
):
    """Two rows would have two candidates each, where a whole batch has four."""
    line = [*commands(tiny_models, tiny_table)["pair"], "--output-dir", str(tmp_path / "out")]
    line += "--dry-run --batch-size 10 --generator-max-len 200".split()
    found = []
    for most in (dry_run.MAX_SECONDS, 0.0):
        monkeypatch.setattr(dry_run, "MAX_SECONDS", most)
        caplog.clear()
        with caplog.at_level(logging.INFO):
            assert run(app, line) == 0
        found.append(int(re.search(r"tokens +about ([\d,]+)", caplog.text)[1].replace(",", "")))
    assert "4 rows, scaled to a batch" in caplog.text
    assert found[1] == pytest.approx(found[0], rel=0.1)
    assert found[0] > 20 * 4 * 25


# What is counted and measured


def test_steps_by_hand(rows):
    def count(**options):
        return dry_run._count(rows, GeneratorOnly(output_dir="o", **options))

    assert count(per_device_train_batch_size=8) == (8, 3, 1.0)
    options = {"per_device_train_batch_size": 3, "gradient_accumulation_steps": 2}
    assert count(**options, num_train_epochs=2.5) == (6, 10, 2.5)  # 7 batches, 4 updates
    assert count(**options, max_train_steps=2) == (6, 2, 0.5)
    assert count(per_device_train_batch_size=64) == (20, 1, 1.0)


def test_weights_gradients_and_moments_by_hand(rows, generator):
    objective = SupervisedFineTuning.of(rows)
    settings = GeneratorOnly(output_dir="o")
    count = sum(p.numel() for p in generator.parameters())
    assert dry_run._fixed_bytes(objective, settings) == (4 * count, 4 * count, 8 * count)
    for parameter in generator.parameters():
        parameter.requires_grad_(parameter.ndim == 1)
    few = sum(p.numel() for p in generator.parameters() if p.ndim == 1)
    assert dry_run._fixed_bytes(objective, settings) == (4 * count, 4 * few, 8 * few)


def test_each_of_several_processes_needs_memory_for_its_part(rows, generator, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "4")
    objective = SupervisedFineTuning.of(rows)
    count = sum(p.numel() for p in generator.parameters())

    def needed(**options):
        return dry_run._fixed_bytes(objective, GeneratorOnly(output_dir="o", **options))

    assert needed() == (4 * count, 4 * count, 8 * count)
    assert needed(optimizer="adamw-8bit") == (4 * count, 4 * count, 2 * count)
    assert needed(shard="grad") == (4 * count, count, 2 * count)
    assert needed(shard="full") == (count, count, 2 * count)


@dataclass
class Squares:
    """Rows of which each is a number of 1,000 copies."""

    seen: list[list[int]] = field(default_factory=list)

    def collate(self, chosen):
        self.seen.append(list(chosen))
        return {"prompts": [torch.ones(1000) for _ in chosen]}

    def lengths(self):
        return torch.tensor([10, 20, 30, 40]).numpy()

    def keys_apart(self):
        return torch.arange(4)[:, None].numpy()


class Square(Objective):
    def __init__(self):
        super().__init__()
        self.weight = torch.nn.Parameter(torch.ones(()))

    def models(self):
        return {}

    def forward(self, batch):
        rows = torch.stack(batch["prompts"]) * 1.0
        # The product keeps its input for the weight's gradient, and no more.
        total = (rows * self.weight).sum()
        return Loss(total, {}, len(rows) * 7, len(rows) * 7)


def test_activations_are_what_is_kept_for_the_way_back():
    objective, rows = Square(), Squares()
    ran = dry_run._run(objective, rows, [0, 2, 3], CPU, 100)
    assert ran.kept == 3 * 1000 * 4
    assert (ran.rows, ran.tokens, ran.length, ran.fraction) == (3, 21, 80, 0.8)
    assert objective.weight.grad is None
    assert objective.weight.item() == 1


def test_a_slow_batch_is_measured_on_two_rows(monkeypatch):
    settings = GeneratorOnly(output_dir="o", per_device_train_batch_size=4)
    rows = Squares()
    assert dry_run._measured(Square(), rows, settings, CPU).fraction == 1
    monkeypatch.setattr(dry_run, "MAX_SECONDS", 0.0)
    ran = dry_run._measured(Square(), rows, settings, CPU)
    assert ran.rows == 2
    assert ran.fraction < 1
    assert [len(chosen) for chosen in rows.seen] == [2, 4, 2, 2]


def test_a_measured_batch_leaves_the_random_state(rows):
    objective = SupervisedFineTuning.of(rows)
    torch.manual_seed(3)
    first = torch.rand(1)
    torch.manual_seed(3)
    dry_run._run(objective, rows, [0, 1], CPU, 100)
    assert torch.equal(torch.rand(1), first)


def test_sizes():
    assert dry_run._size(5 * 2**19) == "2.5 MB"
    assert dry_run._size(3 * 2**29) == "1.5 GB"


# The preview: a row as a model reads it, the tokens of its loss marked


def test_the_answers_tokens_and_eos_are_marked(rows, generator):
    row = dry_run.preview_prompt(generator, rows.collate([0])["prompts"][0])
    text = dry_run.marked(row)
    frame, marks = text.split("Answer:\n")
    assert "⟦" not in frame
    assert "Where does Ada live?" in frame
    assert re.fullmatch(r"(⟦[^⟦⟧]*⟧)+", marks)
    assert marks.endswith("⟦<eos>⟧")
    assert marks.replace("⟦", "").replace("⟧", "").removesuffix("<eos>").strip() == "in Ulm"
    assert marks.count("⟦") == sum(row.in_loss)


def test_the_original_toolkits_loss_is_on_the_prompt_too(rows, generator):
    prompt = rows.collate([0])["prompts"][0]
    row = dry_run.preview_prompt(generator, prompt, whole=True)
    assert list(row.in_loss) == [False] + [True] * (prompt.length - 1)


def test_a_character_of_several_tokens_stays_whole(generator):
    tokens = [*generator.tokenise(["Ulm 中文!"])[0].tolist(), generator.frame.end]
    row = dry_run.PreviewRow("generator", generator.tokenizer, tokens, [True] * len(tokens))
    text = dry_run.marked(row)
    assert "\ufffd" not in text
    assert "⟦中⟧⟦文⟧" in text


def test_a_retrievers_row_has_no_token_in_the_loss(tiny_models, tiny_rows):
    retriever = load_retriever(str(tiny_models.encoder), CPU)
    tokens = retriever.tokenise([tiny_rows[0]["Query"]], "query")[0].tolist()
    text = dry_run.marked(dry_run.preview_text(retriever, tokens, "query"))
    assert text == "[CLS] where does ada live? [SEP]"
