"""Supervised tuning: what stands in a prompt, which tokens have a loss, what a resume repeats."""

import json
from dataclasses import asdict, replace

import pytest
import torch
import yaml
from safetensors.torch import load_file

from dalm.cli import app, run
from dalm.config import GeneratorOnly
from dalm.errors import UserError
from dalm.models.generator import load_generator
from dalm.models.loading import place
from dalm.prompts import DEFAULT
from dalm.records import Example, Hit, Passage
from dalm.training import metrics_log
from dalm.training.data.sft_rows import (
    SftRows,
    search_distractors,
    searched_passages,
    with_distractors,
)
from dalm.training.objectives.sft import SupervisedFineTuning

CPU = place("cpu", "fp32")


@pytest.fixture
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), CPU, max_length=200)


@pytest.fixture
def examples(tiny_rows):
    return [Example(r["Query"], r["Answer"], Passage.of(r["Passage"])) for r in tiny_rows]


@pytest.fixture
def passages(examples):
    return list({e.passage.id: e.passage for e in examples}.values())


def tokens(generator, texts):
    return [row.tolist() for row in generator.tokenise(texts)]


def read(rows, prompt):
    """Return the places of the passages that stand in a prompt, in its order."""
    mark = rows.generator.frame.passage
    texts = {tuple(rows.passages[place].tolist()): place for place in range(len(rows.passages))}
    places = []
    for start in range(prompt.answer_start):
        if prompt.tokens[start : start + len(mark)] == mark:
            behind = prompt.tokens[start + len(mark) :]
            places += [p for text, p in texts.items() if tuple(behind[: len(text)]) == text]
    return places


# What stands in a prompt


def test_without_a_retriever_the_gold_passage_stands_alone(generator, examples):
    rows = SftRows(examples, generator)
    for row, prompt in enumerate(rows.collate(range(len(rows)))["prompts"]):
        assert read(rows, prompt) == [rows.gold[row]]


def test_the_prompt_is_that_of_answering_token_for_token(generator, examples):
    rows = SftRows(examples, generator, reader_passages=2)
    prompt = rows.collate([3])["prompts"][0]
    texts = [p.text for p in dict.fromkeys(e.passage for e in examples)]
    asked = generator.frame.join(
        tokens(generator, [texts[place] for place in read(rows, prompt)]),
        *tokens(generator, [examples[3].query]),
        None,
        200,
    )
    assert prompt.tokens[: prompt.answer_start] == asked.tokens
    answer = generator.tokenise_answers([examples[3].answer])[0].tolist()
    assert prompt.tokens[prompt.answer_start :] == [*answer, generator.frame.end]


def test_distractors_are_the_best_found_that_are_not_the_gold_passage(
    generator, examples, passages
):
    found = [[e.passage, *(p for p in passages if p is not e.passage)][:4] for e in examples]
    found[1] = passages[-4:]  # the gold passage isn't among them
    rows = SftRows(examples, generator, reader_passages=3, found=found)
    places = {p.id: place for place, p in enumerate(passages)}
    prompts = rows.collate(range(len(rows)))["prompts"]
    for row in (0, 1, 7):
        expected = [p for p in found[row] if p.id != examples[row].passage.id][:2]
        expected.append(examples[row].passage)
        texts = [rows.passages[p].tolist() for p in read(rows, prompts[row])]
        assert sorted(texts) == sorted(tokens(generator, [p.text for p in expected]))
    assert len(places) == 10


@pytest.mark.parametrize("searched", [True, False])
def test_no_gold_passage_of_the_same_question_is_a_distractor(generator, passages, searched):
    generator.max_length = 256  # nothing is cut
    asked = ["Who lives somewhere?", "who  lives SOMEWHERE?", "Who lives somewhere?", "Who keeps?"]
    examples = [Example(q, "in Ulm", p) for q, p in zip(asked, passages, strict=False)]
    examples += [Example(f"What of {n}?", "a dog", p) for n, p in enumerate(passages[4:6])]
    found = [passages[:6]] * len(examples) if searched else None
    rows = SftRows(
        examples, generator, reader_passages=3, gold_probability=0.5, found=found, seed=1
    )
    texts = tokens(generator, [p.text for p in passages])
    number = {n: texts.index(rows.passages[n].tolist()) for n in range(len(rows.passages))}
    seen: list[set[int]] = [set() for _ in examples]
    for epoch in range(40):
        rows.set_epoch(epoch)
        for row, prompt in enumerate(rows.collate(range(len(rows)))["prompts"]):
            drawn = read(rows, prompt)
            assert len(drawn) == len(set(drawn)) == 3
            seen[row] |= {number[place] for place in drawn}
    # Passages 0 to 2 are gold for rows 0 to 2; each reads its own, and those of other questions.
    assert seen[:3] == [{0, 3, 4, 5}, {1, 3, 4, 5}, {2, 3, 4, 5}]
    assert seen[3] >= {0, 3}, "to another question they are distractors"


def test_a_question_whose_gold_passages_are_nearly_all_has_shorter_prompts(generator, passages):
    examples = [Example("Who lives somewhere?", "in Ulm", p) for p in passages[:3]]
    examples.append(Example("What does Dora keep?", "a red fox", passages[3]))
    for found in (None, [passages[:4]] * 4):
        prompts = SftRows(examples, generator, reader_passages=3, found=found)
        assert [len(read(prompts, p)) for p in _all(prompts)] == [2, 2, 2, 3]


class Ranking:
    """A search that finds the passages in their order, and notes how deep it was asked for."""

    def __init__(self, passages):
        self.passages = passages
        self.asked = {}

    def search(self, queries, k):
        assert not self.asked.keys() & set(queries)
        self.asked |= dict.fromkeys(queries, k)
        return [[Hit(p, 0.0) for p in self.passages[:k]] for _ in queries]


def test_the_search_is_as_much_deeper_as_there_are_gold_passages(passages):
    asked = ["Who?", "who? ", "Who?", "Where?", "Why?"]
    golds = [*passages[:4], None]
    examples = [Example(q, "a", p) for q, p in zip(asked, golds, strict=True)]
    searcher = Ranking(passages)
    found = search_distractors(examples, searcher.search, 2)
    assert searcher.asked == {"Who?": 5, "who? ": 5, "Where?": 3, "Why?": 3}
    assert found == [passages[:5]] * 3 + [passages[:3]] * 2
    left = [example.negatives for example in with_distractors(examples, found)]
    assert left == [tuple(passages[3:5])] * 3 + [tuple(passages[:3])] * 2


def test_rows_without_their_gold_passage_have_as_many_passages(generator, examples, passages):
    found = [passages[:4]] * len(examples)
    rows = SftRows(examples, generator, reader_passages=3, found=found, gold_probability=0.0)
    for row, prompt in enumerate(rows.collate(range(len(rows)))["prompts"]):
        seen = read(rows, prompt)
        assert len(seen) == 3
        assert rows.gold[row] not in seen


@pytest.mark.parametrize("searched", [True, False])
def test_the_share_of_rows_with_their_gold_passage(generator, examples, passages, searched):
    found = [passages[:4]] * len(examples) if searched else None
    rows = SftRows(
        examples, generator, reader_passages=2, found=found, gold_probability=0.8, seed=3
    )
    met = 0
    for epoch in range(25):
        rows.set_epoch(epoch)
        prompts = rows.collate(range(len(rows)))["prompts"]
        met += sum(rows.gold[row] in read(rows, p) for row, p in enumerate(prompts))
    share = met / (25 * len(rows))  # 500 draws: a standard deviation of 0.018
    assert 0.74 < share < 0.86


def test_order_is_drawn_anew(generator, examples, passages):
    generator.max_length = 256  # nothing is cut
    found = [passages[:5]] * len(examples)
    rows = SftRows(examples, generator, reader_passages=3, found=found)
    at = [read(rows, p).index(rows.gold[r]) for r, p in enumerate(_all(rows))]
    assert set(at) == {0, 1, 2}


def _all(rows):
    return rows.collate(range(len(rows)))["prompts"]


def test_draws_follow_from_seed_epoch_and_rows(generator, examples):
    def prompts(seed=0, epoch=0, of=(1, 4, 9)):
        rows = SftRows(examples, generator, reader_passages=3, gold_probability=0.5, seed=seed)
        rows.set_epoch(epoch)
        return [p.tokens for p in rows.collate(of)["prompts"]]

    assert prompts() == prompts()
    assert prompts() != prompts(epoch=1)
    assert prompts() != prompts(seed=1)


def test_rows_without_gold_read_what_was_found(generator, examples, passages):
    unmarked = [replace(e, passage=None) for e in examples]
    rows = SftRows(unmarked, generator, reader_passages=3, found=[passages[2:6]] * 20)
    assert "0 of them with a gold passage" in rows.describe()
    assert all(len(read(rows, prompt)) == 3 for prompt in _all(rows))


def test_lengths_are_those_of_the_prompts(generator, examples, passages):
    found = [[e.passage, *passages[:3]] for e in examples]
    rows = SftRows(examples, generator, reader_passages=2, found=found)
    assert [p.length for p in _all(rows)] == rows.lengths().tolist()
    assert len(set(rows.lengths().tolist())) > 3


def test_cut_prompts_are_told_of(generator, examples, passages, caplog):
    generator.max_length = 130
    SftRows(examples, generator, reader_passages=4, found=[passages[:5]] * 20).tell_cut()
    assert "in 20 of 20 prompts passages are cut at 130 tokens (--generator-max-len)" in caplog.text


def test_too_few_passages(generator, examples):
    with pytest.raises(UserError, match="needs 11 distinct passages, and there are 10"):
        SftRows(examples, generator, reader_passages=10, gold_probability=0.9)
    SftRows(examples, generator, reader_passages=10)


def test_no_row_fits(generator, examples):
    generator.max_length = 30
    with pytest.raises(UserError, match="use --generator-max-len"):
        SftRows(examples, generator)


# The loss


def test_the_loss_is_the_mean_over_answer_tokens_and_eos(generator, examples):
    rows = SftRows(examples, generator, reader_passages=2)
    batch = rows.collate([0, 5, 11])
    objective = SupervisedFineTuning.of(rows)
    expected, count = 0.0, 0
    for prompt in batch["prompts"]:
        ids = torch.tensor([prompt.tokens])
        logits = generator.model(input_ids=ids).logits[0].log_softmax(-1)
        for t in range(prompt.answer_start, prompt.length):
            expected -= logits[t - 1, prompt.tokens[t]].item()
            count += 1
        assert prompt.tokens[-1] == generator.tokenizer.eos_token_id
    loss = objective(batch)
    assert loss.total.item() == pytest.approx(expected / count, rel=1e-5)
    assert objective.weighted_tokens(batch) == count
    assert loss.tokens == sum(p.length for p in batch["prompts"])
    assert objective.rows(batch) == 3
    assert generator.reader_passages == 2


def test_two_batches_weigh_as_one(generator, examples):
    """The trainer gives each the mean of the tokens over the batches of an update."""
    rows = SftRows(examples, generator)
    objective = SupervisedFineTuning.of(rows)
    prompts = rows.collate([0, 1, 2, 3, 4])["prompts"]
    whole = objective({"prompts": prompts}).total
    tokens = objective.weighted_tokens({"prompts": prompts})
    parts = [
        objective({"prompts": some, "weighted_tokens": tokens / 2}).total
        for some in (prompts[:1], prompts[1:])
    ]
    assert sum(parts).item() / 2 == pytest.approx(whole.item(), rel=1e-5)


def test_observed_gap_is_that_of_reading(generator, examples):
    rows = SftRows(examples, generator)
    gap = SupervisedFineTuning.of(rows).observe()["gap_none"]
    with_it, without = rows.diagnostic_prompts(16)
    assert len(with_it) == 16
    assert all(read(rows, prompt) == [] for prompt in without)
    means = []
    for prompts in (with_it, without):
        objective = SupervisedFineTuning(generator, 1)
        means.append(-objective({"prompts": prompts}).total.item())
    assert gap == pytest.approx(means[0] - means[1], rel=1e-4)


# Options


def test_defaults_follow_the_retriever():
    alone, searched = (
        GeneratorOnly(output_dir="o", retriever_name_or_path=name) for name in (None, "r")
    )
    assert (alone.reads(), alone.gold_share()) == (1, 1.0)
    assert (searched.reads(), searched.gold_share()) == (4, 0.8)
    given = GeneratorOnly(output_dir="o", reader_passages=2, gold_probability=0.0)
    assert (given.reads(), given.gold_share()) == (2, 0.0)


def test_a_passage_that_stands_twice_is_searched_as_it_stands_first(examples):
    first = Passage.of("Ada lives in Ulm.", source="first.txt")
    again = Passage.of("ADA lives in Ulm.", source="second.txt")
    given = [Example("q", "a", first), Example("r", "b", again), examples[9]]
    settings = GeneratorOnly(output_dir="o", retriever_name_or_path="r", reader_passages=2)
    found = searched_passages(given, settings)
    assert [p.source for p in found] == ["first.txt", ""]


def test_knowledge_base_is_checked(examples):
    unmarked = [replace(e, passage=None) for e in examples]
    settings = GeneratorOnly(output_dir="o", retriever_name_or_path="r", gold_probability=0.5)
    with pytest.raises(UserError, match="--gold-probability has no effect"):
        searched_passages(unmarked, settings)
    with pytest.raises(UserError, match="--reader-passages 30: there are 10"):
        searched_passages(examples, replace(settings, reader_passages=30))


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--passages", "x.csv"], "--passages has no effect without --retriever-name-or-path"),
        (["--query-max-len", 30], "--query-max-len has no effect without"),
        (["--passage-prompt", "p: "], "--passage-prompt has no effect without"),
        (["--gold-probability", 1.5], "--gold-probability 1.5: must be at most 1"),
        (["--reader-passages", 0], "--reader-passages 0: must be a number of at least 1"),
        (["--retriever-name-or-path", "./none"], "retriever ./none: no such folder"),
        (["--lora-rank", 2], "--lora-rank has no effect without --use-peft"),
        (["--use-bnb"], "add --use-peft"),
        (["--reader-passages", 11], "there are 10 distinct passages"),
        (["--generator-max-len", 9999], "takes at most 256"),
        (["--logit-scale", 3], "--logit-scale"),
    ],
)
def test_bad_options(tiny_models, tiny_table, tmp_path, capsys, options, said):
    line = ["train-generator-only", tiny_table, tiny_models.generator]
    line += ["--output-dir", tmp_path / "out", *options]
    assert run(app, [str(part) for part in line]) == 2
    printed = capsys.readouterr().err
    assert said in printed
    assert printed.count("\n") == 1
    assert not (tmp_path / "out").exists()


def test_rows_need_a_passage_where_none_is_searched(tiny_models, tiny_table, tmp_path, capsys):
    table = tmp_path / "t.csv"
    table.write_text("Query,Answer\nWho?,Ada\n")
    line = ["train-generator-only", table, tiny_models.generator, "--output-dir", tmp_path / "out"]
    assert run(app, [str(part) for part in line]) == 2
    assert "no column 'Passage'" in capsys.readouterr().err


# The command

SHARED = (
    "--device cpu --precision fp32 --batch-size 4 --epochs 4 --learning-rate 1e-2 --logging-steps 2"
).split()


@pytest.fixture(scope="module")
def searched_run(tiny_models, tiny_table, tmp_path_factory):
    """A run with a retriever over a table with rows that lack their passage, and more passages."""
    folder = tmp_path_factory.mktemp("reading")
    table = folder / "holes.csv"
    table.write_text(tiny_table.read_text() + ",Where does Kuno live?,in Worms\n")
    more = folder / "more.jsonl"
    more.write_text('{"Passage": "Kuno lives in Worms."}\n')
    line = ["train-generator-only", table, tiny_models.generator, "--output-dir", folder / "out"]
    line += ["--retriever-name-or-path", tiny_models.encoder, "--passages", more]
    assert run(app, [str(part) for part in [*line, "--reader-passages", 3, *SHARED]]) == 0
    return folder / "out"


def test_a_tuned_generator_remembers_how_much_it_read(searched_run):
    known = json.loads((searched_run / "generator" / "dalm.json").read_text())
    assert known == {"generator_max_len": 256, "reader_passages": 3, "prompt": asdict(DEFAULT)}
    loaded = load_generator(str(searched_run / "generator"), CPU)
    assert loaded.reader_passages == 3


def test_the_loss_falls(searched_run):
    lines = [json.loads(text) for text in (searched_run / "metrics.jsonl").read_text().splitlines()]
    assert lines[-1]["answer_nll"] < lines[0]["answer_nll"] - 0.5
    assert {"gap_none", "prompt_tokens", "grad_norm", "generator_learning_rate"} <= set(lines[-1])
    kept = yaml.safe_load((searched_run / "settings.yaml").read_text())
    assert kept["reader_passages"] == 3
    assert kept["gold_probability"] is None


def test_settings_are_a_config_for_the_same_run(tiny_models, tiny_table, tmp_path):
    line = ["train-generator-only", tiny_table, tiny_models.generator, "--output-dir"]
    first, second = tmp_path / "first", tmp_path / "second"
    options = [*SHARED, "--reader-passages", 2, "--gold-probability", 0.5, "--max-train-steps", 3]
    assert run(app, [str(part) for part in [*line, first, *options]]) == 0
    again = ["train-generator-only", "--config", first / "settings.yaml", "--output-dir", second]
    assert run(app, [str(part) for part in again]) == 0
    a, b = (load_file(f / "generator" / "model.safetensors") for f in (first, second))
    assert all(torch.equal(a[name], b[name]) for name in a | b)


def test_resumed_training_ends_as_an_unbroken_one(tiny_models, tiny_table, tmp_path):
    """In the middle of an epoch: gold passages, distractors and order are drawn as they were."""
    whole, again = tmp_path / "whole", tmp_path / "again"
    line = ["train-generator-only", tiny_table, tiny_models.generator, *SHARED]
    line += "--reader-passages 3 --gold-probability 0.5 --checkpointing-steps 4".split()
    line += ["--retriever-name-or-path", tiny_models.encoder, "--checkpoints-kept", 9]
    assert run(app, [str(p) for p in [*line, "--output-dir", whole]]) == 0
    line += ["--output-dir", again, "--resume-from-checkpoint", whole / "checkpoint-8"]
    assert run(app, [str(p) for p in line]) == 0
    a, b = (load_file(f / "generator" / "model.safetensors") for f in (whole, again))
    assert all(torch.equal(a[name], b[name]) for name in a | b)
    lines = []
    for folder in (whole, again):
        read_lines = map(json.loads, (folder / "metrics.jsonl").read_text().splitlines())
        lines.append([_without_clock(line) for line in read_lines if line["step"] > 8])
    assert lines[0] == lines[1]
    assert [line["step"] for line in lines[0]] == [10, 12, 14, 16, 18, 20]
    assert len({line["prompt_tokens"] for line in lines[0]}) > 1


def _without_clock(line):
    return {k: v for k, v in line.items() if k not in metrics_log.CLOCK}
