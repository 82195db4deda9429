"""Bounds and needs of options, and which options settings.yaml holds."""

from dataclasses import dataclass, fields

import pytest

from dalm.config import EvalRag, RagE2E, RetrieverOnly, check, public
from dalm.config.options import option
from dalm.errors import UserError


@dataclass(frozen=True, kw_only=True)
class Options:
    least: int = option(3, least=2)
    over: float = option(1.0, over=0)
    most: float = option(0.5, least=0, most=1)
    way: str = "plain"
    steep: float = option(0.1, over=0, needs={"way": ("steep", "wild")})
    extra: bool = option(True, needs={"way": ("wild",)})
    named: str | None = option(None, needs={"steep_file": None, "way": ("wild",)})
    steep_file: str | None = None


def test_defaults_pass():
    check(Options())


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"least": 1}, "--least 1: must be a number of at least 2"),
        ({"over": 0.0}, "--over 0.0: must be a number over 0"),
        ({"over": float("nan")}, "--over nan: must be a number over 0"),
        ({"over": float("inf")}, "--over inf: must be a number over 0"),
        ({"least": float("inf")}, "--least inf: must be a number of at least 2"),
        ({"most": 1.1}, "--most 1.1: must be at most 1"),
        (
            {"steep": 0.2},
            "--steep has no effect without --way steep or wild; add it or leave out --steep",
        ),
        ({"extra": False, "way": "steep"}, "--extra has no effect without --way wild"),
        ({"named": "x"}, "--named has no effect without --steep-file or --way wild"),
    ],
)
def test_refused(options, said):
    with pytest.raises(UserError) as refused:
        check(Options(**options))
    assert str(refused.value).startswith(said)


@pytest.mark.parametrize(
    "options",
    [
        {"steep": 0.2, "way": "steep"},
        {"extra": False, "way": "wild"},
        {"named": "x", "steep_file": "y"},
        {"named": "x", "way": "wild"},
        {"steep": 0.1},  # the default, given: it says nothing
    ],
)
def test_let_pass(options):
    check(Options(**options))


def test_needs_name_options_that_there_are():
    names = {f.name for options in (RagE2E, EvalRag) for f in fields(options)}
    for f in (*fields(RagE2E), *fields(EvalRag)):
        needs = f.metadata.get("needs") or {}
        assert set(needs) <= names, f.name


def test_needs_of_options_that_a_command_lacks_are_none():
    """The contrastive command has no --candidates that its negatives could depend on."""
    check(RetrieverOnly(output_dir="out", negatives_column="Other"))


def test_what_is_written_down_leaves_secrets_and_single_starts_out():
    settings = RagE2E(output_dir="out", hub_token="secret", resume_from_checkpoint="latest", seed=7)
    kept = public(settings, dataset_path="table.csv")
    assert next(iter(kept)) == "dataset_path"
    assert kept["seed"] == 7
    assert not {"hub_token", "resume_from_checkpoint", "overwrite_output_dir"} & set(kept)
    again = RagE2E(**{k: v for k, v in kept.items() if k != "dataset_path"})
    assert public(again) == public(settings)
