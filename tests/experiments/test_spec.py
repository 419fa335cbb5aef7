import dataclasses
import itertools
import math
from importlib.metadata import version

import numpy as np
import pytest

from fanin.errors import FaninError, InvalidValueError, UnknownNameError
from fanin.experiments.spec import DEFAULT_INITIALIZERS, TUNING_SEEDS, experiment
from fanin.experiments.tasks import make_task
from fanin.records import Init, Run

INITS = ("glorot_uniform", "he_normal")


@pytest.fixture(scope="module")
def task():
    x = np.random.default_rng(0).normal(size=(50, 3)).astype(np.float32)
    return make_task("t", {"x": x, "y": np.arange(50) % 2})


@pytest.fixture
def decide(task):
    """An experiment on a small task, with two initializers, two seeds and one rate where nothing is said."""
    return lambda **given: experiment(
        **{"task": task, "init": INITS, "seeds": 2, "lr": [0.1], "batch_size": 8, **given}
    )


def every_run(decided):
    return [*decided.tuning_runs(), *decided.compared_runs()]


def ids(decided):
    return {run.id for run in every_run(decided)}


def test_what_follows_where_nothing_is_said(task):
    decided = experiment(task=task, batch_size=8)
    assert [str(arm.init) for arm in decided.arms] == list(DEFAULT_INITIALIZERS)
    assert {arm.activation for arm in decided.arms} == {"relu"}
    assert (decided.seeds, decided.learning_rates, decided.auto) == (8, (0.0003, 0.003, 0.03), False)
    assert decided.baseline.label == "glorot_uniform"
    assert decided.model.text == "mlp:128x128"


def test_recipes_take_part_under_their_names_and_this_version(decide):
    decided = decide(init=["auto", "skipinit", "he_normal"], baseline="auto")
    assert [arm.label for arm in decided.arms] == ["auto", "rezero", "he_normal"]
    assert decided.baseline == decided.arms[0]
    runs = {run.init for run in every_run(decided)}
    assert runs == {f"auto(fanin='{version('fanin')}')", f"rezero(fanin='{version('fanin')}')", "he_normal"}


@pytest.mark.parametrize("name", ["lsuv", "metainit", "gradinit"])
def test_recipes_that_look_at_data_are_refused(decide, name):
    with pytest.raises(InvalidValueError, match="looks at data") as caught:
        decide(init=[name, "he_normal"])
    assert f"fanin.init(model, '{name}', calibrate=x)" in caught.value.hint


def test_recipes_take_no_parameters(decide):
    with pytest.raises(UnknownNameError, match=r"The recipe auto takes no parameters\. Given: x"):
        decide(init=["auto(x=1)"])


def test_digits_brings_its_own_model():
    decided = experiment(task="digits")
    assert (decided.model.text, decided.settings.epochs, decided.settings.batch_size) == ("mlp:128x128", 20, 32)
    assert len(every_run(decided)) == 8 * 3 * (8 + len(TUNING_SEEDS))


def test_ids_are_unique(decide):
    decided = decide(lr=[0.1, 0.2], activation=["relu", "tanh"])
    runs = every_run(decided)
    assert len(runs) == 2 * 2 * 2 * (2 + 3)
    assert len(ids(decided)) == len(set(runs)) == len(runs)


@pytest.mark.parametrize(
    "more",
    [
        {"init": (*INITS, "orthogonal")},
        {"init": ("zeros", *INITS)},
        {"seeds": 5},
        {"lr": [0.1, 0.3]},
        {"baseline": "he_normal"},
        {"init": (*INITS, "he_normal+tanh")},
    ],
)
def test_more_of_something_keeps_all_other_ids(decide, more):
    before, after = ids(decide()), ids(decide(**more))
    assert before <= after
    assert (len(after) > len(before)) == ("baseline" not in more)


def test_spelling_does_not_matter_to_ids(decide):
    assert ids(decide()) == ids(decide(init=["xavier_uniform", "kaiming_normal"]))
    assert ids(decide()) == ids(decide(init=[Init("glorot_uniform"), "HeNormal"]))
    assert ids(decide(lr=[0.1, 0.2])) == ids(decide(lr=[0.2, 0.1, 0.1]))


@pytest.mark.parametrize(
    "other",
    [
        {"epochs": 3},
        {"batch_size": 9},
        {"optimizer": "sgd"},
        {"optimizer": "adam(beta_1=0.8)"},
        {"model": "mlp:5"},
        {"activation": ["tanh"]},
        {"lr": [0.2]},
        {"init": ["he_uniform"]},
    ],
)
def test_everything_that_determines_a_run_is_in_its_id(decide, other):
    assert not ids(decide()) & ids(decide(**other))


def test_data_is_in_the_id(decide, task):
    other = make_task("t", {"x": np.concatenate([task.x_train, task.x_val]), "y": np.arange(40) % 2})
    assert not ids(decide()) & ids(decide(task=other))


def test_a_users_source_is_in_the_id(decide, tmp_path):
    path = tmp_path / "mine.py"
    code = "import torch\n\ndef build():\n    return torch.nn.Linear(4, 3)\n"
    path.write_text(code)
    before = ids(decide(model=f"{path}:build"))
    path.write_text(f"{code}# changed\n")
    assert not before & ids(decide(model=f"{path}:build"))


def test_id_is_the_same_on_every_machine():
    run = Run("t", "th", "m", "mh", "relu", "zeros", 3, 0.1, "adam", 8, 2, 20, "engine-1")
    # blake2b of the sorted JSON of the fields, written down once: a change would orphan every store.
    assert run.id == "775ec40fa59efb88899d69466c379b6a"
    assert Run.from_dict(run.to_dict()) == run
    changed = {"seed": 4, "learning_rate": math.nextafter(0.1, 1), "engine": "engine-2", "model_hash": "x"}
    assert len({run.id, *(dataclasses.replace(run, **{k: v}).id for k, v in changed.items())}) == 5


def test_tuning_seeds_never_meet_compared_seeds(decide):
    decided = decide(seeds=TUNING_SEEDS[0], lr=[0.1, 0.2])
    tuning = {run.seed for run in decided.tuning_runs()}
    assert tuning == set(TUNING_SEEDS)
    assert not tuning & {run.seed for run in decided.compared_runs()}
    with pytest.raises(InvalidValueError, match="too large"):
        decide(seeds=TUNING_SEEDS[0] + 1)


def test_one_rate_needs_no_tuning(decide):
    assert not decide().tuned
    assert decide().tuning_runs() == []
    assert len(decide().compared_runs()) == 4


def test_chosen_rates_are_the_only_ones_compared(decide):
    decided = decide(lr="auto")
    chosen = {arm: decided.learning_rates[i] for i, arm in enumerate(decided.arms)}
    runs = decided.compared_runs(chosen)
    assert len(runs) == 4
    assert {(run.init, run.learning_rate) for run in runs} == {(str(a.init), rate) for a, rate in chosen.items()}


def test_pairs_stand_together(decide):
    seeds = [run.seed for run in decide(seeds=3).compared_runs()]
    assert seeds == sorted(seeds)


@pytest.mark.parametrize(("optimizer", "first", "last"), [("adam", 1e-4, 0.3), ("sgd", 1e-3, 3.0), ("SGD", 1e-3, 3.0)])
def test_auto_covers_decades(decide, optimizer, first, last):
    rates = decide(lr="auto", optimizer=optimizer).learning_rates
    assert (rates[0], rates[-1]) == (first, last)
    assert list(rates) == sorted(set(rates))
    assert all(2 < high / low < 5 for low, high in itertools.pairwise(rates))


def test_activation_that_an_initializer_brings(decide):
    decided = decide(init=["he_normal", "he_normal+tanh", "glorot_uniform+selu"])
    assert [(str(a.init), a.activation) for a in decided.arms] == [
        ("he_normal", "relu"), ("he_normal", "tanh"), ("glorot_uniform", "selu"),
    ]  # fmt: skip
    assert [a.label for a in decided.arms] == ["he_normal + relu", "he_normal + tanh", "glorot_uniform + selu"]


def test_one_activation_for_all_is_not_in_the_labels(decide):
    assert [a.label for a in decide(init=["he_normal+tanh", "zeros+tanh"]).arms] == ["he_normal", "zeros"]
    assert [a.label for a in decide(activation=["tanh"]).arms] == list(INITS)


def test_activations_are_crossed_once_each(decide):
    decided = decide(init=["he_normal", "kaiming_normal", "he_normal+tanh", "zeros+elu"], activation=["relu", "tanh"])
    assert [a.label for a in decided.arms] == ["he_normal + relu", "he_normal + tanh", "zeros + elu"]


def test_plus_sign_inside_a_number(decide):
    decided = decide(init=["random_normal(stddev=1e+2)", "random_normal(stddev=1e+2)+tanh"])
    assert [(str(a.init), a.activation) for a in decided.arms] == [
        ("random_normal(stddev=100.0)", "relu"), ("random_normal(stddev=100.0)", "tanh"),
    ]  # fmt: skip


def test_users_model_keeps_its_activations(decide, tmp_path):
    path = tmp_path / "mine.py"
    path.write_text("import torch\n\ndef build():\n    return torch.nn.Linear(4, 3)\n")
    assert [a.activation for a in decide(model=f"{path}:build").arms] == ["", ""]
    assert [a.label for a in decide(model=f"{path}:build").arms] == list(INITS)


@pytest.mark.parametrize(
    ("given", "label"),
    [
        ({"init": ["zeros", "xavier_uniform"]}, "glorot_uniform"),
        ({"init": ["zeros", "he_normal"]}, "zeros"),
        ({"baseline": "kaiming_normal"}, "he_normal"),
        ({"baseline": "he_normal+tanh", "activation": ["relu", "tanh"]}, "he_normal + tanh"),
        ({"baseline": "he_normal + tanh", "activation": ["relu", "tanh"]}, "he_normal + tanh"),
        ({"baseline": "he_normal", "activation": ["relu", "tanh"]}, "he_normal + relu"),
        ({"baseline": "random_normal(stddev=0.01)", "init": ["zeros", "random_normal(stddev=1e-2)"]},
         "random_normal(stddev=0.01)"),
    ],
)  # fmt: skip
def test_baseline(decide, given, label):
    decided = decide(**given)
    assert decided.baseline.label == label
    assert decided.baseline in decided.arms


@pytest.mark.parametrize(
    ("baseline", "activation"), [("zeros", []), ("he_normal+tanh", []), ("he_normal+elu", ["relu", "tanh"])]
)
def test_baseline_that_takes_no_part(decide, baseline, activation):
    with pytest.raises(InvalidValueError, match="baseline is not among what is compared") as error:
        decide(baseline=baseline, activation=activation)
    assert "he_normal" in error.value.allowed


def test_baseline_that_is_unknown(decide):
    with pytest.raises(UnknownNameError, match="Did you mean he_normal"):
        decide(baseline="he_norml")


@pytest.mark.parametrize(
    ("given", "match"),
    [
        ({"seeds": 0}, "number of seeds is too small. Given: 0. Allowed: a whole number of 1 or more"),
        ({"seeds": -3}, "number of seeds"),
        ({"seeds": 2.5}, "number of seeds"),
        ({"seeds": True}, "number of seeds"),
        ({"epochs": 0}, "number of epochs is too small. Given: 0"),
        ({"batch_size": 0}, "batch size is too small"),
        ({"batch_size": 31}, "batch is larger than the training data. Given: 31. Allowed: up to 30"),
        ({"lr": [0.0]}, "learning rate is not positive. Given: 0.0"),
        ({"lr": [-0.1]}, "learning rate is not positive"),
        ({"lr": [0.1, float("nan")]}, "learning rate is not positive. Given: nan"),
        ({"lr": [float("inf")]}, "learning rate is not positive"),
        ({"lr": [True]}, "learning rate is not positive"),
        ({"lr": ["auto"]}, "learning rate"),
        ({"lr": "fast"}, "learning rate cannot be read. Given: fast. Allowed: numbers above 0, or auto"),
        ({"lr": []}, "There is no learning rate"),
        ({"init": ["he_norml"]}, "no such recipe or initializer. Given: he_norml.*\nHint: Did you mean he_normal"),
        ({"init": ["random_normal(stddev=-1)"]}, "stddev of random_normal is out of range"),
        ({"init": ["random_normal(std=1)"]}, "no such parameter"),
        ({"init": ["random_normal(0.1)"]}, "initializer cannot be read"),
        ({"init": ["he_normal+"]}, "initializer cannot be read"),
        ({"optimizer": "adam("}, "optimizer cannot be read"),
        ({"model": "mlp:0"}, "model cannot be read"),
        ({"model": "mpl:4"}, "Did you mean mlp"),
        ({"task": "mnits"}, "Did you mean mnist"),
    ],
)
def test_wrong_inputs(decide, given, match):
    with pytest.raises(FaninError, match=match):
        decide(**given)


def test_batch_may_be_all_of_the_data(decide):
    assert decide(batch_size=30).settings.batch_size == 30


@pytest.mark.parametrize(
    "given",
    [
        pytest.param({"optimizer": "adam(learning_rate=0.1)"}, id="learning rate in the optimizer"),
        pytest.param({"optimizer": "adamm"}, id="unknown optimizer"),
        pytest.param({"optimizer": "adam(beta=1)"}, id="unknown parameter of the optimizer"),
        pytest.param({"activation": ["rellu"]}, id="unknown activation"),
        pytest.param({"init": ["he_normal+rellu"]}, id="unknown activation with an initializer"),
    ],
)
def test_wrong_inputs_that_the_framework_knows_are_found_before_training(decide, given):
    from fanin.experiments.executor import Executor

    with pytest.raises(FaninError):
        Executor(decide(**given), None).prepare()


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        pytest.param({"lr": 0.1}, {"lr": [0.1]}, id="lr a number"),
        pytest.param({"init": "he_normal"}, {"init": ["he_normal"]}, id="init a text"),
        pytest.param({"activation": "tanh"}, {"activation": ["tanh"]}, id="activation a text"),
        pytest.param({"lr": np.array([0.1, 0.2])}, {"lr": [0.1, 0.2]}, id="lr an array"),
        pytest.param({"seeds": np.int64(3)}, {"seeds": 3}, id="seeds a numpy integer"),
        pytest.param({"lr": [np.float32(0.5)]}, {"lr": [0.5]}, id="lr a numpy number"),
    ],
)
def test_python_values_that_mean_one_thing(decide, given, meant):
    """Taken as what they plainly mean."""
    assert ids(decide(**given)) == ids(decide(**meant))
