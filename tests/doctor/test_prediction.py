"""What theory says of a stack's real weights, against the sizes that real runs of PyTorch show."""

import numpy as np
import pytest
import torch
from torch import nn

import fanin
from fanin.doctor.facts import Facts
from fanin.doctor.prediction import predicted
from fanin.patients import admitted

DEPTH, WIDTH = 6, 40
X, Y = torch.randn(48, 30, generator=torch.Generator().manual_seed(3)), torch.arange(48) % 7


def stack(activation, gain, *between, seed=0):
    torch.manual_seed(seed)
    layers = [nn.Linear(30, WIDTH), activation()]
    for _ in range(DEPTH - 1):
        layers += [*(each() for each in between), nn.Linear(WIDTH, WIDTH), activation()]
    model = nn.Sequential(*layers, nn.Linear(WIDTH, 7))
    with torch.no_grad():
        for each in model.parameters():
            each.normal_(0, gain / np.sqrt(each.shape[-1])) if each.dim() > 1 else each.normal_(0, 0.01)
    return model


def facts_of(model):
    patient, _ = admitted(model, X, Y, loss=None, optimizer=None, steps=0, seconds=1.0, seed=0)
    return Facts(patient)


@pytest.mark.parametrize(("activation", "gain"), [(nn.Tanh, 3.0), (nn.ReLU, 0.7)])
def test_most_draws_lie_in_the_interval(activation, gain):
    """Of 12 draws 9 or more: 95 % intervals fail that in 1 run of 4000; they are wide for the mean over a batch."""
    inside = np.zeros(2)
    for seed in range(12):
        facts = facts_of(stack(activation, gain, seed=seed))
        first, last = facts.hidden[0], facts.hidden[-1]
        found, vitals = predicted(facts, first, last), facts.vitals
        measured = (vitals.signal_rms[last] / vitals.signal_rms[first],
                    vitals.gradient_rms[first] / vitals.gradient_rms[last])  # fmt: skip
        inside += [
            low <= each <= high for (low, high), each in zip((found.signal, found.gradient), measured, strict=True)
        ]
        assert all(high < 200 * low for low, high in (found.signal, found.gradient))
    assert inside.min() >= 9


@pytest.mark.parametrize("between", [lambda: nn.LayerNorm(WIDTH), lambda: nn.Dropout(0.3)])
def test_other_than_plain_stacks_have_no_prediction(between):
    facts = facts_of(stack(nn.Tanh, 1.0, between))
    assert predicted(facts, facts.hidden[0], facts.hidden[-1]) is None


def test_a_gradient_that_vanishes_is_held_against_theory():
    found = fanin.check(stack(nn.Tanh, 0.2), X, Y, steps=0).findings
    words = next(each for one in found for each in (one.observed, *one.symptoms) if "gradient shrinks" in each)
    low, high = (float(each) for each in words.split("of these sizes: ")[1].rstrip(")").split(" to "))
    assert low < float(words.split("factor of ")[1].split()[0]) < high
