"""A card says where a model comes from, what it learnt on and how, and nothing that is secret."""

import json

import pytest
import yaml

from dalm.cli import app, run
from dalm.config import GeneratorOnly, Merge, RetrieverOnly
from dalm.training import model_card


def front(folder):
    return yaml.safe_load((folder / "README.md").read_text().split("---\n")[1])


@pytest.fixture
def folder(tmp_path):
    made = tmp_path / "run" / "generator"
    made.mkdir(parents=True)
    return made


def write(folder, base="org/base", role="generator", settings=None, **options):
    settings = settings or GeneratorOnly(output_dir=str(folder.parent), **options)
    inputs = {"dataset_path": "pairs.csv", f"{role}_name_or_path": base}
    model_card.write(folder, role, settings, inputs, data="7 questions", weights=(12_000, 500))
    return (folder / "README.md").read_text()


@pytest.fixture(autouse=True)
def no_hub(monkeypatch, tmp_path_factory):
    """Stand in for the hub, which has the files in `hub`."""
    hub: dict[tuple[str, str], str] = {}
    plain = model_card._file

    def file_of(name, file):
        if (name, file) not in hub:
            return plain(name, file)
        path = tmp_path_factory.mktemp("hub") / file
        path.write_text(hub[name, file])
        return path

    monkeypatch.setattr(model_card, "_file", file_of)
    return hub


def test_data_settings_and_figures(folder):
    lines = [{"step": 1, "loss": 5.0}, {"step": 20, "loss": 1.25, "tokens_per_second": 7.0}]
    (folder.parent / "metrics.jsonl").write_text("\n".join(map(json.dumps, lines)) + "\n")
    text = write(folder, learning_rate=3e-5)
    assert "`pairs.csv`: 7 questions." in text
    assert "12,000, of which 500 were trained" in text
    assert "| loss | 1.25 |" in text
    assert "tokens_per_second" not in text
    kept = yaml.safe_load(text.split("```yaml\n")[1].split("```")[0])
    assert kept["learning_rate"] == 3e-5
    assert kept["generator_name_or_path"] == "org/base"


def test_secrets_stay_out(folder):
    text = write(folder, hub_token="hf_secret", hub_model_id="a/b")
    assert "hf_secret" not in text
    assert "resume_from_checkpoint" not in text


def test_front_matter(folder, no_hub):
    no_hub["org/base", "README.md"] = "---\nlicense: apache-2.0\n---\n# Base\n"
    write(folder)
    found = front(folder)
    assert found["license"] == "apache-2.0"
    assert found["base_model"] == "org/base"
    assert found["base_model_relation"] == "finetune"
    assert (found["library_name"], found["pipeline_tag"]) == ("transformers", "text-generation")
    (folder / "adapter_config.json").write_text("{}")
    write(folder)
    assert front(folder)["base_model_relation"] == "adapter"
    assert front(folder)["library_name"] == "peft"
    write(folder, role="retriever", settings=RetrieverOnly(output_dir=str(folder.parent)))
    assert front(folder)["library_name"] == "sentence-transformers"
    assert front(folder)["pipeline_tag"] == "sentence-similarity"


def test_a_folder_is_no_base_on_the_hub(folder, tmp_path):
    (tmp_path / "base").mkdir()
    write(folder, base=str(tmp_path / "base"))
    assert "base_model" not in front(folder)


@pytest.mark.parametrize(
    ("files", "licence"),
    [
        ({"README.md": "---\nlicense: mit\n---\n"}, "mit"),
        ({"README.md": "---\r\nlicense: mit\r\n---\r\n"}, "mit"),
        ({"README.md": "---\nlicense: other\nlicense_name: llama3\n---\n"}, "llama3"),
        ({"README.md": "# no front matter", "config.json": '{"license": "gpl-3.0"}'}, "gpl-3.0"),
        ({"README.md": "---\nlicense: [\n---\n", "config.json": "{"}, model_card.UNKNOWN),
        ({"README.md": "---\nlicense: unknown\n---\n"}, model_card.UNKNOWN),
        ({}, model_card.UNKNOWN),
    ],
)
def test_licence_of_a_base(tmp_path, files, licence):
    for name, text in files.items():
        (tmp_path / name).write_bytes(text.encode())
    assert model_card.licence_of(str(tmp_path)) == licence


def test_an_unknown_licence_is_said_to_be_so(folder):
    assert f"Of the base, `org/base`: {model_card.UNKNOWN}." in write(folder)
    assert front(folder)["license"] == "unknown"


def test_lineage_goes_on(folder, tmp_path, no_hub):
    no_hub["org/base", "README.md"] = "---\nlicense: apache-2.0\n---\n"
    write(folder)
    second = tmp_path / "second"
    second.mkdir()
    text = write(second, base=str(folder))
    steps = front(second)["lineage"]
    assert [step["model"] for step in steps] == ["org/base", str(folder)]
    assert front(second)["base_model"] == "org/base"
    assert front(second)["license"] == "apache-2.0"
    assert "1. `org/base`, then `dalm train-generator-only` on `pairs.csv`" in text


def test_a_model_made_from_nothing(folder):
    text = write(folder, base=model_card.SCRATCH)
    assert "none: made from nothing" in text
    assert "No base: the licences of the training texts apply; check." in text
    assert "base_model" not in front(folder)


def test_every_training_command_writes_cards(tiny_models, tiny_table, tmp_path):
    table, encoder, generator = map(str, (tiny_table, tiny_models.encoder, tiny_models.generator))
    more = ["--max-train-steps", "1", "--batch-size", "4", "--output-dir"]
    for line, names in (
        (["train-retriever-only", encoder, table], ["retriever"]),
        (["train-rag-e2e", table, encoder, generator], ["retriever", "generator"]),
        (["train-generator-only", table, generator, "--use-peft"], ["generator"]),
    ):
        out = tmp_path / line[0]
        assert run(app, [*line, *more, str(out)]) == 0
        for name in names:
            found = front(out / name)
            base = encoder if name == "retriever" else generator
            assert found["lineage"] == [{"model": base, "by": f"dalm {line[0]}", "data": table}]
            text = (out / name / "README.md").read_text()
            assert "20 questions" in text
            assert "| loss |" in text


def test_lineage_from_texts_to_a_pair(tiny_models, tiny_table, tmp_path):
    """From nothing over pretraining, adapters, merging and reading to joint training."""
    table, encoder = str(tiny_table), str(tiny_models.encoder)
    more = ["--max-train-steps", "1", "--batch-size", "4", "--output-dir"]
    names = ("pretrained", "found", "adapted", "merged", "pair")
    pretrained, found, adapted, merged, pair = (str(tmp_path / name) for name in names)
    scratch = ["pretrain", table, "--from-scratch", "1m", "--sequence-length", "64"]
    generator, retriever = f"{pretrained}/generator", f"{found}/retriever"
    for line in (
        [*scratch, *more, pretrained],
        ["train-retriever-only", encoder, table, *more, found],
        ["train-generator-only", table, generator, "--use-peft", *more, adapted],
        ["merge", f"{adapted}/generator", "--weight", "0.7", "--output-dir", merged],
        ["train-rag-e2e", table, retriever, merged, *more, pair],
    ):
        assert run(app, line) == 0
    assert front(tmp_path / "pair" / "retriever")["lineage"] == [
        {"model": encoder, "by": "dalm train-retriever-only", "data": table},
        {"model": retriever, "by": "dalm train-rag-e2e", "data": table},
    ]
    steps = front(tmp_path / "pair" / "generator")["lineage"]
    assert [(step["model"], step["by"]) for step in steps] == [
        (model_card.SCRATCH, "dalm pretrain"),
        (generator, "dalm train-generator-only"),
        (f"{adapted}/generator", "dalm merge"),
        (merged, "dalm train-rag-e2e"),
    ]
    text = (tmp_path / "pretrained" / "generator" / "README.md").read_text()
    figures = text.split("## Figures")[1].split("## Settings")[0]
    assert "| loss |" in figures
    assert "bits_per_byte" not in figures, "which is of held-out text"
    assert "held-out domain text" in text.split("## Data")[1].split("## Weights")[0]


def test_a_merged_models_base_is_where_it_began(folder, tmp_path, no_hub):
    """Not the folder that its adapter was trained on."""
    no_hub["org/base", "README.md"] = "---\nlicense: mit\n---\n"
    write(folder)
    merged = tmp_path / "merged"
    merged.mkdir()
    between = str(tmp_path / "between")
    model_card.write_merged(
        merged, "generator", str(folder), between, Merge(output_dir=str(merged))
    )
    assert front(merged)["base_model"] == "org/base"
    assert front(merged)["license"] == "mit"
    unknown = tmp_path / "unknown"
    unknown.mkdir()
    model_card.write_merged(merged, "generator", str(unknown), "org/base", Merge(output_dir="o"))
    assert front(merged)["license"] == "mit", "of --base, where nothing else is known"


def test_a_repositorys_card_points_to_its_models(folder, no_hub):
    no_hub["org/base", "README.md"] = "---\nlicense: mit\n---\n"
    no_hub["org/other", "README.md"] = "---\nlicense: apache-2.0\n---\n"
    second = folder.with_name("retriever")
    second.mkdir()
    write(folder)
    write(second, base="org/other", role="retriever")
    text = model_card.repository_card([second, folder])
    assert "- [retriever](retriever/README.md)\n- [generator](generator/README.md)\n" in text
    found = yaml.safe_load(text.split("---\n")[1])
    assert found == {"license": "other", "tags": ["dalm"], "base_model": ["org/base", "org/other"]}
    assert (
        yaml.safe_load(model_card.repository_card([folder]).split("---\n")[1])["license"] == "mit"
    )
