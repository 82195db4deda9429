"""How an option is declared: its default, the numbers that mean something, what it needs."""

from collections.abc import Callable, Collection, Mapping
from dataclasses import field
from typing import Annotated, Any, TypeVar

from cyclopts import Parameter

T = TypeVar("T")


def panel(title: str) -> Callable[[type[T]], type[T]]:
    """Group the options of a class under `title` in the help."""

    def group(cls: type[T]) -> type[T]:
        hints = cls.__annotations__
        hints.update(
            {name: Annotated[hint, Parameter(group=title)] for name, hint in hints.items()}
        )
        return cls

    return group


def option(
    default: Any,
    *,
    least: float | None = None,
    over: float | None = None,
    most: float | None = None,
    needs: Mapping[str, Collection[Any] | None] | None = None,
    kept: bool = True,
) -> Any:
    """Declare an option's default and what `check` holds it to.

    A number is at least `least`, more than `over`, at most `most`. `needs` names options without
    which this one has no effect, each with the values that give it one; None: any that is set.
    `kept=False` leaves it out of settings.yaml: a secret, or what is said about one start of a run.
    """
    return field(
        default=default,
        repr=kept,
        metadata={"least": least, "over": over, "most": most, "needs": needs or {}, "kept": kept},
    )
