"""Where does training stop, in units of the correlation depth scale? Tanh networks on MNIST.

python bench/trainable_depth.py [--quick] [--task mnist] [--out trainable_depth.png]

The experiment of Schoenholz et al. 2017, run through `fanin.compare`: networks of several depths and weight
variances (bias variance 0.05), two epochs each at a small rate as in that paper, and the lines 4, 6 and 9 xi_c of
`fanin.theory` on the picture.
Finished runs are kept in a store, so the same command goes on where it was stopped.
"""

import argparse
import json
import tempfile
from pathlib import Path
from statistics import median

import matplotlib as mpl
import numpy as np

mpl.use("Agg")
import matplotlib.pyplot as plt

import fanin
from fanin.theory import depth_scales

SIGMA_B2 = 0.05
VARIANCES = (0.8, 1.0, 1.3, 1.76, 2.5, 3.5)
DEPTHS = (10, 15, 20, 25, 30, 35, 40, 45, 50, 60, 70, 80)
WIDTH = 100

MODEL = """
import keras

def build(input_shape=(28, 28, 1), outputs=10):
    biases = keras.initializers.RandomNormal(stddev={stddev!r})
    layers = [keras.layers.Dense({width}, activation="tanh", bias_initializer=biases) for _ in range({depth})]
    return keras.Sequential([keras.Input(input_shape), keras.layers.Flatten(), *layers, keras.layers.Dense(outputs)])
"""


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


def draw(table: dict[int, dict[float, float]], out: Path) -> None:
    depths = sorted(table)
    grid = np.array([[table[depth][v] for v in VARIANCES] for depth in depths])
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


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="digits and small depths, two seeds")
    parser.add_argument("--task", default="mnist")
    parser.add_argument("--seeds", type=int, default=2)
    parser.add_argument("--depths", type=int, nargs="+", default=list(DEPTHS))
    parser.add_argument("--folder", type=Path, default=Path(tempfile.gettempdir()) / "fanin_trainable_depth")
    parser.add_argument("--out", type=Path, default=Path("trainable_depth.png"))
    options = parser.parse_args()
    if options.quick:
        options.task, options.depths = "digits", [3, 6, 12, 24]
    options.folder.mkdir(parents=True, exist_ok=True)
    table: dict[int, dict[float, float]] = {}
    for depth in options.depths:
        found = accuracies(depth, options.task, options.seeds, options.folder)
        table[depth] = {variance: median(values) for variance, values in found.items()}
        print(depth, {v: round(a, 3) for v, a in table[depth].items()}, flush=True)
    print(json.dumps(stops(table)))
    draw(table, options.out)
    print(options.out)


def stops(table: dict[int, dict[float, float]]) -> dict[str, dict[str, float | None]]:
    """For each variance the depth at which accuracy falls below one half, between the two depths around it."""
    depths = sorted(table)
    found: dict[str, dict[str, float | None]] = {}
    for variance in VARIANCES:
        column = [table[depth][variance] for depth in depths]
        below = next((i for i, value in enumerate(column) if value < 0.5), None)
        scale = depth_scales("tanh", variance, SIGMA_B2).xi_c
        at = None if below is None or below == 0 else float(np.sqrt(depths[below] * depths[below - 1]))
        found[f"{variance:g}"] = {"xi_c": scale, "stops_at": at, "in_xi_c": None if at is None else at / scale}
    return found


if __name__ == "__main__":
    main()
