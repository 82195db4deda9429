"""The command line: one registration per command, nothing else."""

import logging
import os
import sys
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NoReturn

import yaml
from cyclopts import App, CycloptsError
from cyclopts.config import Dict

import dalm
from dalm.errors import UserError

app = App(
    name="dalm",
    help="Adapt retrieval-augmented generation to a domain.\n\n"
    "Every command takes its options from a file, too: --config run.yaml; flags win over it.",
    version=f"dalm {dalm.__version__}",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `run` says that it stopped
)
app.command(
    "dalm.commands.train_retriever:train_retriever_only",
    name="train-retriever-only",
    help="Train a retriever by contrast on questions and their passages.",
)
app.command(
    "dalm.commands.train_generator:train_generator_only",
    name="train-generator-only",
    help="Tune a generator on questions with passages in the prompt.",
)
app.command(
    "dalm.commands.train_rag:train_rag_e2e",
    name="train-rag-e2e",
    help="Train a retriever and a generator jointly on questions, passages and answers.",
)
app.command(
    "dalm.commands.pretrain:pretrain",
    name="pretrain",
    help="Pretrain a generator further on a domain's texts, or from scratch.",
)
app.command(
    "dalm.commands.mine_negatives:mine_negatives",
    name="mine-negatives",
    help="Mine hard negatives for a table of questions and passages.",
)
app.command(
    "dalm.commands.merge:merge",
    name="merge",
    help="Fold LoRA adapters into their base, or interpolate tuned weights with those of the base.",
)
app.command(
    "dalm.commands.eval_retriever:eval_retriever",
    name="eval-retriever",
    help="Measure how well a retriever finds the passages of a dataset's questions.",
)
app.command(
    "dalm.commands.eval_rag:eval_rag",
    name="eval-rag",
    help="Measure a retriever and the answers of a generator that reads what it finds.",
)
app.command(
    "dalm.commands.compare:compare",
    name="compare",
    help="Compare evaluations that were run before, or TREC run files.",
)
app.command(
    "dalm.commands.passages:passages",
    name="passages",
    help="Cut documents into passages for training, evaluation and search.",
)
app.command(
    "dalm.commands.qa_gen:qa_gen",
    name="qa-gen",
    help="Make questions with answers from a table of passages, and split them by document.",
)
app.command(
    "dalm.commands.reading_comprehension:reading_comprehension",
    name="reading-comprehension",
    help="Turn passages into reading comprehension texts: a generator's pretraining on a domain.",
)
app.command(
    "dalm.commands.demo:demo",
    name="demo",
    help="Build, train and evaluate a small pair on an invented domain: no download, minutes.",
)


@app.command
def version() -> None:
    """Print the version."""
    print(dalm.__version__)


def main() -> NoReturn:
    """Run the `dalm` command."""
    sys.exit(_run_and_leave(app))


def run_door(door: Callable[..., Any]) -> NoReturn:
    """Run one command as a script, with the same options."""
    script = App(
        name=Path(sys.argv[0]).name,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    script.default(door)
    sys.exit(_run_and_leave(script))


def _run_and_leave(application: App) -> int:
    """Run this process's command and leave the others that torchrun started, if there are any.

    Their group has threads of its own; one that is still about when the interpreter ends aborts the
    process, and torchrun takes its end for a failure and stops the others.
    """
    code = run(application, sys.argv[1:])
    dist = sys.modules.get("torch.distributed")
    if dist is not None and dist.is_available() and dist.is_initialized():
        dist.destroy_process_group()
    return code


def run(application: App, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code: 2, and one line, for what the user can mend."""
    _quiet()
    try:
        tokens, config = _split_config(list(arguments))
        application.config = () if config is None else (_read_config(config),)
        application(tokens, exit_on_error=False, print_error=False)
    except (CycloptsError, UserError) as error:
        return _report(str(error), 2)
    except KeyboardInterrupt:
        return _report("stopped", 130)
    except Exception as error:
        code = getattr(error, "exit_code", None)
        if code is None:
            raise
        return _report(str(error), code)
    return 0


def _split_config(arguments: list[str]) -> tuple[list[str], str | None]:
    """Take `--config FILE` out of the arguments: it has to be known before they are bound."""
    for place, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals:
            value = arguments[place + 1] if place + 1 < len(arguments) else ""
        if not value:
            raise UserError("--config: name a YAML file")
        return arguments[:place] + arguments[place + (1 if equals else 2) :], value
    return arguments, None


def _read_config(path: str) -> Dict:
    """Read options by name from a YAML file; cyclopts' own reader names neither file nor line."""
    try:
        found = yaml.safe_load(Path(path).read_text(encoding="utf-8")) or {}
    except OSError as error:
        raise UserError(f"--config {path}: {error.strerror}; name a YAML file") from error
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f", line {mark.line + 1}" if mark else ""
        reason = getattr(error, "problem", None) or "not text in UTF-8"
        raise UserError(f"--config {path}{place}: not YAML ({reason})") from error
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise UserError(f"--config {path}: a {kind}; write a line for each option, as in `seed: 1`")
    options = {str(name): value for name, value in found.items()}
    return Dict(options, source=path, use_commands_as_keys=False)


def _report(message: str, code: int) -> int:
    print(f"dalm: {' '.join(message.split())}", file=sys.stderr)
    return code


def _quiet() -> None:
    """Show this package's own lines, and of the libraries' only errors."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(logging.Formatter("%(message)s"))
    first = os.environ.get("RANK", "0") == "0"
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    logging.getLogger("dalm").setLevel(logging.INFO if first else logging.ERROR)
    # PEFT 0.21 asks transformers 5.23 for it; a user can't do anything about that.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
