"""What it costs to give a transformer of a billion weights its initial values: seconds and memory, against peers.

Each way runs in a process of its own, is timed from before the model is built to the last weight, imports aside
(a tiny model comes first); its memory is the highest resident size above that before. All build the same GPT:
12 d^2 weights per layer, a table of words tied to the output.

- fanin: built on PyTorch's meta device, then `fanin.init`, which decides, materialises and fills;
- fanin, in place: built as usual, then `fanin.init`: what an existing model costs;
- PyTorch's default: built as usual;
- transformers: GPT2LMHeadModel of the same size from its configuration, with its own initialisation;
- AnyInit: built as usual, then anyinit.initialize in its analytic mode;
- memory limit: built on the meta device, then every weight set to one number.

    python bench/init.py [--quick] [--json] [--keep]
"""

import argparse
import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from importlib import metadata
from statistics import median
from typing import Any

from common import Row, keep, show

SIZES = {"1,000 million": (50304, 2048, 18), "50 million": (50304, 512, 8)}
"""Words, width and layers."""
TINY = (64, 64, 1)
BUDGET = 5
LIMIT = 18 << 30
"""Bytes of data that a process may ask for, so that a way that needs more fails alone."""
LENGTH = 128


def gpt(words: int, width: int, depth: int) -> Any:
    """Layers of causal attention and GELU, the norm before each, the output tied to the table of words."""
    import torch
    from torch import Tensor, nn

    class Layer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.norms = nn.ModuleList((nn.LayerNorm(width), nn.LayerNorm(width)))
            self.qkv, self.out = nn.Linear(width, 3 * width), nn.Linear(width, width)
            self.up, self.down = nn.Linear(width, 4 * width), nn.Linear(4 * width, width)

        def forward(self, x: Tensor) -> Tensor:
            parts = self.qkv(self.norms[0](x)).unflatten(-1, (3, -1, 64)).permute(2, 0, 3, 1, 4)
            mixed = nn.functional.scaled_dot_product_attention(*parts, is_causal=True)
            x = x + self.out(mixed.transpose(1, 2).flatten(2))
            return x + self.down(nn.functional.gelu(self.up(self.norms[1](x))))

    class GPT(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.words, self.places = nn.Embedding(words, width), nn.Embedding(LENGTH, width)
            self.layers = nn.Sequential(*(Layer() for _ in range(depth)))
            self.norm, self.readout = nn.LayerNorm(width), nn.Linear(width, words, bias=False)
            self.readout.weight = self.words.weight

        def forward(self, x: Tensor) -> Tensor:
            x = self.words(x) + self.places(torch.arange(x.shape[1], device=x.device))
            return self.readout(self.norm(self.layers(x)))

    return GPT()


def on_meta(size: tuple[int, int, int]) -> Any:
    import torch

    with torch.device("meta"):
        return gpt(*size)


def example() -> Any:
    import torch

    return torch.arange(16).view(2, 8)


def ours(size: tuple[int, int, int]) -> Any:
    import fanin

    model = on_meta(size)
    fanin.init(model, "auto", example=example(), seed=0, quiet=True)
    return model


def ours_in_place(size: tuple[int, int, int]) -> Any:
    import fanin

    model = gpt(*size)
    fanin.init(model, "auto", example=example(), seed=0, quiet=True)
    return model


def from_transformers(size: tuple[int, int, int]) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    words, width, depth = size
    return GPT2LMHeadModel(
        GPT2Config(vocab_size=words, n_positions=LENGTH, n_embd=width, n_layer=depth, n_head=width // 64,
                   bos_token_id=0, eos_token_id=0)
    )  # fmt: skip


def from_anyinit(size: tuple[int, int, int]) -> Any:
    import anyinit

    model = gpt(*size)
    anyinit.initialize(model, "analytic", None, seed=0)
    return model


def memory_limit(size: tuple[int, int, int]) -> Any:
    import torch

    model = on_meta(size).to_empty(device="cpu")
    model.readout.weight = model.words.weight
    with torch.no_grad():
        for weight in model.parameters():
            weight.fill_(0.5)
    return model


SIDES: dict[str, Callable[[tuple[int, int, int]], Any]] = {
    "fanin": ours,
    "fanin, in place": ours_in_place,
    "PyTorch's default": lambda size: gpt(*size),
    "transformers": from_transformers,
    "AnyInit": from_anyinit,
    "memory limit": memory_limit,
}


def side(name: str, size: str) -> dict[str, float]:
    """Seconds and gigabytes of one way, in this process."""
    import torch

    SIDES[name](TINY)  # imports all that it needs
    resource.setrlimit(resource.RLIMIT_DATA, (LIMIT, LIMIT))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    begun = time.perf_counter()
    model = SIDES[name](SIZES[size])
    seconds = time.perf_counter() - begun
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    weights = sum(weight.numel() for weight in model.parameters())
    with torch.no_grad():
        assert all(weight[0, :64].isfinite().all() for weight in model.parameters() if weight.dim() > 1)
    return {"seconds": seconds, "memory": peak * 1024 / (4 * weights), "weights": weights}


def in_process(name: str, size: str) -> dict[str, float] | None:
    """The same from a process of its own, or None with a word on standard error if it fails."""
    command = [sys.executable, __file__, "--side", name, "--size", size]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        reason = (done.stderr.strip() or f"ended with {done.returncode}").splitlines()[-1]
        print(f"{name} left out: {reason}", file=sys.stderr)
        return None
    found: dict[str, float] = json.loads(done.stdout.splitlines()[-1])
    return found


def measure(size: str, repeats: int) -> list[Row]:
    """fanin against each peer, medians over repetitions that take turns."""
    taken: dict[str, list[dict[str, float]]] = {}
    for _ in range(repeats):
        for name in SIDES:
            found = in_process(name, size)
            if found is not None:
                taken.setdefault(name, []).append(found)
    middle = {name: {key: median(each[key] for each in runs) for key in runs[0]} for name, runs in taken.items()}
    rows = []
    for name in ("fanin", "fanin, in place"):
        for peer in SIDES:
            if name not in middle or peer not in middle or peer.startswith("fanin"):
                continue
            us, them = middle[name], middle[peer]
            budget = BUDGET if (name, peer) == ("fanin", "PyTorch's default") else None
            what = f"{size} weights, {name}"
            rows.append(Row(what, peer, them["seconds"] / us["seconds"], budget, us["seconds"], them["seconds"], "s"))
            rows.append(
                Row(what, peer, them["memory"] / us["memory"], None, us["memory"], them["memory"], "x weights' bytes")
            )
    return rows


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="50 million weights, once")
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/init.json")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    parser.add_argument("--size", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(side(options.side, options.size)))
        return
    large, small = SIZES
    rows: list[Row] = []
    for size, repeats in ((small, 1),) if options.quick else ((small, 5), (large, 3)):
        new = measure(size, repeats)
        show(new, options.json)
        rows += new
    if options.keep:
        keep("init", rows, {name: metadata.version(name) for name in ("fanin", "torch", "transformers", "anyinit")})


if __name__ == "__main__":
    main()
