"""Declare options, group them in the help, and check their values before anything is loaded."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import Field, field, fields, is_dataclass
from functools import wraps
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

from dalm.errors import UserError

T = TypeVar("T")


def option(
    default: Any,
    *,
    least: float | None = None,
    over: float | None = None,
    most: float | None = None,
    needs: Mapping[str, Collection[Any] | None] | None = None,
    kept: bool = True,
) -> Any:
    """Declare a field with its default and the conditions that `check` enforces.

    A number has to be at least `least`, more than `over` and at most `most`. `needs` names the
    options without which this one has no effect, each with the values that give it one; None: any
    value that is set. `kept=False` leaves the field out of settings.yaml: a secret, or an option
    of a single start such as --dry-run.
    """
    return field(
        default=default,
        repr=kept,
        metadata={"least": least, "over": over, "most": most, "needs": needs or {}, "kept": kept},
    )


def panel(title: str) -> Callable[[type[T]], type[T]]:
    """Group the options of a class under `title` in the help."""

    def group(cls: type[T]) -> type[T]:
        hints = cls.__annotations__
        hints.update(
            {name: Annotated[hint, Parameter(group=title)] for name, hint in hints.items()}
        )
        return cls

    return group


def defaults_from(
    choose: Callable[[Mapping[str, Any]], Mapping[str, Any]],
) -> Callable[[type[T]], type[T]]:
    """Let given options choose the defaults of others in a dataclass; what is given wins."""

    def wrap(cls: type[T]) -> type[T]:
        plain = cls.__init__

        @wraps(plain)
        def init(self: T, **given: Any) -> None:
            plain(self, **{**choose(given), **given})

        cls.__init__ = init  # type: ignore[assignment, method-assign]
        return cls

    return wrap


def public(settings: object, **required: object) -> dict[str, object]:
    """Return inputs and options as plain values without secrets, as settings.yaml holds them."""
    assert is_dataclass(settings)
    options = {
        f.name: getattr(settings, f.name) for f in fields(settings) if f.metadata.get("kept", True)
    }
    return {**required, **options}


def check(settings: object) -> None:
    """Refuse numbers out of bounds, empty names, and options without effect.

    Raises:
        UserError: names the option, the value and the bound, or what it needs.
    """
    assert is_dataclass(settings)
    for f in fields(settings):
        value = getattr(settings, f.name)
        numbers = value if isinstance(value, list) else [value]
        if f.metadata and all(isinstance(each, int | float) for each in numbers):
            for number in numbers:
                _check_bounds(f, number)
        elif not f.name.endswith(("_column", "_prompt")):
            _check_blank(f.name, value)
    for f in fields(settings):
        if getattr(settings, f.name) != f.default:
            _check_needs(f, settings)


def _check_bounds(f: Field[Any], value: float) -> None:
    option = f"{spelled(f.name)} {value}"
    over, least, most = (f.metadata.get(name) for name in ("over", "least", "most"))
    if over is not None and not over < value < float("inf"):
        raise UserError(f"{option}: must be a number over {over}")
    if least is not None and not least <= value < float("inf"):
        raise UserError(f"{option}: must be a number of at least {least}")
    if most is not None and value > most:
        raise UserError(f"{option}: must be at most {most}")


def _check_blank(name: str, value: object) -> None:
    """Refuse an empty name or path: as a path it would be the working directory."""
    values = value if isinstance(value, list | tuple) else [value]
    if any(isinstance(each, str) and not each.strip() for each in values):
        raise UserError(f"{spelled(name)} is empty; name something, or leave it out")


def _check_needs(f: Field[Any], settings: object) -> None:
    """Refuse an option that was set without any of the options that give it an effect."""
    needs: dict[str, Any] = f.metadata.get("needs", {})
    present = {name: getattr(settings, name) for name in needs if hasattr(settings, name)}
    if not present or any(_has_effect(value, needs[name]) for name, value in present.items()):
        return
    remedies = [
        spelled(name) if needs[name] is None else f"{spelled(name)} {' or '.join(needs[name])}"
        for name in present
    ]
    raise UserError(
        f"{spelled(f.name)} has no effect without {' or '.join(remedies)}; add it or leave out "
        f"{spelled(f.name)}"
    )


def _has_effect(value: Any, values: Collection[Any] | None) -> bool:
    if values is None:
        return bool(value)
    return any(each in values for each in (value if isinstance(value, list) else [value]))


def spelled(name: str) -> str:
    """Return an option's name as on the command line."""
    return f"--{name.replace('_', '-')}"
