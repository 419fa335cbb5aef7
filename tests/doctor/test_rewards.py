"""Sound losses of many kinds are trusted, and mistaken ones are not; PyTorch computes them."""

import numpy as np
import pytest
import torch
from torch.nn import functional

from fanin.doctor.rewards import (
    blind_below,
    blind_to_outputs,
    blind_to_pairs,
    blind_to_size,
    blind_to_targets,
    floor_of,
    is_for_shares,
    rewards_distance,
    rewards_right,
    uneven,
    wants_logits,
)

RNG = np.random.default_rng(5)
COUNT, KINDS = 24, 4
CLASSES = np.arange(COUNT) % KINDS
SHARES = RNG.dirichlet(np.ones(KINDS), COUNT).astype(np.float32)
YES = (np.arange(COUNT) % 3 == 0).astype(np.float32)
SIGNS = 2 * YES - 1
NUMBERS = RNG.normal(size=(COUNT, 1)).astype(np.float32)
COUNTS = RNG.poisson(3.0, (COUNT, 1)).astype(np.float32)
WORDS = RNG.integers(0, 6, (COUNT, 5))


def of_torch(function):
    """A loss of PyTorch as a function of arrays."""
    return lambda outputs, y: float(function(torch.from_numpy(np.array(outputs)), torch.from_numpy(np.array(y))))


def focal(z, y):
    chance = z.log_softmax(1).gather(1, y[:, None])[:, 0]
    return -((1 - chance.exp()) ** 2 * chance).mean()


def dice(z, y):
    p = z.sigmoid()
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def contrastive(distance, y):
    return (y * distance**2 + (1 - y) * functional.relu(1 - distance) ** 2).mean()


def quantile(z, y):
    return torch.maximum(0.9 * (y - z), 0.1 * (z - y)).mean()


SOUND = {
    "focal": (focal, (COUNT, KINDS), CLASSES),
    "smoothed": (lambda z, y: functional.cross_entropy(z, y, label_smoothing=0.2), (COUNT, KINDS), CLASSES),
    "weighed": (lambda z, y: functional.cross_entropy(z, y, torch.tensor([1.0, 50.0, 3.0, 1.0])), (COUNT, KINDS),
                CLASSES),
    "margins": (functional.multi_margin_loss, (COUNT, KINDS), CLASSES),
    "words": (lambda z, y: functional.cross_entropy(z.transpose(1, 2), y), (COUNT, 5, 6), WORDS),
    "divergence": (lambda z, y: functional.kl_div(z, y, reduction="batchmean"), (COUNT, KINDS), SHARES),
    "dice": (dice, (COUNT,), YES),
    "contrastive": (contrastive, (COUNT,), YES),
    "soft margin": (functional.soft_margin_loss, (COUNT,), SIGNS),
    "hinge": (lambda z, y: functional.relu(1 - y * z).mean(), (COUNT,), SIGNS),
    "critic": (lambda z, y: -(z * y).mean(), (COUNT,), SIGNS),
    "quantile": (quantile, (COUNT, 1), NUMBERS),
    "log-cosh": (lambda z, y: torch.log(torch.cosh(z - y)).mean(), (COUNT, 1), NUMBERS),
    "likelihood": (lambda z, y: -torch.distributions.Normal(z, 0.5).log_prob(y).mean(), (COUNT, 1), NUMBERS),
    "counts": (lambda z, y: functional.poisson_nll_loss(z, y), (COUNT, 1), COUNTS),
    "logarithms": (lambda z, y: ((z.clamp(min=0) + 1).log() - (y + 1).log()).square().mean(), (COUNT, 1), COUNTS),
    "cosines": (lambda z, y: 1 - functional.cosine_similarity(z, y).mean(), (COUNT, KINDS), SHARES - 0.2),
    "shares of the error": (lambda z, y: ((z - y) / y).abs().mean(), (COUNT, 1), np.abs(NUMBERS) + 0.1),
}  # fmt: skip


@pytest.mark.parametrize("name", SOUND)
def test_a_sound_loss_is_trusted(name):
    function, shape, targets = SOUND[name]
    loss = of_torch(function)
    assert rewards_right(loss, shape, targets) is not False
    assert not rewards_distance(loss, shape, targets)
    assert not blind_to_size(loss, shape, targets)
    assert not blind_to_targets(loss, shape, targets)
    assert blind_below(loss, shape, targets) == 0
    assert uneven(loss, shape, targets)[0] < 1000
    assert not blind_to_pairs(loss, shape, targets)
    assert not is_for_shares(loss, shape, targets)
    assert floor_of(loss, shape, targets) < 0.1


@pytest.mark.parametrize(("function", "shape", "targets"), [
    (functional.soft_margin_loss, (COUNT,), YES),
    (lambda z, y: functional.cross_entropy(z.reshape(COUNT, 6, 5), y), (COUNT, 5, 6), WORDS),
    (lambda z, y: functional.cross_entropy(z, y.flip(0)), (COUNT, KINDS), CLASSES),
    (lambda z, y: -functional.cross_entropy(z, y), (COUNT, KINDS), CLASSES),
], ids=["noughts", "axes", "other labels", "sign"])  # fmt: skip
def test_a_loss_that_does_not_ask_for_right_answers(function, shape, targets):
    assert rewards_right(of_torch(function), shape, targets) is False


def overlap(p, y):
    """Dice of probabilities."""
    return 1 - (2 * (p * y).sum() + 1) / (p.sum() + y.sum() + 1)


def test_a_loss_that_squashes_twice_has_a_floor():
    """The oracle: sigmoids of 0 and 1 in the cross-entropy, over the cross-entropy of a half."""
    twice = of_torch(lambda z, y: functional.binary_cross_entropy_with_logits(z.sigmoid(), y))
    sure = np.mean(np.where(YES == 1, np.log1p(np.exp(-1.0)), np.log(2.0)))
    unsure = np.mean(np.where(YES == 1, np.log1p(np.exp(-0.5)), np.log1p(np.exp(0.5))))
    assert floor_of(twice, (COUNT,), YES) == pytest.approx(sure / unsure, rel=1e-4)
    shares = of_torch(lambda z, y: functional.cross_entropy(z.softmax(1), y))
    assert floor_of(shares, (COUNT, KINDS), CLASSES) == pytest.approx(
        np.log1p(3 * np.exp(-1.0)) / np.log(KINDS), rel=1e-4
    )


def test_what_a_loss_takes_shows_in_answers_between_0_and_1_and_beyond():
    assert is_for_shares(of_torch(overlap), (COUNT,), YES)
    assert not is_for_shares(of_torch(functional.mse_loss), (COUNT,), YES)
    assert not is_for_shares(of_torch(functional.soft_margin_loss), (COUNT,), YES)  # a wrong loss in another way
    assert not wants_logits(of_torch(overlap), (COUNT,), YES)
    assert wants_logits(of_torch(functional.binary_cross_entropy_with_logits), (COUNT,), YES)
    assert wants_logits(of_torch(focal), (COUNT, KINDS), CLASSES)
    assert not wants_logits(of_torch(functional.mse_loss), (COUNT,), YES)


def test_a_turned_sign_shows_where_outputs_are_probabilities():
    turned = of_torch(lambda p, y: 1 - overlap(p, y))
    assert rewards_right(turned, (COUNT,), YES) is True  # as a distance, for all that is known
    assert rewards_right(turned, (COUNT,), YES, shares=True) is False
    assert rewards_right(of_torch(overlap), (COUNT,), YES, shares=True) is True


def test_outputs_that_meet_all_targets():
    crossed = of_torch(lambda z, y: (z[:, 0] - y).square().mean())
    assert blind_to_pairs(crossed, (COUNT, 1), NUMBERS)
    assert not blind_to_pairs(of_torch(lambda z, y: z.square().mean()), (COUNT, 1), NUMBERS)
    cosine = of_torch(lambda z, y: -functional.cosine_similarity(z, y).mean())
    assert not blind_to_pairs(cosine, (COUNT, 1), NUMBERS)  # it sees signs alone, but whose they are
    alone = of_torch(lambda z, y: -(y * z.log_softmax(1)).mean() + y.sum())
    assert not blind_to_pairs(alone, (COUNT, 1), NUMBERS)  # no output changes it


def test_what_cannot_be_judged_is_not():
    assert rewards_right(of_torch(functional.mse_loss), (COUNT, 1), NUMBERS) is None
    assert rewards_right(of_torch(functional.cross_entropy), (COUNT, KINDS), np.zeros(COUNT, int)) is None
    assert rewards_right(of_torch(lambda z, y: z["logits"]), (COUNT, KINDS), CLASSES) is None


def test_a_turned_sign_a_blind_loss_and_one_example_for_all():
    assert rewards_distance(of_torch(lambda z, y: -functional.mse_loss(z, y)), (COUNT, 1), NUMBERS)
    cosine = of_torch(lambda z, y: -functional.cosine_similarity(z, y).mean())
    assert blind_to_size(cosine, (COUNT, 1), NUMBERS)
    assert blind_to_targets(of_torch(lambda z, y: (z - z.mean()).square().mean()), (COUNT, 1), NUMBERS)
    clipped = of_torch(lambda z, y: ((z.clamp(min=0) + 1).log() - (y.clamp(min=0) + 1).log()).square().mean())
    assert blind_below(clipped, (COUNT, 1), NUMBERS) == pytest.approx(np.mean(NUMBERS < 0))
    near = NUMBERS.copy()
    near[7] = 1e-6
    factor, example = uneven(of_torch(lambda z, y: ((z - y) / y).abs().mean()), (COUNT, 1), near)
    assert example == 7
    middle = np.median(1 / np.abs(near))
    assert factor == pytest.approx(1e6 / middle, rel=0.2)  # the error at 7 is added to others that are exact


def test_a_loss_is_blind_to_outputs_if_nothing_changes_it() -> None:
    y = np.random.default_rng(3).normal(size=(12, 1))
    assert blind_to_outputs(lambda out, y: 0.3, (12, 1), y)
    assert blind_to_outputs(lambda out, y: float(np.log(np.exp(out).sum(1) / np.exp(out[:, 0])).mean()), (12, 1), y)
    assert not blind_to_outputs(lambda out, y: float((np.sign(out) * y).mean()), (12, 1), y)  # it sees signs
    for size in (1.0, 1e4, 1e9):
        assert not blind_to_outputs(lambda out, y: float(((out - y.astype(np.float32)) ** 2).mean()), (12, 1), size * y)
    assert not blind_to_outputs(lambda out, y: 1 / 0, (12, 1), y)
