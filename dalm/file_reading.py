"""Read small files of settings and state, whatever is in them: an error says what is wrong.

Any of them may be cut short, overwritten, or something else than a file.
"""

import json
import logging
import math
import os
import types
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import MISSING, fields
from pathlib import Path
from typing import Annotated, Any, TypeVar, Union, get_args, get_origin, get_type_hints

import yaml

from dalm.errors import UserError, reason_of

logger = logging.getLogger(__name__)
T = TypeVar("T")

MOST_BYTES = {"YAML": 1_000_000, "JSON": 100_000_000}
"""Sizes beyond which a file is none of these: YAML is read at about a megabyte a second."""
_REMEDY = "write it again, or delete it"
_BROKEN = (ValueError, TypeError, LookupError, AttributeError, RecursionError, OverflowError)


class DamagedError(UserError):
    """Report a file that this package wrote and that is no longer what it wrote."""


def user_path(name: str | Path) -> Path:
    """Return the path that a user named; `~` is the home folder, where there is one."""
    return Path(os.path.expanduser(name))  # noqa: PTH111 - pathlib's raises for an unknown user


# Texts and their formats


def read_text(path: Path, language: str = "JSON") -> str:
    """Return the text of a file.

    Raises:
        ValueError: a folder, device or pipe, too large, or not UTF-8.
        OSError: it can't be opened.
    """
    if not path.is_file():
        path.stat()  # raises if there is none
        raise ValueError(f"a {'folder' if path.is_dir() else 'device or pipe'}, not a file")
    if (size := path.stat().st_size) > MOST_BYTES[language]:
        raise ValueError(f"{size / 1e6:,.0f} MB, too large for {language} of this kind")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 at byte {error.start + 1}") from error


class _Loader(yaml.SafeLoader):
    """Load YAML without aliases, a few lines of which can stand for billions of values."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "an alias; write its value out", mark)
        return super().compose_node(parent, index)


def parse_yaml(text: str) -> Any:
    """Return what a YAML text stands for; None for an empty one.

    Raises:
        ValueError: it isn't YAML, or has aliases; names the line.
    """
    try:
        return yaml.load(text, _Loader)
    except (*_BROKEN, yaml.YAMLError) as error:
        mark = getattr(error, "problem_mark", None)
        place = f"line {mark.line + 1}: " if mark else ""
        raise ValueError(f"{place}not YAML ({reason_of(error)})") from error


def parse_json(text: str | bytes) -> Any:
    """Return what a JSON text stands for.

    Raises:
        ValueError: it isn't JSON.
    """
    try:
        return json.loads(text)
    except _BROKEN as error:
        raise ValueError(reason_of(error)) from error


# Files that this package wrote


def read_json(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """Read a JSON object; raises as `read_json_as` does."""
    return _read(path, "JSON", parse_json, dict, remedy)


def read_json_as(path: Path, kind: type[T], remedy: str = _REMEDY) -> T:
    """Read a JSON value that isn't an object: a list, a text.

    Raises:
        DamagedError: it can't be read, is no JSON, or of another kind; `remedy` says what to do.
    """
    return _read(path, "JSON", parse_json, kind, remedy)


def read_yaml(path: Path, remedy: str = _REMEDY) -> dict[str, Any]:
    """Read a YAML mapping; raises as `read_json_as` does."""
    return _read(path, "YAML", parse_yaml, dict, remedy)


def read_jsonl(
    path: Path, remedy: str = _REMEDY, *, torn: bool = False
) -> Iterator[tuple[int, dict[str, Any]]]:
    """Yield the objects of a JSON lines file with their line numbers.

    With `torn` a last line without its line end is left out: its writer was killed.

    Raises:
        DamagedError: names the first line that is no JSON object; `remedy` says what to do.
    """
    with _guarded(path, remedy), path.open("rb") as lines:
        for number, line in enumerate(lines, start=1):
            if torn and not line.endswith(b"\n"):
                logger.warning("%s: its last line is cut short; it is left out", path)
                return
            yield number, _parsed(f"{path}, line {number}", line, parse_json, dict, remedy)


def read_record(path: Path, kind: type[T], remedy: str = _REMEDY) -> T:
    """Read a JSON object as a dataclass; what it has beside the fields is left out.

    Raises:
        DamagedError: as `read_json_as`; a field without a default is missing, or of another type.
    """
    return record_from(read_json(path, remedy), kind, str(path), remedy)


def record_from(content: object, kind: type[T], where: str, remedy: str = _REMEDY) -> T:
    """Return the dataclass `kind` from an object's values, whose types are its annotations.

    `Annotated[int, 1]` is a number of at least 1.

    Raises:
        DamagedError: it is no object, or a field without a default is missing or of another type.
    """
    if not isinstance(content, dict):
        raise DamagedError(f"{where} is damaged (it is {content!r:.40}); {remedy}")
    hints = get_type_hints(kind, include_extras=True)
    values = {}
    for field in fields(kind):  # type: ignore[arg-type]
        if field.name in content:
            value = values[field.name] = content[field.name]
            if not _is_a(value, hints[field.name]):
                problem = f"{field.name} is {value!r:.60}"
                raise DamagedError(f"{where} is damaged ({problem}); {remedy}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise DamagedError(f"{where} is damaged (it has no {field.name}); {remedy}")
    return kind(**values)


def _is_a(value: Any, hint: Any) -> bool:
    """Tell whether a JSON value has a type as it is annotated."""
    origin, inner = get_origin(hint), get_args(hint)
    if origin is Annotated:
        return _is_a(value, inner[0]) and (value is None or value >= inner[1])
    if origin in (Union, types.UnionType):
        return any(_is_a(value, each) for each in inner)
    if origin is list:
        return isinstance(value, list) and all(_is_a(each, inner[0]) for each in value)
    if origin is dict:
        return isinstance(value, dict) and all(_is_a(each, inner[1]) for each in value.values())
    if hint is float:
        return type(value) in (int, float) and math.isfinite(value)
    return hint is Any or type(value) is hint or (hint is type(None) and value is None)


def _read(path: Path, language: str, parse: Callable[[str], Any], kind: type[T], remedy: str) -> T:
    with _guarded(path, remedy):
        text = read_text(path, language)
    return _parsed(path, text, parse, kind, remedy)


@contextmanager
def _guarded(path: Path, remedy: str) -> Iterator[None]:
    try:
        yield
    except DamagedError:
        raise
    except (OSError, ValueError) as error:
        raise DamagedError(f"{path} can't be read ({reason_of(error)}); {remedy}") from error


def _parsed(
    where: Any, text: str | bytes, parse: Callable[[Any], Any], kind: type[T], remedy: str
) -> T:
    try:
        found = parse(text)
    except ValueError as error:
        raise DamagedError(f"{where} is damaged ({reason_of(error)}); {remedy}") from error
    if type(found) is not kind:
        expected = "object" if kind is dict else kind.__name__
        problem = "empty" if found is None else f"a {type(found).__name__}, no {expected}"
        raise DamagedError(f"{where} is damaged ({problem}); {remedy}")
    return found
