"""Sharded weights on eight devices: the bits of the whole, and no device draws what is not its own."""

import json
import os
import subprocess
import sys
from typing import Any

import pytest

PROGRAM = """
import json, math
import jax, jax.numpy as jnp, numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec as P
import fanin.jax as initializers
from fanin.initializers import canonical, draw_param, draws
from fanin.records import ParamInfo

SHAPE, SEED = (8, 16), 7
LAWS = ["he_normal", "random_uniform", "truncated_normal(lower=-1.0)", "orthogonal", "mirrored", "zeros"]
COMPILED = LAWS[:1]
SPECS = {
    "8": [P(), P("a"), P(None, "a")],
    "2x4": [P(), P("a"), P("b"), P(None, "b"), P("a", "b"), P("b", "a"), P(("a", "b")), P(None, ("a", "b"))],
}
SIZES = {"8": ((8,), ("a",)), "2x4": ((2, 4), ("a", "b"))}

drawn = []
fill_box = draws.fill_box
def counted(out, *given, **named):
    drawn.append(out.size)
    return fill_box(out, *given, **named)
draws.fill_box = counted

def mesh_of(name, kind):
    return jax.make_mesh(*SIZES[name], axis_types=(kind,) * len(SIZES[name][0]))

def same(array, expected):
    array = np.asarray(array)
    return array.dtype == expected.dtype and array.shape == expected.shape and array.tobytes() == expected.tobytes()

def attempt(function):
    try:
        return function()
    except Exception as error:
        return f"{type(error).__name__}: {error}"

def report(array, expected, sharding):
    return {
        "same": same(array, expected),
        "sharding": bool(array.sharding.is_equivalent_to(sharding, array.ndim)),
        "shards": all(same(shard.data, expected[shard.index]) for shard in array.addressable_shards),
    }

def eager(init, expected, sharding, given, dtype=jnp.float32):
    drawn.clear()
    found = report(init(jax.random.key(SEED), SHAPE, dtype, given), expected, sharding)
    part = math.prod(sharding.shard_shape(SHAPE))
    return found | {"drawn": sum(drawn), "largest": max(drawn, default=0), "part": part, "devices": 8}

found = {"devices": jax.device_count(), "cases": {}}
for name in SPECS:
    mesh, explicit = mesh_of(name, AxisType.Auto), mesh_of(name, AxisType.Explicit)
    for text in LAWS:
        init = initializers.initializer(text)
        expected = np.asarray(init(jax.random.key(SEED), SHAPE))
        for spec in SPECS[name]:
            sharding, told = NamedSharding(mesh, spec), NamedSharding(explicit, spec)
            case = {"eager": attempt(lambda: eager(init, expected, sharding, sharding))}
            narrow = expected.astype(jnp.bfloat16)
            case["narrow"] = attempt(lambda: eager(init, narrow, sharding, sharding, jnp.bfloat16))

            param = ParamInfo("weight", SHAPE, "float32", ("in", "out"), "dense", 1, 1)
            own = lambda index: draw_param(param, canonical(text), SEED, part=index)
            case["callback"] = report(jax.make_array_from_callback(SHAPE, sharding, own), expected, sharding)

            if text in COMPILED:
                compiled = jax.jit(lambda key: init(key, SHAPE), out_shardings=sharding)
                case["jit"] = attempt(lambda: report(compiled(jax.random.key(SEED)), expected, sharding))

            case["explicit"] = attempt(lambda: eager(init, expected, told, told))
            with jax.set_mesh(explicit):
                case["set_mesh"] = attempt(lambda: eager(init, expected, told, spec))
                if text in COMPILED:
                    inside = jax.jit(lambda key: init(key, SHAPE, jnp.float32, spec))
                    case["explicit_jit"] = attempt(lambda: report(inside(jax.random.key(SEED)), expected, told))
            with jax.set_mesh(mesh):
                case["auto_set_mesh"] = attempt(lambda: eager(init, expected, sharding, spec))
            found["cases"][f"{text} {name} {spec}"] = case

# Axes in another order than the canonical one, and batch axes: the parts are cut in the framework's layout.
mesh = mesh_of("2x4", AxisType.Auto)
found["layouts"] = {}
LAYOUTS = [(2, 1, ()), (0, 2, 1), ((1, 2), 0, ())]
for axes in LAYOUTS:
    init = initializers.he_normal(*axes)
    expected = np.asarray(init(jax.random.key(SEED), (4, 8, 6)))
    for spec in (P("b"), P("a", "b"), P("b", None, "a"), P(None, ("a", "b")), P(None, "b", "a")):
        sharding = NamedSharding(mesh, spec)
        drawn.clear()
        array = init(jax.random.key(SEED), (4, 8, 6), jnp.float32, sharding)
        found["layouts"][f"{axes} {spec}"] = report(array, expected, sharding) | {
            "drawn": sum(drawn), "part": math.prod(sharding.shard_shape((4, 8, 6)))
        }

keys = jax.random.split(jax.random.key(SEED), 8)
init = initializers.he_normal()
stacked = jax.jit(
    jax.vmap(lambda key: init(key, SHAPE)), out_shardings=NamedSharding(mesh_of("8", AxisType.Auto), P("a"))
)(keys)
found["vmap"] = same(stacked, np.stack([np.asarray(init(key, SHAPE)) for key in keys]))
print("FOUND" + json.dumps(found))
"""


@pytest.fixture(scope="module")
def found() -> dict[str, Any]:
    """What a process with eight devices says."""
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count=8"
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM],
        capture_output=True,
        text=True,
        check=False,
        env=os.environ | {"XLA_FLAGS": flags.strip(), "JAX_NUM_CPU_DEVICES": "8", "JAX_PLATFORMS": "cpu"},
    )
    lines = [line for line in done.stdout.splitlines() if line.startswith("FOUND")]
    assert lines, done.stderr[-4000:]
    result: dict[str, Any] = json.loads(lines[0].removeprefix("FOUND"))
    assert result["devices"] == 8
    return result


GOOD = {"same": True, "sharding": True, "shards": True}
INDEPENDENT = ("he_normal", "random_uniform", "truncated_normal", "zeros")
WAYS = ("eager", "narrow", "callback", "explicit", "set_mesh", "auto_set_mesh", "jit", "explicit_jit")


@pytest.mark.parametrize("way", WAYS)
def test_values_and_placement(found: dict[str, Any], way: str) -> None:
    cases = {name: case[way] for name, case in found["cases"].items() if way in case}
    assert len(cases) >= 11
    bad = {name: case for name, case in cases.items() if not isinstance(case, dict) or not case.items() >= GOOD.items()}
    assert not bad


@pytest.mark.parametrize("way", ["eager", "narrow", "explicit", "set_mesh", "auto_set_mesh"])
def test_each_device_draws_its_own_part(found: dict[str, Any], way: str) -> None:
    size = 8 * 16
    checked = set()
    for name, case in found["cases"].items():
        if name.startswith(INDEPENDENT):
            told = case[way]
            assert told["largest"] == told["part"], name
            # JAX asks once for each device, so what is replicated may be drawn again, but never the whole everywhere.
            assert told["drawn"] in {told["part"] * told["devices"], size}, name
            if told["part"] * told["devices"] == size:
                assert told["drawn"] == size, name
                checked.add(name)
    assert len(checked) == len(INDEPENDENT) * 6


def test_other_layouts_are_cut_in_the_framework_s_own_order(found: dict[str, Any]) -> None:
    assert len(found["layouts"]) == 15
    for name, told in found["layouts"].items():
        assert told.items() >= GOOD.items(), name
        assert told["drawn"] == 8 * told["part"], name


def test_a_sharded_stack_of_keys(found: dict[str, Any]) -> None:
    assert found["vmap"]
