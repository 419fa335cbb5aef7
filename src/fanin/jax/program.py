"""A traced model as one flat list of steps, which can be read, and run again with changes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import jax.numpy as jnp
from jax.extend.core import Jaxpr, Literal

__all__ = ["PREFIX", "Node", "Program", "flatten", "run"]

PREFIX = "fanin:"
"""Scopes of this name and a number mark the calls of modules in a trace."""
_INLINED = {
    "jit": "jaxpr",
    "pjit": "jaxpr",
    "closed_call": "call_jaxpr",
    "core_call": "call_jaxpr",
    "remat2": "jaxpr",
    "checkpoint": "jaxpr",
    "custom_jvp_call": "call_jaxpr",
    "custom_vjp_call": "call_jaxpr",
    "custom_lin": "call_jaxpr",
}
"""Calls of a program within the program: the primitive and its parameter that holds the inner program."""
_DERIVATIVE = ("custom_jvp_call", "custom_vjp_call")
"""Calls that bring a derivative of their own, which only running them whole keeps."""
_UNROLLED = 256
"""The longest loop over stacked layers that is written out."""


Calls = tuple[tuple[int, int], ...]
_Around = tuple[Calls, tuple[int, ...]]
"""What a step is inside of: marked calls, and calls with a derivative of their own."""


@dataclass(frozen=True)
class Node:
    """One step: a primitive from values to values, each in its numbered slot.

    Attributes:
        params: The primitive's own parameters.
        calls: The marked calls around it, outermost first: a mark's number, and which copy of it this is.
        within: The calls with a derivative of their own around it, outermost first.
        apply: Runs the step on values.
    """

    primitive: str
    params: Mapping[str, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    calls: Calls
    within: tuple[int, ...]
    apply: Callable[..., Sequence[Any]]


@dataclass(frozen=True)
class Program:
    """A flat program.

    Attributes:
        nodes: The steps, those inside calls with a derivative of their own included.
        wholes: Those calls, by number.
        shapes: Shape and type of each slot.
        given: Values of the slots that no step makes: literals, captured arrays.
        inputs: The slots of the program's arguments.
        outputs: The slots of its results.
    """

    nodes: tuple[Node, ...]
    wholes: Mapping[int, Node]
    shapes: tuple[Any, ...]
    given: Mapping[int, Any]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]


class _Flattener:
    """Walks a traced program and writes its steps down, one slot for each value.

    Attributes:
        weights: The slots that parameters alone determine.
        copies: How many inner programs were written out; the marks inside each are told apart by that.
    """

    def __init__(self) -> None:
        self.nodes: list[Node] = []
        self.wholes: dict[int, Node] = {}
        self.shapes: list[Any] = []
        self.given: dict[int, Any] = {}
        self.weights: set[int] = set()
        self.copies = 0

    def slot(self, aval: Any) -> int:
        self.shapes.append(aval)
        return len(self.shapes) - 1

    def constant(self, value: Any, aval: Any) -> int:
        slot = self.slot(aval)
        self.given[slot] = value
        return slot

    def add(
        self,
        primitive: str,
        params: Mapping[str, Any],
        inputs: Sequence[int],
        avals: Iterable[Any],
        around: _Around,
        apply: Callable[..., Sequence[Any]],
    ) -> tuple[int, ...]:
        """One more step; returns the slots of its outputs."""
        outputs = tuple(self.slot(aval) for aval in avals)
        self.nodes.append(Node(primitive, params, tuple(inputs), outputs, *around, apply))
        if self.weights.intersection(inputs) and self.weights.union(self.given).issuperset(inputs):
            self.weights.update(outputs)
        return outputs

    def walk(self, jaxpr: Jaxpr, consts: Sequence[int], inputs: Sequence[int], around: _Around) -> list[int]:
        """Write down one program whose captured and given values are in these slots; returns its outputs' slots."""
        env: dict[Any, int] = dict(zip(jaxpr.constvars, consts, strict=True))
        env.update(zip(jaxpr.invars, inputs, strict=True))
        copy = self.copies
        self.copies += 1

        def read(atom: Any) -> int:
            return self.constant(atom.val, atom.aval) if isinstance(atom, Literal) else env[atom]

        for eqn in jaxpr.eqns:
            scopes = [str(getattr(each, "name", "")) for each in eqn.source_info.name_stack.stack]
            marks = ((int(name.removeprefix(PREFIX)), copy) for name in scopes if name.startswith(PREFIX))
            inside = ((*around[0], *marks), around[1])
            arguments = [read(atom) for atom in eqn.invars]
            outputs: Sequence[int]
            if eqn.primitive.name in _INLINED:
                outputs = self._call(eqn, arguments, inside)
            elif eqn.primitive.name == "scan" and self._is_over_layers(eqn, arguments):
                outputs = self._loop(eqn, arguments, inside)
            else:
                avals = [each.aval for each in eqn.outvars]
                outputs = self.add(eqn.primitive.name, eqn.params, arguments, avals, inside, _apply(eqn))
            env.update(zip(eqn.outvars, outputs, strict=True))
        return [read(atom) for atom in jaxpr.outvars]

    def _inner(self, closed: Any, arguments: Sequence[int], around: _Around) -> list[int]:
        """`walk` for a program with or without captured arrays of its own."""
        jaxpr = getattr(closed, "jaxpr", closed)
        values = getattr(closed, "consts", ())
        consts = [self.constant(value, var.aval) for value, var in zip(values, jaxpr.constvars, strict=True)]
        return self.walk(jaxpr, consts, arguments, around)

    def _call(self, eqn: Any, arguments: list[int], around: _Around) -> Sequence[int]:
        """A call, written out; one with a derivative of its own is remembered whole, too."""
        inner = eqn.params[_INLINED[eqn.primitive.name]]
        if eqn.primitive.name not in _DERIVATIVE:
            return self._inner(inner, arguments, around)
        number, first = len(self.wholes), len(self.nodes)
        self.wholes[number] = Node(eqn.primitive.name, {}, tuple(arguments), (), *around, _apply(eqn))
        inside = (around[0], (*around[1], number))
        found = self._inner(inner, arguments, inside)
        # A copy where the call hands a value through, so that each output has a slot that is the call's own.
        made = {slot for node in self.nodes[first:] for slot in node.outputs}
        outputs: list[int] = []
        for place, slot in enumerate(found):
            own = slot in made and slot not in found[:place]
            avals = [self.shapes[slot]]
            outputs += [slot] if own else self.add("copy", {}, [slot], avals, inside, lambda value: [value])
        self.wholes[number] = replace(self.wholes[number], outputs=tuple(outputs))
        return outputs

    def _is_over_layers(self, eqn: Any, arguments: list[int]) -> bool:
        """Whether a loop runs over layers whose weights are stacked, and not over time."""
        stacks = arguments[eqn.params["num_consts"] + eqn.params["num_carry"] :]
        return eqn.params["length"] <= _UNROLLED and bool(self.weights.intersection(stacks))

    def _loop(self, eqn: Any, arguments: list[int], around: _Around) -> Sequence[int]:
        """A loop over stacked layers, written out one layer after the other."""
        params, body = eqn.params, eqn.params["jaxpr"]
        fixed = params["num_consts"]
        carried = params["num_carry"]
        carry, stacks = arguments[fixed : fixed + carried], arguments[fixed + carried :]
        avals = [var.aval for var in body.jaxpr.invars[fixed + carried :]]
        rows: dict[int, list[int]] = {}
        order = range(params["length"])
        for index in reversed(order) if params["reverse"] else order:
            parts: list[int] = []
            for slot, aval in zip(stacks, avals, strict=True):
                parts += self.add("take_layer", {}, [slot], [aval], around, lambda v, at=index: [v[at]])
            found = self._inner(body, [*arguments[:fixed], *carry, *parts], around)
            carry, rows[index] = found[:carried], found[carried:]
        outputs = list(carry)
        for place, var in enumerate(eqn.outvars[carried:]):
            column = [rows[index][place] for index in order]
            outputs += self.add("stack_layers", {}, column, [var.aval], around, lambda *v: [jnp.stack(v)])
        return outputs


def _apply(eqn: Any) -> Callable[..., Sequence[Any]]:
    """A function that runs one traced step on values."""

    def apply(*values: Any) -> Sequence[Any]:
        """The step's outputs."""
        bound = eqn.primitive.get_bind_params(eqn.params)
        functions, params = bound if isinstance(bound, tuple) else ((), bound)  # JAX 0.10 returns the latter alone
        result = eqn.primitive.bind(*functions, *values, **params)
        return result if eqn.primitive.multiple_results else [result]

    return apply


def flatten(closed: Any, weights: int) -> Program:
    """The flat program of a `jax.make_jaxpr` result, without the steps that no output needs.

    Args:
        closed: The traced function.
        weights: How many of its first arguments are parameters.
    """
    flat = _Flattener()
    jaxpr = closed.jaxpr
    inputs = [flat.slot(var.aval) for var in jaxpr.invars]
    flat.weights.update(inputs[:weights])
    consts = [flat.constant(value, var.aval) for value, var in zip(closed.consts, jaxpr.constvars, strict=True)]
    outputs = flat.walk(jaxpr, consts, inputs, ((), ()))
    needed, kept = set(outputs), []
    for node in reversed(flat.nodes):
        if needed.intersection(node.outputs):
            needed.update(node.inputs)
            kept.append(node)
    return Program(tuple(reversed(kept)), flat.wholes, tuple(flat.shapes), flat.given, tuple(inputs), tuple(outputs))


def run(
    program: Program,
    values: Mapping[int, Any],
    opened: frozenset[int],
    change: Callable[[int, Any, dict[int, Any]], Any] = lambda slot, value, values: value,
) -> dict[int, Any]:
    """Run a flat program.

    Args:
        program: What to run.
        values: The values of all slots that no step makes, literals included.
        opened: The calls that are run step by step although they bring a derivative of their own.
        change: Called with each slot, its new value and all values so far; what it returns takes the value's place.

    Returns:
        The values of all slots that were filled.
    """
    filled = dict(values)
    done: set[int] = set()
    for node in program.nodes:
        closed = next((number for number in node.within if number not in opened), None)
        if closed in done:
            continue
        if closed is not None:
            done.add(closed)
        step = node if closed is None else program.wholes[closed]
        for slot, value in zip(step.outputs, step.apply(*(filled[each] for each in step.inputs)), strict=True):
            filled[slot] = change(slot, value, filled)
    return filled
