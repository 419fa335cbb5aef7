"""What people hand in to `fanin.check`: targets, inputs, outputs and losses of all kinds, on sound networks."""

import math

import jax
import pytest
import torch
from flax import nnx
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional

import fanin
from fanin.errors import FaninError, ModelError

DIGITS = load_digits()
X = torch.tensor(DIGITS.data[:120] / 16 - 0.3, dtype=torch.float32)
Y = torch.tensor(DIGITS.target[:120] % 3)


def network(outputs=3, inputs=64):
    torch.manual_seed(2)
    return nn.Sequential(nn.Linear(inputs, 24), nn.ReLU(), nn.Linear(24, outputs))


def warned(model, x, y, loss, optimizer="adam(lr=0.01)", steps=30):
    """The codes of errors and warnings."""
    found = fanin.check(model, x, y, loss=loss, optimizer=optimizer, steps=steps).findings
    return [each.code for each in found if each.severity != "info"]


class Heads(nn.Module):
    """Classes and a number, as a tuple or by name."""

    def __init__(self, named=False):
        super().__init__()
        self.body, self.classes, self.number, self.named = network(16), nn.Linear(16, 3), nn.Linear(16, 1), named

    def forward(self, x):
        h = torch.relu(self.body(x))
        found = {"kind": self.classes(h), "size": self.number(h)}
        return found if self.named else tuple(found.values())


SIZE = X[:, 20:21]


@pytest.mark.parametrize("squashed", [False, True])
def test_one_of_several_outputs_that_ends_before_its_targets(squashed):
    class Critic(nn.Module):
        def __init__(self):
            super().__init__()
            self.body, self.actor, self.critic = network(16), nn.Linear(16, 4), nn.Linear(16, 1)

        def forward(self, x):
            h = torch.tanh(self.body(x))
            value = self.critic(h)
            return self.actor(h), torch.tanh(value) if squashed else value

    def loss(outputs, returns):
        scores, value = outputs
        return functional.mse_loss(value, returns) + 0.01 * (scores.softmax(-1) * scores.log_softmax(-1)).sum(-1).mean()

    assert warned(Critic(), X, 20 * SIZE, loss, "adam(lr=0.03)") == ["targets-out-of-range"] * squashed


COUNTS = (X[:, 20] * 16).round().long()


@pytest.mark.parametrize(("end", "targets", "taken"), [
    ((), Y, "cross_entropy is taken, for logits"),
    ((nn.LogSoftmax(1),), Y, "cross_entropy is taken, for logits"),
    ((nn.Linear(3, 1),), (Y == 1).long(), "binary_cross_entropy_with_logits is taken, for logits"),
    ((nn.Linear(3, 1), nn.Sigmoid()), (Y == 1), "binary_cross_entropy is taken, for probabilities"),
    ((nn.Linear(3, 1),), COUNTS, "mse_loss is taken, for numbers"),
    ((nn.Linear(3, 1),), SIZE, "mse_loss is taken, for numbers"),
    ((nn.Linear(3, 12), nn.Unflatten(1, (4, 3))), Y[:, None].repeat(1, 4), "cross_entropy is taken, for logits"),
], ids=["logits", "logarithms", "one logit", "one probability", "counts", "numbers", "words"])  # fmt: skip
def test_without_a_loss_one_is_taken_that_fits(end, targets, taken):
    found = fanin.check(nn.Sequential(network(), *end), X, targets, optimizer="adam(lr=0.01)")
    assert taken in found.notes[0]
    assert [each.code for each in found.findings if each.severity == "error"] == []


@pytest.mark.parametrize("end", [lambda outputs: outputs, jax.nn.sigmoid])
def test_flax_without_a_loss(end):
    class Net(nnx.Module):
        def __init__(self):
            self.first, self.last = nnx.Linear(64, 24, rngs=nnx.Rngs(0)), nnx.Linear(24, 1, rngs=nnx.Rngs(1))

        def __call__(self, x):
            return end(self.last(nnx.relu(self.first(x))))

    found = fanin.check(Net(), X.numpy(), (Y == 1).long().numpy(), optimizer="adam(learning_rate=0.01)")
    assert found.ok
    assert f"for {'probabilities' if end is jax.nn.sigmoid else 'logits'}" in found.notes[0]


@pytest.mark.parametrize("named", [False, True])
def test_several_targets(named):
    def loss(outputs, targets):
        a, b = ("kind", "size") if named else (0, 1)
        return functional.cross_entropy(outputs[a], targets[a]) + functional.mse_loss(outputs[b], targets[b])

    targets = {"kind": Y, "size": SIZE} if named else (Y, SIZE)
    assert warned(Heads(named), X, targets, loss) == []
    with pytest.raises(FaninError, match="these targets have no usual one"):
        fanin.check(Heads(named), X, targets)


@pytest.mark.parametrize(("targets", "loss"), [
    (Y == 1, lambda out, y: functional.binary_cross_entropy_with_logits(out[:, 0], y.float())),
    ((Y == 1).bfloat16(), lambda out, y: functional.binary_cross_entropy_with_logits(out[:, 0], y.float())),
    (Y.int(), lambda out, y: functional.cross_entropy(out, y.long())),
    (Y.tolist(), lambda out, y: functional.cross_entropy(out, torch.as_tensor(y))),
], ids=["truth values", "bfloat16", "int32", "a list"])  # fmt: skip
def test_targets_of_other_types(targets, loss):
    outputs = 3 if len(set(torch.as_tensor(targets).tolist())) == 3 else 1
    assert warned(network(outputs), X, targets, loss) == []


def test_inputs_that_want_a_gradient_lists_of_inputs_and_half_of_a_precision():
    assert warned(network(), X.clone().requires_grad_(), Y, "cross_entropy") == []
    assert warned(network().bfloat16(), X.bfloat16(), Y, "cross_entropy") == []

    class Two(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network(3, 64)

        def forward(self, parts):
            return self.layers(torch.cat(parts, 1))

    assert warned(Two(), [X[:, :40], X[:, 40:]], Y, "cross_entropy") == []


def test_a_model_that_returns_its_loss_alone():
    class Own(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network()

        def forward(self, x, y):
            return functional.cross_entropy(self.layers(x), y)

    found = fanin.check(Own(), (X, Y), loss=lambda loss, _: loss, optimizer="adam(lr=0.01)", steps=30)
    assert found.ok
    assert found.trial.losses[-1] < 0.5 * found.trial.losses[0]


def test_a_model_that_returns_a_distribution():
    class Law(nn.Module):
        def __init__(self):
            super().__init__()
            self.middle, self.spread = network(1), nn.Linear(64, 1)

        def forward(self, x):
            return torch.distributions.Normal(self.middle(x), functional.softplus(self.spread(x)))

    assert warned(Law(), X, SIZE, lambda law, y: -law.log_prob(y).mean()) == []


@pytest.mark.parametrize("compiled", [torch.jit.script, lambda model: torch.jit.trace(model, X)])
@pytest.mark.filterwarnings("ignore")
def test_what_torch_jit_has_compiled_is_refused_and_stays_as_it_was(compiled):
    model = nn.Sequential(compiled(network()))
    before = {path: each.clone() for path, each in model.state_dict().items()}
    for ask in (
        lambda: fanin.check(model, X, Y),
        lambda: fanin.init(model, example=X),
        lambda: fanin.describe(model, X),
    ):
        with pytest.raises(ModelError, match=r"compiled by torch\.jit.*Given: 0\."):
            ask()
    assert all(torch.equal(each, before[path]) for path, each in model.state_dict().items())
    assert all(each.grad is None for each in model.parameters())


def test_sparse_links_of_a_graph():
    class Linked(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers = network(16), nn.Linear(16, 3)
            self.first, self.last = self.layers

        def forward(self, x, links):
            return self.last(torch.relu(torch.sparse.mm(links, self.first(x))))

    links = (torch.eye(120) + torch.diag(torch.ones(119), 1)).to_sparse()
    assert warned(Linked(), (X, links), Y, "cross_entropy") == []


def tagged(ignored):
    """Words of which the last ones are padding."""
    torch.manual_seed(4)
    words = torch.randint(0, 12, (40, 7))
    tags = words % 4
    tags[:, 5:] = ignored
    return words, tags


@pytest.mark.parametrize("ignored", [-100, 9])
def test_targets_that_a_loss_leaves_out_are_no_missing_classes(ignored):
    words, tags = tagged(ignored)
    torch.manual_seed(4)
    model = nn.Sequential(nn.Embedding(12, 16), nn.Linear(16, 4))
    loss = lambda out, y: functional.cross_entropy(out.flatten(0, 1), y.flatten(), ignore_index=ignored)  # noqa: E731
    assert "targets-out-of-range" not in warned(model, words, tags, loss)


def test_levels_above_which_a_thing_is_are_one_fewer_than_levels():
    levels = torch.arange(120) % 4
    loss = lambda out, y: functional.binary_cross_entropy_with_logits(  # noqa: E731
        out, (y[:, None] > torch.arange(3)).float()
    )
    assert "targets-out-of-range" not in warned(network(), X, levels, loss)


@pytest.mark.parametrize(("outputs", "targets", "loss"), [
    (1, 2.0 * (Y == 1)[:, None] - 1, lambda out, y: -(out.tanh() * y).mean()),
    (1, 2.0 * (Y == 1)[:, None] - 1, lambda out, y: (1 - out * y).clamp(min=0).mean()),
    (1, torch.poisson(3 * SIZE.exp(), generator=torch.Generator().manual_seed(1)), "poisson_nll_loss"),
], ids=["a critic", "a hinge", "counts by their logarithms"])  # fmt: skip
def test_losses_that_look_like_others(outputs, targets, loss):
    assert warned(network(outputs), X, targets, loss, "sgd(lr=0.1)") == []


def test_distances_are_as_good_as_logits():
    class Near(nn.Module):
        def __init__(self):
            super().__init__()
            self.layers, self.middles = network(5), nn.Parameter(torch.randn(3, 5))

        def forward(self, x):
            return -(torch.cdist(self.layers(x), self.middles) ** 2)

    assert warned(Near(), X, Y, "cross_entropy") == []


def test_both_values_that_are_made_as_large_as_each_other_are_read():
    class Drawn(nn.Module):
        def __init__(self):
            super().__init__()
            self.one, self.two, self.last = nn.Linear(64, 8), nn.Linear(64, 8), nn.Linear(8, 3)

        def forward(self, x):
            one, two = torch.broadcast_tensors(self.one(x), self.two(x))
            return self.last(one * torch.sigmoid(two))

    info = fanin.describe(Drawn(), X)
    assert {path for op in info.ops for path in op.params} == {path for path, _ in Drawn().named_parameters()}
    assert info.choosing == ()


@pytest.mark.parametrize("made", ["packed", "cut off"])
def test_sequences_of_several_lengths(made):
    class Reader(nn.Module):
        def __init__(self):
            super().__init__()
            self.layer, self.head = nn.GRU(8, 12, bidirectional=True, batch_first=True), nn.Linear(24, 3)

        def forward(self, x, lengths):
            packed = nn.utils.rnn.pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
            states, last = self.layer(packed)
            if made == "packed":
                return self.head(torch.cat([last[0], last[1]], 1))
            whole, _ = nn.utils.rnn.pad_packed_sequence(states, batch_first=True)
            return self.head(whole.mean(1))

    torch.manual_seed(3)
    lengths = torch.randint(2, 9, (120,))
    info = fanin.describe(Reader(), (X.reshape(120, 8, 8), lengths))
    assert [op.kind for op in info.ops].count("recurrent") == 2
    assert "gradient-blocked" not in warned(Reader(), (X.reshape(120, 8, 8), lengths), Y, "cross_entropy")


def test_gradients_that_a_model_takes_itself():
    class Force(nn.Module):
        def __init__(self):
            super().__init__()
            self.energy = nn.Sequential(nn.Linear(5, 16), nn.Tanh(), nn.Linear(16, 1))

        def forward(self, places):
            places = places.requires_grad_()
            return -torch.autograd.grad(self.energy(places).sum(), places, create_graph=True)[0]

    x = torch.randn(50, 5)
    assert [param.path for param in fanin.describe(Force(), x).params] == [
        path for path, _ in Force().named_parameters()
    ]
    assert math.isfinite(fanin.check(Force(), x, -x, loss="mse_loss", steps=5).trial.losses[-1])
