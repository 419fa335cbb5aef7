"""Training loops that are watched, against what the loop itself writes down."""

import math

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from fanin.torch.watch import Course, watching
from tests.torch.networks import numbers


def network():
    torch.manual_seed(0)
    return nn.Sequential(
        nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4), nn.ReLU(inplace=True), nn.Flatten(), nn.Linear(144, 9), nn.ReLU(),
        nn.Linear(9, 2),
    )  # fmt: skip


X, Y = numbers(6, 3, 8, 8), torch.tensor([0, 1, 1, 0, 1, 0])


def loop(model, optimizer, steps, tell=lambda loss: None, kept=None):
    """A plain loop; `kept` gets each step's values before and after."""
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = functional.cross_entropy(model(X), Y)
        loss.backward()
        tell(loss)
        losses.append(float(loss.detach()))
        before = {path: each.detach().clone() for path, each in model.named_parameters()}
        optimizer.step()
        if kept is not None:
            kept.append((before, {path: each.detach().clone() for path, each in model.named_parameters()}))
    return losses


def test_losses_and_updates_are_those_of_the_loop_and_nothing_of_it_changes():
    model, twin, kept = network(), network(), []
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    with watching(model, optimizer) as watch:
        losses = loop(model, optimizer, 5, watch.loss, kept)
    assert loop(twin, torch.optim.Adam(twin.parameters(), lr=0.01), 5) == losses
    assert watch.course.losses == pytest.approx(losses)
    for path in dict(model.named_parameters()):
        ratios = [
            np.log10(np.sqrt(np.square((new[path] - old[path]).numpy()).mean() / np.square(old[path].numpy()).mean()))
            for old, new in kept
            if old[path].any()
        ]
        np.testing.assert_allclose(watch.course.updates[path][-len(ratios) :], ratios, rtol=1e-3)
    assert watch.course.updates["1.bias"][0] == math.inf  # it began at zero
    loop(model, optimizer, 1)
    assert len(watch.course.losses) == 5
    assert not any(each._forward_hooks for each in model.modules())
    assert not optimizer._optimizer_step_pre_hooks
    assert not optimizer._optimizer_step_post_hooks


def test_a_unit_is_dead_if_it_gives_zero_for_every_example_and_place():
    model = network()
    with torch.no_grad():
        model[1].bias[1] = -100.0
        model[4].bias[[2, 5, 7]] = -1000.0
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watching(model, optimizer) as watch:
        loop(model, optimizer, 2)
    assert watch.course.dead["2"] == (0.25, 0.25)
    inner = model[:5](X)
    dead = float((inner <= 0).all(0).float().mean())
    assert dead >= 3 / 9
    assert watch.course.dead["5"] == pytest.approx((dead, dead))


def test_batches_of_one_step_are_taken_together_and_other_modes_do_not_count():
    model, x = nn.Sequential(nn.Linear(1, 2), nn.ReLU()), torch.ones(3, 1)
    with torch.no_grad():
        model[0].weight.copy_(torch.tensor([[1.0], [-1.0]]))
        model[0].bias.zero_()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.0)
    with watching(model, optimizer) as watch:
        for batches in ([x, -x], [x]):
            for batch in batches:
                loss = model(batch).sum()
                loss.backward()
                watch.loss(loss)
            with torch.no_grad():
                model(-x)
            model.eval()(-x)
            model.train()
            optimizer.step()
    assert watch.course.dead["1"] == (0.0, 0.5)
    assert watch.course.losses == (3.0, 3.0)


def test_a_loss_told_after_the_step_belongs_to_it():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watching(model, optimizer) as watch:
        losses = []
        for _ in range(3):
            losses += loop(model, optimizer, 1)
            watch.loss(losses[-1])
        loop(model, optimizer, 1)
    assert watch.course.losses[:3] == pytest.approx(losses)
    assert math.isnan(watch.course.losses[3])


def spoil(model):
    with torch.no_grad():
        model[4].weight[0, 0] = math.inf


def test_the_first_place_that_is_not_finite_is_named():
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watching(model, optimizer) as watch:
        loop(model, optimizer, 2, watch.loss)
        assert (watch.course.infinite_step, watch.course.infinite_place) == (None, "")
        spoil(model)
        loop(model, optimizer, 3, watch.loss)
    assert (watch.course.infinite_step, watch.course.infinite_place) == (2, "output of 4")


@pytest.mark.parametrize(
    ("where", "place"), [("loss", "loss"), ("gradient", "gradient of 0.weight"), ("step", "0.weight")]
)
def test_losses_gradients_and_steps_that_are_not_finite(where, place):
    model, x = nn.Sequential(nn.Linear(3, 2, bias=False)), numbers(5, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e38 if where == "step" else 0.1)
    with watching(model, optimizer) as watch:
        loss = model(x).square().sum() * (math.inf if where == "loss" else 1.0)
        watch.loss(loss)
        (loss * 1e3).backward()
        if where == "gradient":
            model[0].weight.grad[1, 2] = math.nan
        optimizer.step()
    assert (watch.course.infinite_step, watch.course.infinite_place) == (0, place)


def test_a_parameter_without_gradient_has_no_update_and_nothing_is_a_course_as_well():
    model = nn.Sequential(nn.Linear(3, 2), nn.Linear(2, 2).requires_grad_(False))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    with watching(model, optimizer) as watch:
        assert watch.course == Course()
        model(numbers(5, 3)).sum().backward()
        optimizer.step()
    assert list(watch.course.updates) == ["0.weight", "0.bias"]


def test_an_optimizer_that_finds_gradients_while_it_steps():
    model, x = nn.Linear(3, 2), numbers(5, 3)
    optimizer = torch.optim.LBFGS(model.parameters(), max_iter=2)

    def closure():
        optimizer.zero_grad()
        loss = (model(x) - 1).square().mean()
        loss.backward()
        watch.loss(loss)
        return loss

    with watching(model, optimizer) as watch:
        optimizer.step(closure)
    assert math.isfinite(watch.course.updates["weight"][0])
    assert math.isfinite(watch.course.losses[0])
