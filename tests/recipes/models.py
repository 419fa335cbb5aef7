"""Small models as steps, written by hand, and a slow second way to find what they do to a signal."""

from dataclasses import dataclass, field

import numpy as np

from fanin.activations import activation
from fanin.initializers import draw_param
from fanin.records import ModelInfo, Op, ParamInfo, Plan


@dataclass
class Model:
    """Steps put together one after the other; each method returns the index of its step."""

    ops: list[Op] = field(default_factory=list)
    params: list[ParamInfo] = field(default_factory=list)

    def add_op(self, kind: str, *inputs: int, **more: object) -> int:
        shape = more.pop("shape", self.ops[inputs[0]].shape if inputs else ())
        self.ops.append(Op(kind, inputs, shape, **more))
        return len(self.ops) - 1

    def input(self, *shape: int, name: str = "float") -> int:
        return self.add_op("input", shape=(2, *shape), name=name)

    def weight(self, source: int, units: int, name: str, *, role: str = "dense", bias: bool = True) -> int:
        *batch, fan_in = self.ops[source].shape
        self.params.append(ParamInfo(f"{name}.weight", (units, fan_in), "float32", ("out", "in"), role))
        names = (f"{name}.weight",)
        if bias:
            self.params.append(ParamInfo(f"{name}.bias", (units,), "float32", (), "bias"))
            names += (f"{name}.bias",)
        return self.add_op("weight", source, shape=(*batch, units), params=names)

    def act(self, source: int, name: str) -> int:
        return self.add_op("activation", source, name=name)

    def norm(self, source: int, name: str, kind: str = "layer") -> int:
        width = self.ops[source].shape[-1]
        names = (f"{name}.weight", f"{name}.bias")
        self.params += [ParamInfo(each, (width,), "float32", (), "norm") for each in names]
        return self.add_op("norm", source, params=names, name=kind)

    def lookup(self, source: int, rows: int, width: int, name: str) -> int:
        self.params.append(ParamInfo(f"{name}.weight", (rows, width), "float32", ("batch", "out"), "embedding"))
        return self.add_op("lookup", source, shape=(*self.ops[source].shape, width), params=(f"{name}.weight",))

    def attention(self, source: int, memory: int, name: str) -> int:
        width = self.ops[source].shape[-1]
        query, key, value = (
            self.weight(each, width, f"{name}.{part}", role="attention")
            for each, part in ((source, "query"), (memory, "key"), (memory, "value"))
        )
        mixed = self.add_op("attention", query, key, value)
        return self.weight(mixed, width, f"{name}.out", role="attention")

    def feed_forward(self, source: int, width: int, name: str, activation: str = "gelu") -> int:
        inner = self.act(self.weight(source, width, f"{name}.up"), activation)
        return self.weight(inner, self.ops[source].shape[-1], f"{name}.down")

    def info(self, *outputs: int) -> ModelInfo:
        return ModelInfo("torch", tuple(self.params), tuple(self.ops), outputs or (len(self.ops) - 1,))


def mlp(depth: int, width: int, act: str, inputs: int = 48, outputs: int = 10) -> ModelInfo:
    """Dense layers with an activation between them."""
    model = Model()
    at = model.input(inputs)
    for layer in range(depth - 1):
        at = model.act(model.weight(at, width, str(layer)), act)
    model.weight(at, outputs, str(depth - 1))
    return model.info()


def residual_mlp(blocks: int, width: int, act: str = "relu", *, norm: str = "") -> ModelInfo:
    """Blocks of two layers added to what they branched from; `norm` is pre, post or empty."""
    model = Model()
    at = model.weight(model.input(30), width, "stem")
    for block in range(blocks):
        inside = model.norm(at, f"{block}.norm") if norm == "pre" else at
        inside = model.feed_forward(inside, 2 * width, f"{block}", act)
        at = model.add_op("add", at, inside)
        at = model.norm(at, f"{block}.norm") if norm == "post" else at
    model.weight(at, 10, "head")
    return model.info()


def transformer(layers: int, width: int = 16, *, norm: str = "pre", tied: bool = False) -> ModelInfo:
    """A language model: tables of tokens and positions, attention and feed-forward layers, a head."""
    model = Model()
    at = model.lookup(model.input(5, name="index"), 40, width, "tokens")
    places = model.lookup(model.add_op("constant", shape=(5,)), 5, width, "positions")
    at = model.add_op("add", at, places)
    for layer in range(layers):
        for name in ("attention", "mlp"):
            inside = model.norm(at, f"{layer}.{name}.norm") if norm == "pre" else at
            branch = (
                model.attention(inside, inside, f"{layer}.attention") if name == "attention"
                else model.feed_forward(inside, 4 * width, f"{layer}.mlp")
            )  # fmt: skip
            at = model.add_op("add", at, branch)
            at = model.norm(at, f"{layer}.{name}.norm") if norm == "post" else at
    at = model.norm(at, "final") if norm == "pre" else at
    if tied:
        model.add_op("weight", at, shape=(2, 5, 40), params=("tokens.weight",))
    else:
        model.weight(at, 40, "head", bias=False)
    return model.info()


def encoder_decoder(encoders: int, decoders: int, width: int = 16) -> ModelInfo:
    """A post-norm transformer whose decoder attends to its encoder."""
    model = Model()
    source, target = model.input(6, width), model.input(4, width)
    for layer in range(encoders):
        at = model.add_op("add", source, model.attention(source, source, f"e{layer}.self"))
        at = model.norm(at, f"e{layer}.norm1")
        source = model.norm(
            model.add_op("add", at, model.feed_forward(at, 2 * width, f"e{layer}.mlp")), f"e{layer}.norm2"
        )
    for layer in range(decoders):
        at = model.add_op("add", target, model.attention(target, target, f"d{layer}.self"))
        at = model.norm(at, f"d{layer}.norm1")
        at = model.norm(model.add_op("add", at, model.attention(at, source, f"d{layer}.cross")), f"d{layer}.norm2")
        target = model.norm(
            model.add_op("add", at, model.feed_forward(at, 2 * width, f"d{layer}.mlp")), f"d{layer}.norm3"
        )
    model.weight(target, 12, "head")
    return model.info()


def run(info: ModelInfo, plan: Plan, examples: int = 64) -> list[np.ndarray]:
    """Each step's output on standard normal inputs, computed with plain NumPy: an oracle for predictions."""
    entries = {entry.param.path: entry for entry in plan.chosen}
    rng = np.random.default_rng(plan.seed)

    def values(path: str) -> np.ndarray:
        entry = entries[path]
        drawn = draw_param(entry.param, entry.init, plan.seed).astype(np.float64)
        return drawn * entry.scales[0] if entry.scales else drawn

    done: list[np.ndarray] = []
    for op in info.ops:
        inputs = [done[source] for source in op.inputs]
        done.append(_step(op, inputs, values, rng, examples))
    return done


def _step(op, inputs, values, rng, examples):
    match op.kind:
        case "input" if op.name == "index":
            return rng.integers(0, 40, (examples, *op.shape[1:]))
        case "input":
            return rng.normal(size=(examples, *op.shape[1:]))
        case "constant":
            return np.broadcast_to(np.arange(op.shape[-1]), (examples, op.shape[-1]))
        case "lookup":
            return values(op.params[0])[inputs[0]]
        case "weight":
            product = inputs[0] @ values(op.params[0]).T
            return product + values(op.params[1]) if len(op.params) > 1 else product
        case "activation":
            return activation(op.name).phi(inputs[0])
        case "add":
            return inputs[0] + inputs[1]
        case "norm":
            centred = inputs[0] - inputs[0].mean(-1, keepdims=True)
            return centred / np.sqrt(np.square(centred).mean(-1, keepdims=True)) * values(op.params[0])
        case "attention":
            query, key, value = inputs
            scores = query @ key.swapaxes(-1, -2) / np.sqrt(query.shape[-1])
            shares = np.exp(scores - scores.max(-1, keepdims=True))
            return shares / shares.sum(-1, keepdims=True) @ value
        case _:
            raise TypeError(op.kind)
