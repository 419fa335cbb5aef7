"""What the scripts in bench/ wrote into the documentation."""

import sys
from pathlib import Path
from typing import Any

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "bench"))

import doctor
import mutations
import trainable_depth
from common import DOCS, with_table


@pytest.mark.parametrize(
    ("page", "script"), [("check.md", doctor), ("check.md", mutations), ("theory.md", trainable_depth)]
)
def test_a_page_shows_the_results_that_are_kept(page: str, script: Any) -> None:
    assert with_table(page, Path(script.__file__).name, script.table()) == (DOCS / page).read_text()


def test_training_stops_between_two_depths() -> None:
    rows = [
        trainable_depth.Trained(depth, variance, accuracy)
        for variance, accuracies in ((0.8, (0.9, 0.4)), (1.76, (0.9, 0.8)))
        for depth, accuracy in zip((10, 20), accuracies, strict=True)
    ]
    _, _, ordered, edge = trainable_depth.stops(rows).splitlines()
    assert ordered == "| 0.8 (ordered) | 2.3 | 10 and 20 | 4.4 to 8.7 |"
    assert edge == "| 1.76 (the edge) | no limit | not by 20, where accuracy is 0.80 |  |"
