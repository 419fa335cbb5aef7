"""Numbers in sentences, against closed forms."""

import math

import pytest
from fanin_docs.numbers import NUMBERS, computed
from scipy.stats import norm

CLOSED = {
    "gain relu": math.sqrt(2),
    "gain tanh pytorch": 5 / 3,
    "squared-gain relu": 2.0,
    "factor relu 3": 1.5,
    "signal relu 1 50": 2.0**-50,
    "gradient relu 3 4": 1.5**4,
    "k-star gelu": (3 + math.sqrt(17)) / 2,
    "batch-norm-growth relu": math.pi / (math.pi - 1),
    "cut-normal 2": math.sqrt(1 - 4 * norm.pdf(2) / (norm.cdf(2) - norm.cdf(-2))),
    "sigma_w2 0.01 784": 0.0784,
    "smallest-p 5": 1 / 16,
    "log 10": math.log(10),
    "cosine relu 2 1": (math.sin(math.pi / 3) + (math.pi - math.pi / 3) * 0.5) / math.pi,
    "edge relu 0": 2.0,
    "edge tanh 0.05": 1.7609546396,
    "depth-scale tanh 1 0.05": 3.626976,
}
"""Cho and Saul 2009 for the cosine; the last two were computed by quadrature in another program."""


@pytest.mark.parametrize(("words", "value"), CLOSED.items())
def test_numbers_are_those_of_closed_forms(words: str, value: float) -> None:
    name, *arguments = words.split()
    assert NUMBERS[name](*arguments) == pytest.approx(value, rel=2e-7)


def test_every_number_is_tested() -> None:
    assert {words.split()[0] for words in CLOSED} == {*NUMBERS}


def test_small_and_large_numbers_are_typeset() -> None:
    assert computed("signal relu 1 50") == "8.882 × 10⁻¹⁶"
    assert computed("signal relu 3 50") == "6.376 × 10⁸"
    assert computed("gain relu") == "1.414"


def test_an_unknown_number_is_refused() -> None:
    with pytest.raises(LookupError, match="no number 'gian'"):
        computed("gian tanh")
