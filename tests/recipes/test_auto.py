"""The recipe `auto`, held to what plain NumPy measures on the weights that it asks for."""

import numpy as np
import pytest

from fanin.errors import ModelError
from fanin.recipes import decided, trunk
from fanin.recipes.auto import HEAD, scaled
from fanin.records import Init, ModelInfo, Op, ParamInfo
from tests.recipes.models import Model, encoder_decoder, mlp, residual_mlp, run, transformer

DEEP = [
    *(pytest.param(mlp(depth, 64, act), id=f"{act}-{depth}") for act, depth in (
        ("relu", 4), ("relu", 200), ("leaky_relu", 50), ("tanh", 4), ("tanh", 100), ("silu", 50), ("gelu", 50),
        ("selu", 50), ("elu", 20), ("mish", 12), ("sigmoid", 20), ("softplus", 20), ("erf", 100),
    )),
    *(pytest.param(residual_mlp(17, 48, norm=norm), id=f"residual-{norm or 'plain'}") for norm in ("", "pre", "post")),
    *(pytest.param(transformer(12, 32, norm=norm), id=f"transformer-{norm}") for norm in ("pre", "post")),
    pytest.param(encoder_decoder(3, 3, 32), id="encoder-decoder"),
]  # fmt: skip


@pytest.mark.parametrize("info", DEEP)
def test_the_signal_is_flat_along_the_trunk(info):
    """Within a factor of 2 of the first step everywhere; the seed is fixed, so it cannot fail by chance."""
    plan = decided(info, seed=3)
    done = run(info, plan)
    sizes = [float(np.square(done[index]).mean()) for index in trunk(info)]
    assert max(sizes) <= 2 * sizes[0]
    assert min(sizes) >= sizes[0] / 2
    assert HEAD / 3 < float(np.square(done[-1]).mean()) < HEAD * 3  # ten outputs: chi-squared, beyond 1 in 500


@pytest.mark.parametrize("info", DEEP)
def test_every_entry_has_a_reason_and_a_consideration(info):
    plan = decided(info)
    assert all(entry.reason and entry.considers for entry in plan.chosen)
    assert len(plan.chosen) == len(info.params)


def test_shallow_relu_networks_get_what_the_field_calls_he():
    plan = decided(mlp(4, 256, "relu"))
    weights = [entry for entry in plan.entries if entry.param.role == "dense"]
    assert [str(entry.init) for entry in weights] == ["he_normal"] * 3 + [f"variance_scaling(scale={HEAD})"]
    assert {str(entry.init) for entry in plan.entries if entry.param.role == "bias"} == {"zeros"}


def test_deep_narrow_relu_networks_get_mirrored_pairs_and_odd_widths_orthogonal_ones():
    names = {entry.init.name for entry in decided(mlp(60, 64, "relu")).chosen if entry.param.axes}
    assert names == {"mirrored"}
    names = {entry.init.name for entry in decided(mlp(60, 63, "relu")).chosen if entry.param.axes}
    assert names == {"scaled_orthogonal"}


def test_a_plan_says_what_cannot_be_kept():
    (note,) = (note for note in decided(mlp(12, 63, "sigmoid")).notes if "cannot keep" in note)
    assert "12 layers in a row of sigmoid" in note
    assert decided(mlp(12, 64, "tanh")).notes == ()


def test_a_plan_says_where_chance_leaves_gradients_uneven():
    (note,) = decided(mlp(60, 64, "sigmoid")).notes
    assert "60 layers of sigmoid are many for their width" in note
    assert decided(mlp(60, 128, "sigmoid")).notes == ()  # half as many layers for their width


def test_a_plan_says_that_a_token_read_out_alone_starts_with_small_gradients():
    model = Model()
    patches = model.weight(model.input(4, 6), 8, "patches")
    model.params.append(ParamInfo("token", (1, 1, 8), "float32", (), "unknown"))
    repeated = model.add_op("move", model.add_op("param", shape=(1, 1, 8), params=("token",)), shape=(2, 1, 8))
    model.weight(model.add_op("concat", repeated, patches, shape=(2, 5, 8)), 3, "head")
    assert any(note.startswith("A learnt token") for note in decided(model.info()).notes)


def test_the_last_normalisation_of_a_branch_is_scaled_by_depth():
    model = Model()
    at = model.weight(model.input(6), 8, "stem")
    for block in range(4):
        at = model.add_op("add", at, model.norm(model.feed_forward(at, 10, f"{block}"), f"{block}.norm", "batch"))
    model.weight(at, 3, "head")
    entries = {entry.param.path: entry for entry in decided(model.info()).entries}
    assert entries["0.norm.weight"].init.params["value"] == pytest.approx((1.5 ** (1 / 4) - 1) ** 0.5, rel=1e-5)


def test_tied_tables_are_sized_for_the_output_and_their_neighbours_follow():
    entries = {entry.param.path: entry for entry in decided(transformer(2, 25, tied=True)).entries}
    assert entries["tokens.weight"].init == Init("random_normal", stddev=float(f"{(HEAD / 25) ** 0.5:.6g}"))
    assert entries["positions.weight"].init == entries["tokens.weight"].init
    assert "tied" in entries["positions.weight"].reason


def test_the_forget_gate_starts_open_once():
    model = Model()
    at = model.input(5, 6)
    for name, shape in (("weight_ih", (28, 6)), ("weight_hh", (28, 7))):
        model.params.append(ParamInfo(name, shape, "float32", ("out", "in"), "recurrent", gates=4))
    for name in ("bias_ih", "bias_hh"):
        model.params.append(ParamInfo(name, (28,), "float32", ("out",), "bias", gates=4))
    names = ("weight_ih", "weight_hh", "bias_ih", "bias_hh")
    at = model.add_op("recurrent", at, params=names, name="lstm", shape=(2, 5, 7))
    model.weight(at, 3, "head")
    entries = {entry.param.path: entry for entry in decided(model.info()).entries}
    assert [str(entries[name].init) for name in names] == ["lecun_normal", "orthogonal", "ones", "zeros"]
    assert entries["bias_ih"].scales == (0.0, 1.0, 0.0, 0.0)


def test_what_is_not_understood_is_left_alone_and_named():
    params = (
        ParamInfo("w", (3, 4), "float32", ("out", "in"), "dense"),
        ParamInfo("odd", (5,), "float32", (), "unknown"),
    )
    ops = (Op("input", (), (2, 4)), Op("other", (0,), (2, 4), ("odd",), name="fft"), Op("weight", (1,), (2, 3), ("w",)))
    plan = decided(ModelInfo("torch", params, ops, (2,), ("fft is not understood.",)))
    assert plan.entries[1].init is None
    assert "fft" in plan.entries[1].reason
    assert "fft is not understood." in plan.notes


def test_a_model_that_was_not_run_cannot_be_decided():
    with pytest.raises(ModelError, match="has to see what the model computes"):
        decided(ModelInfo("torch", mlp(3, 4, "relu").params))


def test_scaled_uses_names_where_there_are_some():
    assert [str(scaled(value)) for value in (2.0, 1.0, 0.25)] == [
        "he_normal", "lecun_normal", "variance_scaling(scale=0.25)",
    ]  # fmt: skip


@pytest.mark.parametrize("kind", ["scores", "mixed"])
def test_a_table_added_to_scores_is_zero_and_one_added_to_what_was_mixed_is_not(kind):
    """The positions' part of attention's scores, and the words that its result is added to."""
    model = Model()
    words = model.lookup(model.input(5, name="index"), 40, 16, "words")
    scores = model.add_op("matmul", words, words, shape=(2, 5, 5))
    if kind == "scores":
        places = model.lookup(model.add_op("constant", shape=(5,)), 5, 5, "places")
        scores = model.add_op("add", scores, places)
    mixed = model.add_op("matmul", model.add_op("softmax", scores), words, shape=(2, 5, 16))
    model.weight(model.add_op("add", words, mixed), 10, "head")
    plan = decided(model.info())
    inits = {entry.param.path: str(entry.init) for entry in plan.chosen}
    assert inits["words.weight"] == "random_normal(stddev=1.0)"
    assert inits.get("places.weight", "zeros") == "zeros"
