"""fanin.plan, fanin.init and fanin.audit as a user meets them, on PyTorch models; mistakes change nothing."""

import copy
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

import fanin
from fanin.errors import InvalidValueError, ModelError, UnknownNameError
from fanin.recipes import trunk
from fanin.torch.adapter import probe


def network(width: int = 48) -> nn.Sequential:
    return nn.Sequential(nn.Linear(20, width), nn.ReLU(), nn.Linear(width, width), nn.ReLU(), nn.Linear(width, 5))


def state(model: nn.Module) -> dict[str, np.ndarray]:
    return {name: tensor.detach().clone().numpy() for name, tensor in model.state_dict().items()}


def assert_same(one: dict[str, np.ndarray], two: dict[str, np.ndarray]) -> None:
    assert one.keys() == two.keys()
    for name, values in one.items():
        np.testing.assert_array_equal(values, two[name], err_msg=name)


X = torch.randn(16, 20, generator=torch.Generator().manual_seed(0))


def test_init_is_plan_and_then_write(capsys: pytest.CaptureFixture[str]) -> None:
    one, two = network(), network()
    plan = fanin.plan(one, example=X, seed=4)
    assert fanin.init(one, plan, quiet=True) == plan
    assert fanin.init(two, example=X, seed=4) == plan
    assert_same(state(one), state(two))
    assert "auto: 6 parameters initialised, 0 left alone." in capsys.readouterr().out
    assert fanin.audit(one, plan).ok


def test_an_example_is_made_up_where_none_is_given() -> None:
    plan = fanin.plan(network())
    assert "made-up input, shape (2, 20)" in plan.notes[-1]
    assert plan.entries == fanin.plan(network(), example=X).entries
    assert fanin.plan(nn.Sequential(nn.Conv2d(3, 4, 3), nn.ReLU(), nn.Flatten(), nn.Linear(4 * 26 * 26, 2))).chosen


def test_nothing_but_what_is_asked_is_touched() -> None:
    model = network()
    before = state(model)
    fanin.init(model, only="4.*", seed=1, quiet=True)
    after = state(model)
    assert [name for name in before if not np.array_equal(before[name], after[name])] == ["4.weight", "4.bias"]
    fanin.init(model, "he_uniform", except_=["0.*", "*.bias"], rules={"4.*": "keep"}, quiet=True)
    last = state(model)
    assert [name for name in after if not np.array_equal(after[name], last[name])] == ["2.weight"]


def test_calibration_gives_the_outputs_their_planned_sizes() -> None:
    model, batch = network(), 30 * X + 5
    plan = fanin.init(model, example=batch, calibrate=batch, quiet=True)
    info, signals = fanin.describe(model, batch), probe(model, batch)
    weights = [index for index, op in enumerate(info.ops) if op.kind == "weight"]
    wanted = [entry.output for entry in plan.entries if entry.output is not None]
    np.testing.assert_allclose([signals.signal_rms[i] ** 2 for i in weights], wanted, rtol=1e-3)
    again = network()
    fanin.init(again, plan, quiet=True)  # the factors are in the plan
    for name, values in state(model).items():
        np.testing.assert_allclose(state(again)[name], values, rtol=1e-5, atol=1e-8)


def test_lsuv_gives_variance_one_in_executed_order() -> None:
    class Backwards(nn.Module):
        """Registered in another order than run."""

        def __init__(self) -> None:
            super().__init__()
            self.last, self.first = nn.Linear(30, 7), nn.Linear(20, 30)

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.last(torch.tanh(self.first(x)))

    model = Backwards()
    fanin.init(model, "lsuv", calibrate=5 * X, quiet=True)
    hidden = model.first(5 * X) - model.first.bias
    assert hidden.var(unbiased=False).item() == pytest.approx(1, rel=1e-4)
    output = model(5 * X) - model.last.bias
    assert output.var(unbiased=False).item() == pytest.approx(1, rel=1e-4)


def test_a_model_without_memory_gets_the_weights_of_one_that_has_it() -> None:
    with torch.device("meta"):
        model = network()
    fanin.init(model, seed=7, quiet=True)
    other = network()
    fanin.init(other, seed=7, quiet=True)
    assert_same(state(model), state(other))


def test_auto_keeps_signal_and_gradient_where_the_default_loses_them() -> None:
    layers = [layer for _ in range(50) for layer in (nn.Linear(64, 64), nn.SiLU())]
    model = nn.Sequential(*layers, nn.Linear(64, 3))
    x = torch.randn(32, 64, generator=torch.Generator().manual_seed(1))

    def spread() -> tuple[float, float]:
        info, signals = fanin.describe(model, x), probe(model, x)
        places = trunk(info)
        sizes = [[values[i] ** 2 for i in places] for values in (signals.signal_rms, signals.gradient_rms)]
        return tuple(max(each) / max(min(each), 1e-300) for each in sizes)

    assert min(spread()) > 50
    fanin.init(model, example=x, quiet=True)
    assert max(spread()) < 2


class Refuses(nn.Module):
    """Cannot be run."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(3, 4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        raise RuntimeError("no")


class Quantised(nn.Module):
    """Holds whole numbers."""

    def __init__(self) -> None:
        super().__init__()
        self.layer = nn.Linear(20, 5)
        self.codes = nn.Parameter(torch.zeros(5, dtype=torch.int8), requires_grad=False)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layer(x) * self.codes


MISTAKES = {
    "no model": (lambda: "a text", {}, ModelError, "no model of a framework"),
    "lazy": (lambda: nn.LazyLinear(3), {}, ModelError, "do not exist yet"),
    "wrong shape": (network, {"example": torch.randn(2, 21)}, ModelError, "could not be run on the example"),
    "does not run": (Refuses, {"example": torch.randn(2, 3)}, ModelError, "could not be run on the example"),
    "nothing seen": (Refuses, {}, ModelError, "has to see what the model computes"),
    "no such pattern": (network, {"only": "5.*"}, UnknownNameError, "no such parameter"),
    "no such recipe": (network, {"recipe": "fixpu"}, UnknownNameError, "Did you mean fixup"),
    "no such initializer": (network, {"rules": {"*": "he_norml"}}, UnknownNameError, "Did you mean he_normal"),
    "does not fit": (network, {"recipe": "deepnorm"}, ModelError, "deepnorm does not fit the model"),
    "needs data": (network, {"recipe": "lsuv"}, InvalidValueError, "looks at data"),
    "seed": (network, {"seed": -1}, InvalidValueError, "seed"),
    "no fans": (network, {"rules": {"0.bias": "he_normal"}}, InvalidValueError, "0.bias: he_normal needs fan-in"),
    "quantised": (Quantised, {"rules": {"codes": "zeros"}}, InvalidValueError, "no floating numbers"),
    "a plan twice decided": (network, {"recipe": fanin.Plan(()), "seed": 3}, InvalidValueError, "not decided again"),
}


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_one_clear_error_and_changes_nothing(name: str) -> None:
    build, wishes, error, words = MISTAKES[name]
    model = build()
    before = copy.deepcopy(model)
    random = torch.get_rng_state()
    with pytest.raises(error, match=words):
        fanin.init(model, quiet=True, **wishes)
    assert torch.equal(random, torch.get_rng_state())
    if isinstance(model, nn.Module) and name != "lazy":
        assert_same(state(model), state(before))


def test_quantised_parameters_are_left_alone_by_recipes() -> None:
    model = Quantised()
    plan = fanin.init(model, "he_normal", example=X, quiet=True)
    assert {entry.param.path for entry in plan.chosen} == {"layer.weight"}


def test_tied_weights_with_conflicting_rules() -> None:
    model = nn.Sequential(nn.Linear(8, 8), nn.Linear(8, 8))
    model[1].weight = model[0].weight
    with pytest.raises(InvalidValueError, match="disagree about one shared parameter"):
        fanin.init(model, rules={"0.*": "zeros", "1.*": "ones"}, example=torch.randn(2, 8), quiet=True)
    assert model[0].weight.abs().max() > 0


@pytest.mark.parametrize("failure", [RuntimeError("out of memory"), KeyboardInterrupt()])
def test_a_failure_while_writing_gives_the_old_weights_back(
    failure: BaseException, monkeypatch: pytest.MonkeyPatch
) -> None:
    from fanin.torch import adapter

    model = network()
    before, draw, calls = state(model), adapter.draw_, []

    def fails_late(*args: object) -> None:
        calls.append(args)
        if len(calls) == 4:
            raise failure
        draw(*args)

    monkeypatch.setattr(adapter, "draw_", fails_late)
    with pytest.raises(type(failure)):
        fanin.init(model, example=X, quiet=True)
    assert_same(state(model), before)


def test_a_calibration_that_fails_gives_the_old_weights_back() -> None:
    model = network()
    before = state(model)
    with pytest.raises(ModelError, match="zero or not finite"):
        fanin.init(model, example=X, calibrate=torch.zeros(4, 20), quiet=True)  # no output to measure
    assert_same(state(model), before)


def test_a_temperature_stays_as_the_model_made_it() -> None:
    class Similar(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.one, self.temperature = nn.Linear(20, 8), nn.Parameter(torch.tensor(2.66))

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            codes = nn.functional.normalize(self.one(x), dim=-1)
            return self.temperature.exp() * codes @ codes.T

    model = Similar()
    plan = fanin.init(model, example=X, quiet=True)
    assert model.temperature.item() == pytest.approx(2.66)
    assert [entry.param.path for entry in plan.entries if entry.init is None] == ["temperature"]


@pytest.mark.parametrize("prepare", [
    lambda x: x / 255, lambda x: x.float() / 255, lambda x: (x - 127.0) / 60, lambda x: x[:, None, :] * 0.01,
], ids=["divided", "whole numbers", "standardised", "moved too"])  # fmt: skip
def test_what_a_model_does_to_its_inputs_before_all_weights_leaves_these_alone(prepare: Any) -> None:
    """Inputs as the model prepares them are of second moment 1: pixels divided by 255 ask for no weights of 100."""

    class Net(nn.Module):
        def __init__(self, prepared: bool) -> None:
            super().__init__()
            self.hidden, self.head, self.prepared = nn.Linear(20, 30), nn.Linear(30, 5), prepared

        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return self.head(torch.relu(self.hidden(prepare(x) if self.prepared else x.float())))

    x = torch.randint(0, 256, (7, 20), dtype=torch.uint8)
    models = [Net(True), Net(False)]
    for model in models:
        fanin.init(model, example=x, seed=3, quiet=True)
    assert_same(state(models[0]), state(models[1]))
    assert models[0].hidden.weight.std() < 0.5
