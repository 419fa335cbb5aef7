"""Where does training stop, in units of the correlation depth scale? Tanh networks on MNIST.

python bench/trainable_depth.py [--quick] [--task mnist] [--out trainable_depth.png] [--json] [--keep]
python bench/trainable_depth.py --docs

The experiment of Schoenholz et al. 2017, run through `fanin.compare`: networks of several depths and weight
variances (bias variance 0.05), two epochs each at a small rate as in that paper, and the lines 4, 6 and 9 xi_c of
`fanin.theory` on the picture.
Finished runs are kept in a store, so the same command goes on where it was stopped. With --keep the medians are kept
beside the other results, and with --docs nothing is run: the kept ones are written into docs/theory.md.
"""

import argparse
import json
import math
import tempfile
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path
from statistics import median

import matplotlib as mpl
import numpy as np
from common import keep, kept, write_table

mpl.use("Agg")
import matplotlib.pyplot as plt

import fanin
from fanin.theory import depth_scales

SIGMA_B2 = 0.05
VARIANCES = (0.8, 1.0, 1.3, 1.76, 2.5, 3.5)
DEPTHS = (10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80)
WIDTH = 100

NO_LIMIT = 1000
"""A depth scale of so many layers limits nothing that is trained here."""

MODEL = """
import keras

def build(input_shape=(28, 28, 1), outputs=10):
    biases = keras.initializers.RandomNormal(stddev={stddev!r})
    layers = [keras.layers.Dense({width}, activation="tanh", bias_initializer=biases) for _ in range({depth})]
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), *layers, keras.layers.Dense(outputs)])
"""


@dataclass(frozen=True)
class Trained:
    """Networks of one depth and weight variance x fan-in, and the median of their test accuracies."""

    depth: int
    sigma_w2: float
    accuracy: float


def accuracies(depth: int, task: str, seeds: int, folder: Path) -> dict[float, list[float]]:
    """Test accuracy by weight variance, one number for each seed."""
    source = folder / f"deep_{depth}.py"
    source.write_text(MODEL.format(stddev=SIGMA_B2**0.5, width=WIDTH, depth=depth))
    names = {
        str(fanin.canonical(f"variance_scaling(distribution='untruncated_normal', scale={v})")): v for v in VARIANCES
    }
    results = fanin.compare(
        task=task, model=f"{source}:build", init=list(names), seeds=seeds, lr=[0.002], epochs=2, batch_size=64,
        optimizer="sgd(momentum=0.8)", store=folder / "trainable_depth.sqlite",
    )  # fmt: skip
    found: dict[float, list[float]] = {}
    for row in results.rows():
        found.setdefault(names[row["init"]], []).append(row["test_metric"])
    return found


def draw(rows: Sequence[Trained], out: Path) -> None:
    depths, table = sorted({row.depth for row in rows}), {(row.depth, row.sigma_w2): row.accuracy for row in rows}
    grid = np.array([[table[depth, v] for v in VARIANCES] for depth in depths])
    _, axes = plt.subplots(figsize=(7.5, 5), layout="constrained")
    mesh = axes.pcolormesh(range(len(VARIANCES)), range(len(depths)), grid, cmap="viridis", vmin=0.1, vmax=1.0)
    axes.figure.colorbar(mesh, ax=axes, label="test accuracy after two epochs (median over seeds)")
    fine = np.linspace(VARIANCES[0], VARIANCES[-1], 120)
    scales = np.array([depth_scales("tanh", v, SIGMA_B2).xi_c for v in fine])
    for factor, style in ((4, ":"), (6, "-"), (9, "--")):
        height = np.interp(np.log(np.minimum(factor * scales, 1e4)), np.log(depths), range(len(depths)), right=np.nan)
        axes.plot(np.interp(fine, VARIANCES, range(len(VARIANCES))), height, style, color="red", label=f"{factor} xi_c")
    axes.set_xticks(range(len(VARIANCES)), [f"{v:g}" for v in VARIANCES])
    axes.set_yticks(range(len(depths)), depths)
    axes.set(xlabel="weight variance x fan-in", ylabel="layers", title=f"tanh, width {WIDTH}, sigma_b2 = {SIGMA_B2}")
    axes.legend(loc="upper left")
    plt.savefig(out, dpi=150)


def stops(rows: Sequence[Trained]) -> str:
    """Where accuracy falls below one half, as a table in Markdown."""
    lines = ["| sigma_w2 | xi_c | stops between (layers) | in xi_c |", "|---|---|---|---|"]
    for variance in sorted({row.sigma_w2 for row in rows}):
        column = sorted((row.depth, row.accuracy) for row in rows if row.sigma_w2 == variance)
        found = depth_scales("tanh", variance, SIGMA_B2)
        scale = found.xi_c if found.xi_c < NO_LIMIT else math.inf
        at = next((i for i, (_, accuracy) in enumerate(column) if accuracy < 0.5), None)
        phase = "the edge" if math.isinf(scale) else found.phase
        known = f"| {variance:g} ({phase}) | {'no limit' if math.isinf(scale) else f'{scale:.1f}'} |"
        if at is None:
            depth, accuracy = column[-1]
            beyond = "" if math.isinf(scale) else f"beyond {depth / scale:.1f}"
            lines.append(f"{known} not by {depth}, where accuracy is {accuracy:.2f} | {beyond} |")
        else:
            low, high = (column[max(i, 0)][0] for i in (at - 1, at))
            lines.append(f"{known} {low} and {high} | {low / scale:.1f} to {high / scale:.1f} |")
    return "\n".join(lines)


def table() -> str:
    """What docs/theory.md shows of the kept results."""
    return stops([Trained(**row) for row in kept("trainable_depth")])


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits and small depths, two seeds")
    parser.add_argument("--task", default="mnist")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fanin_trainable_depth")
    parser.add_argument("--out", type=Path, default=Path("trainable_depth.png"))
    parser.add_argument("--json", action="store_true")
    parser.add_argument("--keep", action="store_true", help="write bench/results/trainable_depth.json")
    parser.add_argument("--docs", action="store_true", help="only write docs/theory.md from what is kept")
    options = parser.parse_args()
    if options.docs:
        write_table("theory.md", "trainable_depth.py", table())
        return
    if options.quick:
        options.task, options.depths = "digits", [3, 6, 12, 24]
    options.folder.mkdir(parents=True, exist_ok=True)
    rows = []
    for depth in options.depths:
        for variance, values in accuracies(depth, options.task, options.seeds, options.folder).items():
            rows.append(Trained(depth, variance, median(values)))
            print(json.dumps(asdict(rows[-1])) if options.json else rows[-1], flush=True)
    if not options.json:
        print(stops(rows))
    draw(rows, options.out)
    if options.keep:
        keep("trainable_depth", rows, {name: metadata.version(name) for name in ("fanin", "keras", "jax", "numpy")})


if __name__ == "__main__":
    main()
