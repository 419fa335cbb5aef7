"""The outcome of a comparison, ready for people, for files and for further work."""

import csv
import io
import math
import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from html import escape
from typing import TYPE_CHECKING, Any

from fanin.experiments.analysis import Analysis, ArmSummary
from fanin.experiments.spec import TUNING_SEEDS, Experiment
from fanin.records import Run, RunResult, to_plain
from fanin.records.frames import frame

if TYPE_CHECKING:
    import pandas as pd

__all__ = ["Results", "system"]


def system() -> dict[str, str]:
    """What the numbers of this process depend on outside of fanin."""
    import numpy as np

    return {"python": platform.python_version(), "numpy": np.__version__, "machine": platform.platform()}


@dataclass(frozen=True)
class Results:
    """A finished comparison.

    Attributes:
        experiment: What was compared.
        runs: Every run with its result.
        analysis: Numbers and sentences for each initializer.
        environments: Versions and devices the runs were made with; more than one if a store was continued elsewhere.
        notes: What the user should know about the model or the data.
    """

    experiment: Experiment
    runs: Mapping[Run, RunResult]
    analysis: Analysis
    environments: tuple[Mapping[str, str], ...]
    notes: tuple[str, ...] = ()

    @property
    def best(self) -> ArmSummary:
        """The initializer with the best median on test data."""
        sign = 1 if self.analysis.metric == "accuracy" else -1
        return max(self.analysis.arms, key=lambda arm: sign * arm.median)

    def rows(self) -> list[dict[str, Any]]:
        """One plain record for each run: what determined it, and its final numbers.

        Test data is looked at once: its numbers are there for the compared seeds at the chosen learning rate,
        and not a number elsewhere.
        """
        rates = {(str(each.arm.init), each.arm.activation): each.learning_rate for each in self.analysis.arms}

        def looked(run: Run) -> bool:
            return run.seed not in TUNING_SEEDS and run.learning_rate == rates[run.init, run.activation]

        labels = {(str(arm.init), arm.activation): arm.label for arm in self.experiment.arms}
        return [
            {
                "label": labels[run.init, run.activation],
                **run.to_dict(),
                "id": run.id,
                "purpose": "tuning" if run.seed in TUNING_SEEDS else "comparison",
                "status": result.status,
                "diverged_at": result.diverged_at,
                "train_loss": result.train_loss[-1],
                "val_loss": result.val_loss[-1],
                "val_metric": result.val_metric[-1],
                "test_loss": result.test_loss if looked(run) else math.nan,
                "test_metric": result.test_metric if looked(run) else math.nan,
                "seconds": result.seconds,
            }
            for run, result in self.runs.items()
        ]

    def to_dict(self) -> dict[str, Any]:
        """Everything but the curves, ready for JSON: numbers that are not finite as null or ``"inf"``."""
        experiment, analysis = self.experiment, self.analysis
        arms = [
            {
                **{key: value for key, value in asdict(arm).items() if key != "arm"},
                "label": arm.arm.label,
                "init": str(arm.arm.init),
                "activation": arm.arm.activation,
            }
            for arm in analysis.arms
        ]
        record = {
            "task": experiment.task.name,
            "model": experiment.model.text,
            "seeds": experiment.seeds,
            "learning_rates": list(experiment.learning_rates),
            "optimizer": str(experiment.settings.optimizer),
            "batch_size": experiment.settings.batch_size,
            "epochs": experiment.settings.epochs,
            "baseline": experiment.baseline.label,
            "metric": f"test {analysis.metric}",
            "target": analysis.target,
            "arms": arms,
            "notes": [*analysis.notes, *self.notes],
            "environments": [dict(each) for each in self.environments],
            "system": system(),
            "runs": self.rows(),
        }
        return to_plain(record)  # type: ignore[no-any-return]

    def to_csv(self) -> str:
        """The table of runs as text with commas; empty where a number is not finite."""
        rows = self.rows()
        out = io.StringIO()
        writer = csv.DictWriter(out, fieldnames=list(rows[0]), lineterminator="\n")
        writer.writeheader()
        for row in rows:
            finite = {k: "" if isinstance(v, float) and not math.isfinite(v) else v for k, v in row.items()}
            writer.writerow(finite)
        return out.getvalue()

    def to_pandas(self) -> "pd.DataFrame":
        """The table of runs as a pandas DataFrame.

        Raises:
            MissingExtraError: If pandas is not installed.
        """
        return frame(self.rows())

    def _repr_html_(self) -> str:
        """The sentences as a list, for notebooks."""
        return f"<ul>{''.join(f'<li>{escape(line)}</li>' for line in str(self).splitlines())}</ul>"

    def __str__(self) -> str:
        return "\n".join([*(arm.sentence for arm in self.analysis.arms), *self.analysis.notes, *self.notes])
