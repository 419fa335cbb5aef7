"""What follows what, residual branches, heads, runs and the trunk, on models whose answer is plain to see."""

import pytest

from fanin.recipes.graph import Graph, carrying, needed, trunk
from fanin.records import OPS
from tests.recipes.models import Model, encoder_decoder, mlp, residual_mlp, transformer


def kinds(info, indices):
    return [info.ops[index].kind for index in indices]


def test_a_plain_network_has_one_run_and_every_weight_but_the_head_in_its_trunk():
    info = mlp(5, 8, "relu")
    graph = Graph(info)
    assert graph.residuals == ()
    weights = [i for i, op in enumerate(info.ops) if op.kind == "weight"]
    assert trunk(info) == tuple(weights[:-1])
    assert {graph.runs[i] for i in weights} == {5}
    assert graph.heads == {weights[-1]}
    assert graph.follows(weights[0]) == (weights[0] + 1,)
    assert graph.follows(weights[-1]) == (-1,)


@pytest.mark.parametrize("norm", ["", "pre", "post"])
def test_residual_branches_are_found_with_their_ends(norm):
    info = residual_mlp(3, 8, norm=norm)
    graph = Graph(info)
    assert [info.ops[r.add].kind for r in graph.residuals] == ["add"] * 3
    assert [[info.ops[w].params[0] for w in r.weights] for r in graph.residuals] == [
        [f"{b}.up.weight", f"{b}.down.weight"] for b in range(3)
    ]
    assert [info.ops[r.ends[0]].params[0] for r in graph.residuals] == [f"{b}.down.weight" for b in range(3)]
    assert {r.chain for r in graph.residuals} == {3}
    assert all(r.fork == r.skip for r in graph.residuals)


def test_a_projected_shortcut_is_the_skip_whichever_runs_first():
    for shortcut_first in (True, False):
        model = Model()
        stem = model.weight(model.input(6), 8, "stem")
        if shortcut_first:
            short = model.weight(stem, 12, "short")
        branch = model.feed_forward(stem, 10, "branch")
        model.ops[branch] = model.ops[branch]
        branch = model.weight(branch, 12, "last")
        if not shortcut_first:
            short = model.weight(stem, 12, "short")
        add = model.add_op("add", branch, short)
        (found,) = Graph(model.info()).residuals
        assert (found.add, found.skip, found.branch, found.fork) == (add, short, branch, stem)


def test_a_normalisation_or_a_multiplier_at_the_end_sets_the_branch_size():
    model = Model()
    stem = model.weight(model.input(6), 8, "stem")
    end = model.norm(model.feed_forward(stem, 10, "a"), "a.norm", "batch")
    first = model.add_op("add", stem, end)
    inner = model.feed_forward(first, 10, "b")
    gamma = model.add_op("param", shape=(8,), params=("gamma",))
    times = model.add_op("mul", inner, gamma)
    model.add_op("add", first, times)
    assert [r.ends for r in Graph(model.info()).residuals] == [(end,), (times,)]


def test_sums_that_are_no_residuals():
    model = Model()
    at = model.input(6)
    two = model.add_op("add", model.weight(at, 8, "left"), model.weight(at, 8, "right"))
    assert Graph(model.info(two)).residuals == ()
    assert not any(r.add <= 3 for r in Graph(transformer(1)).residuals)  # tokens and positions


def test_attention_and_feed_forward_side_by_side_are_two_branches():
    model = Model()
    stem = model.weight(model.input(4, 6), 8, "stem")
    normed = model.norm(stem, "norm")
    one = model.add_op("add", stem, model.attention(normed, normed, "attention"))
    two = model.add_op("add", one, model.feed_forward(normed, 16, "mlp"))
    found = Graph(model.info()).residuals
    assert [(r.add, r.skip) for r in found] == [(one, stem), (two, one)]


@pytest.mark.parametrize(
    ("norm", "expected"), [("pre", [*["add"] * 5, "norm"]), ("post", ["add", *["add", "norm"] * 4])]
)
def test_the_trunk_of_a_transformer_leaves_its_branches_out(norm, expected):
    info = transformer(2, norm=norm)
    assert kinds(info, trunk(info)) == expected


def test_both_inputs_of_an_encoder_decoder_have_a_trunk():
    info = encoder_decoder(2, 2)
    found = trunk(info)
    memory = max(i for i, op in enumerate(info.ops) if op.params[:1] == ("e1.norm2.weight",))
    assert memory in found
    assert sum(info.ops[i].kind == "add" for i in found) == 2 * 2 + 3 * 2


def test_a_run_ends_at_a_normalisation_and_at_a_residual_addition():
    model = Model()
    at = model.act(model.weight(model.input(6), 8, "a"), "relu")
    at = model.norm(model.weight(at, 8, "b"), "norm")
    at = model.act(model.weight(at, 8, "c"), "relu")
    model.weight(at, 3, "d")
    info = model.info()
    runs = {op.params[0]: Graph(info).runs[i] for i, op in enumerate(info.ops) if op.kind == "weight"}
    assert runs == {"a.weight": 2, "b.weight": 2, "c.weight": 2, "d.weight": 2}


def test_what_carries_the_signal_and_what_outputs_need():
    model = Model()
    at = model.input(6)
    table, lost = model.add_op("param", shape=(8,), params=("table",)), model.weight(at, 5, "lost")
    scaled = model.add_op("activation", table, name="exp")
    out = model.add_op("mul", model.weight(at, 8, "kept"), scaled)
    assert carrying(model.ops) == tuple(step not in (table, scaled) for step in range(len(model.ops)))
    assert needed(model.ops, [out]) == set(range(len(model.ops))) - {lost}
    assert needed(model.ops, [lost, scaled]) == {at, table, lost, scaled}
    assert needed(model.ops, []) == set()


def test_heads_are_seen_through_a_softmax_but_not_through_a_sum():
    model = Model()
    at = model.weight(model.input(6), 8, "a")
    out = model.weight(model.act(at, "tanh"), 3, "head")
    model.add_op("softmax", out, value=3.0)
    assert Graph(model.info()).heads == {out}


def test_every_word_of_the_vocabulary_is_explained():
    assert all(text and not text.endswith(".") for text in OPS.values())
