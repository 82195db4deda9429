"""Run the `dalm` command line and report user errors in one line."""

import errno
import logging
import os
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import NoReturn

from cyclopts import App, CycloptsError, MissingArgumentError
from cyclopts.config import Dict

import dalm
from dalm import display, file_reading, stop_signals
from dalm.artifacts import full_disk
from dalm.distributed import is_main, leave
from dalm.errors import UserError, reason_of

app = App(
    name="dalm",
    help="Adapt retrieval-augmented generation to a domain.\n\n"
    "Every command also reads its options from a YAML file: --config run.yaml. Flags override it.",
    version=f"dalm {dalm.__version__}",
    result_action="return_value",
    suppress_keyboard_interrupt=False,  # `run` reports it
)
for _position, (_name, _path) in enumerate(dalm.COMMANDS.items()):
    app.command(_path, name=_name, sort_key=_position)  # imported when it is called


@app.command
def version() -> None:
    """Print the version."""
    print(dalm.__version__)


_SURROUNDINGS = {
    *(errno.EACCES, errno.EPERM, errno.EROFS, errno.ENAMETOOLONG, errno.ELOOP),
    *(errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.ESTALE, errno.EMFILE, errno.ENFILE),
}
"""What the operating system refuses because of the path, the rights or the disk: no bug here."""


def import_commands() -> None:
    """Import every command: the list of commands shows the first line of each one's help."""
    for name in dalm.COMMANDS:
        _ = app[name]


def main() -> NoReturn:
    """Run the `dalm` command."""
    stop_signals.listen()
    sys.exit(_run_and_leave(app))


def run_script(command: str) -> NoReturn:
    """Run one command as a script, with the same options."""
    stop_signals.listen()
    script = App(
        name=Path(sys.argv[0]).name,
        result_action="return_value",
        suppress_keyboard_interrupt=False,
    )
    script.default(dalm.command(command))
    sys.exit(_run_and_leave(script))


def _run_and_leave(application: App) -> int:
    """Run a command, then leave the process group if torchrun started one."""
    sys.excepthook = display.show_traceback
    display.prepare_terminal()
    code = run(application, sys.argv[1:])
    leave()
    return code


def run(application: App, arguments: Sequence[str]) -> int:
    """Run a command and return its exit code; a user error is one line on stderr and code 2."""
    _quiet()
    try:
        _check_arguments(arguments)
        tokens, config = _split_config(list(arguments))
        if application is app and tokens[:1] in ([], ["--help"], ["-h"]):
            import_commands()
        application.config = () if config is None else (_read_config(config),)
        application(tokens, exit_on_error=False, print_error=False)
        sys.stdout.flush()
    except MissingArgumentError as error:
        return _report(_missing(application, tokens, error), 2)
    except (CycloptsError, UserError) as error:
        return _report(str(error), 2)
    except KeyboardInterrupt as stop:
        return stop_signals.report(stop, display.show_error)
    except BrokenPipeError:  # whoever read the output has enough of it, as `head` has
        display.drop_output()
        return 128 + 13
    except Exception as error:
        said = _described(error)
        if said is None:
            raise
        return _report(*said)
    return 0


def _missing(application: App, tokens: list[str], error: MissingArgumentError) -> str:
    """Return a line that names every required option that is missing; cyclopts names the first."""
    names: list[str] = []
    following: CycloptsError | None = error
    while isinstance(following, MissingArgumentError) and following.argument is not None:
        name = following.argument.name
        if name in names:
            break
        names.append(name)
        given = [*tokens, *(f"{each}=1" for each in names)]
        try:
            application.parse_args(given, exit_on_error=False, print_error=False)
            following = None
        except CycloptsError as found:
            following = found
    command = " ".join(["dalm", *(error.command_chain or ())])
    if len(names) > 1:
        return f"{command} needs {', '.join(names[:-1])} and {names[-1]}"
    spelled = {each.replace("_", "-") for each in tokens}
    if error.argument is not None and not spelled.intersection(error.argument.names):
        return f"{command} needs {error.argument.name}"
    return str(error)  # the option is there, without a value


def _described(error: Exception) -> tuple[str, int] | None:
    """Return what to say of an error that isn't a fault of the program, and the exit code."""
    named = f"{error.filename}: " if isinstance(error, OSError) and error.filename else ""
    if (code := getattr(error, "exit_code", None)) is not None:
        return str(error), code
    if (reason := full_disk(error)) is not None:
        return f"{named}{reason}; free some space", 2
    if isinstance(error, OSError) and error.errno in _SURROUNDINGS:
        return f"{named}{error.strerror}; check the path and the rights", 2
    return None


def _check_arguments(arguments: Sequence[str]) -> None:
    for argument in arguments:
        if "\0" in argument:
            raise UserError(f"{argument}: a NUL character, which no path or name can hold")


def _split_config(arguments: list[str]) -> tuple[list[str], str | None]:
    """Split `--config FILE` from the arguments: the file is needed before they are bound."""
    for position, argument in enumerate(arguments):
        name, equals, value = argument.partition("=")
        if name != "--config":
            continue
        if not equals:
            value = arguments[position + 1] if position + 1 < len(arguments) else ""
        if not value:
            raise UserError("--config: name a YAML file")
        return arguments[:position] + arguments[position + (1 if equals else 2) :], value
    return arguments, None


def _read_config(path: str) -> Dict:
    """Read options from a YAML file; cyclopts' own reader names neither the file nor the line."""
    try:
        found = file_reading.parse_yaml(file_reading.read_text(Path(path), "YAML")) or {}
    except (OSError, ValueError) as error:
        reason = reason_of(error)
        raise UserError(f"--config {path}: {reason}; name a YAML file") from error
    if not isinstance(found, dict):
        kind = type(found).__name__
        raise UserError(f"--config {path}: a {kind}; write one option per line, such as `seed: 1`")
    _check_arguments([str(value) for value in found.values()])
    options = {str(name): value for name, value in found.items()}
    return Dict(options, source=path, use_commands_as_keys=False)


def _report(message: str, code: int) -> int:
    display.show_error(message)
    return code


def _quiet() -> None:
    """Show this package's log lines, and only errors of libraries."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(display.LogFormatter("%(message)s"))
    logging.basicConfig(handlers=[handler], level=logging.ERROR)
    logging.getLogger("dalm").setLevel(logging.INFO if is_main() else logging.ERROR)
    # PEFT 0.21 reads this attribute of transformers 5.23; users can't avoid it.
    warnings.filterwarnings("ignore", "`is_gradient_checkpointing` is deprecated")
    os.environ.setdefault("TRANSFORMERS_VERBOSITY", "error")
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "true")
