"""Rows that fit into no prompt, and what helps."""

import numpy as np
import pytest

from dalm.errors import UserError
from dalm.models import loading
from dalm.models.generator import load_generator
from dalm.training.data.usable_rows import fitting


@pytest.fixture(scope="module")
def generator(tiny_models):
    return load_generator(str(tiny_models.generator), loading.place("cpu", "fp32"), max_length=100)


def rows(generator, length: int) -> list[np.ndarray]:
    """Return one question that makes a prompt without an answer so long."""
    return [np.zeros(length - generator.frame.overhead(1), np.int32)]


def test_a_length_that_keeps_all_rows_is_named(generator):
    with pytest.raises(UserError, match="use --generator-max-len 150 to keep all"):
        fitting(rows(generator, 150), [np.zeros(0, np.int32)], generator)
    assert fitting(rows(generator, 100), [np.zeros(0, np.int32)], generator) == [0]


def test_no_length_is_named_that_the_generator_does_not_take(generator):
    assert generator.longest == 256
    with pytest.raises(UserError, match="all need 300 tokens, and the generator takes at most 256"):
        fitting(rows(generator, 300), [np.zeros(0, np.int32)], generator)
