"""What an error says, as a part of a line."""

import errno
import os

import pytest
import yaml

from dalm.errors import reason_of


def broken_yaml() -> Exception:
    with pytest.raises(yaml.YAMLError) as raised:
        yaml.safe_load("a: [1")
    return raised.value


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (ValueError("no  such\tmodel."), "no such model"),
        (ValueError("\n  the cause\n\nparagraphs of advice\n"), "the cause"),
        (ValueError("Error(s) in loading:\n\tone\n\ttwo"), "Error(s) in loading: one two"),
        (ValueError("x" * 1000), "x" * 300),
        (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), "a.csv"), os.strerror(errno.ENOSPC)),
        (broken_yaml(), "expected ',' or ']', but got '<stream end>'"),
        (RecursionError("maximum recursion depth exceeded"), "nested too deeply"),
        (NotImplementedError(), "NotImplementedError"),
    ],
)
def test_the_line_that_names_the_cause(error: Exception, said: str) -> None:
    assert reason_of(error) == said
