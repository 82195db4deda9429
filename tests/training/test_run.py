"""A run loads its models as the options ask: lengths, prompts, frozen weights, adapters."""

from unittest import mock

import pytest

from dalm import train_generator_only
from dalm.config import GeneratorOnly, RagE2E
from dalm.models.dropout import Dropout
from dalm.models.loading import place
from dalm.models.retriever import retriever_from_config
from dalm.training.run import TrainingRun

PLAIN, LORA, FROZEN = "plain", "lora", "frozen"
# PEFT asks for a property that transformers has renamed.
pytestmark = pytest.mark.filterwarnings("ignore:`is_gradient_checkpointing` is deprecated")


def run_of(tiny_models, tmp_path, **options):
    settings = RagE2E(output_dir=str(tmp_path / "out"), device="cpu", precision="fp32", **options)
    return TrainingRun(
        settings,
        dataset_path="unread.csv",
        retriever_name_or_path=str(tiny_models.encoder),
        generator_name_or_path=str(tiny_models.generator),
    )


def trained(model):
    names = [name for name, p in model.named_parameters() if p.requires_grad]
    if not names:
        return FROZEN
    return LORA if all("lora_" in name for name in names) else PLAIN


@pytest.mark.parametrize(
    ("options", "retriever", "generator"),
    [
        ({}, PLAIN, PLAIN),
        ({"use_peft": "both"}, LORA, LORA),
        ({"use_peft": "retriever"}, LORA, PLAIN),
        ({"use_peft": "generator"}, PLAIN, LORA),
        ({"train_encoders": "query"}, LORA, PLAIN),
        ({"train_encoders": "none"}, FROZEN, PLAIN),
        ({"train_generator": False}, PLAIN, FROZEN),
        ({"train_generator": False, "use_peft": "retriever"}, LORA, FROZEN),
    ],
)
def test_what_is_trained_of_a_pair(tiny_models, tmp_path, options, retriever, generator):
    pair = run_of(tiny_models, tmp_path, **options).pair()
    assert tuple(map(trained, pair)) == (retriever, generator)
    assert pair[0].adapts_queries_alone == (options.get("train_encoders") == "query")


def test_lengths_and_prompts_are_those_of_the_options(tiny_models, tmp_path):
    options = {"query_max_len": 20, "passage_max_len": 30, "query_prompt": "find: "}
    retriever, generator = run_of(
        tiny_models, tmp_path, passage_prompt="", generator_max_len=99, **options
    ).pair()
    query, passage = retriever.sides["query"], retriever.sides["passage"]
    assert (query.max_len, query.prompt) == (20, "find: ")
    assert (passage.max_len, passage.prompt) == (30, "")
    assert generator.max_length == 99


def test_options_that_are_not_given_leave_what_the_model_was_saved_with(tiny_models, tmp_path):
    settings = RagE2E(output_dir="o", query_max_len=20, passage_max_len=30, query_prompt="find: ")
    here = place("cpu", "fp32")
    retriever_from_config(settings, str(tiny_models.encoder), here).export(tmp_path / "saved")
    without = GeneratorOnly(output_dir="o", retriever_name_or_path="r")
    again = retriever_from_config(without, str(tmp_path / "saved"), here)
    assert (again.sides["query"].max_len, again.sides["query"].prompt) == (20, "find: ")
    assert again.sides["passage"].max_len == 30


def test_nothing_is_written_before_training(tiny_models, tmp_path):
    run_of(tiny_models, tmp_path).pair()
    assert not list(tmp_path.iterdir())


def test_adapters_are_trained_with_the_dropout_that_draws_zeros_alone(
    tiny_models, tiny_table, tmp_path
):
    settings = GeneratorOnly(output_dir=str(tmp_path), use_peft=True, dry_run=True)
    with mock.patch("dalm.training.dry_run.report") as report:
        train_generator_only(str(tiny_table), str(tiny_models.generator), settings)
    objective = report.call_args.args[0]
    found = [
        each for name, each in objective.named_modules() if name.endswith("lora_dropout.default")
    ]
    assert found
    assert {type(each) for each in found} == {Dropout}
    assert {each.p for each in found} == {settings.lora_dropout}
