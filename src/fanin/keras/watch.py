"""A callback that watches a training from batch to batch."""

import math
from typing import Any

import keras

from fanin.errors import InvalidValueError
from fanin.keras.gradients import compiled
from fanin.keras.layouts import variables_of
from fanin.keras.running import array_of
from fanin.keras.statistics import root_mean_square
from fanin.records import Course
from fanin.vitals import relative

__all__ = ["Watch"]


class Watch(keras.callbacks.Callback):  # type: ignore[misc]
    """Watches losses and how much each batch changes the weights; give it to `fit` as a callback.

    It changes nothing. What it costs is a copy of the weights, and a look at each, in every watched batch.

    Args:
        every: Weights are looked at in the first batch and then in each so many; not a number stands for the others.

    Attributes:
        course: What was seen since `fit` was last called; complete when it has returned.

    Example:
        >>> model = keras.Sequential([keras.Input((3,)), keras.layers.Dense(2, use_bias=False, name="d")])
        >>> model.compile("sgd", "mse")
        >>> watch = Watch()
        >>> x = keras.ops.ones((8, 3))
        >>> _ = model.fit(x, x[:, :2], batch_size=4, verbose=0, callbacks=[watch])
        >>> len(watch.course.losses), list(watch.course.updates), watch.course.infinite_step
        (2, ['d/kernel'], None)
    """

    def __init__(self, every: int = 1):
        super().__init__()
        if every < 1:
            raise InvalidValueError("Batches cannot be looked at that often", given=every, allowed="1 or more")
        self.every = every
        self._begin()

    def _begin(self) -> None:
        self._losses: list[float] = []
        self._updates: list[list[float]] = []
        self._sums = (0.0, 0.0)
        self._before: list[Any] | None = None
        self._weights: dict[str, keras.Variable] = {}
        self._compare = compiled(_compared)

    @property
    def course(self) -> Course:
        """What was seen."""
        broken = [at for at, loss in enumerate(self._losses) if not math.isfinite(loss)]
        columns = zip(*self._updates, strict=True) if self._updates else ((),) * len(self._weights)
        updates = dict(zip(self._weights, map(tuple, columns), strict=True))
        return Course(
            tuple(self._losses), updates, infinite_step=broken[0] if broken else None,
            infinite_place="loss" if broken else "",
        )  # fmt: skip

    def on_train_begin(self, logs: Any = None) -> None:
        """Forget what was seen before."""
        self._begin()
        self._weights = {path: each for path, each in variables_of(self.model).items() if len(each.shape) > 1}

    def on_epoch_begin(self, epoch: int, logs: Any = None) -> None:
        """Keras adds up losses anew."""
        self._sums = (0.0, 0.0)

    def on_train_batch_begin(self, batch: int, logs: Any = None) -> None:
        """Keep the weights."""
        if len(self._losses) % self.every == 0 and self.model is not None:  # asking for the model brings it up to date
            self._before = [keras.ops.copy(each.value) for each in self._weights.values()]

    def on_train_batch_end(self, batch: int, logs: Any = None) -> None:
        """Compare the weights with those before, and find the loss of this batch alone."""
        tracker = next((each for each in self.model.metrics if each.name == "loss"), None)
        if tracker is None or not tracker.variables:
            self._losses.append(float((logs or {}).get("loss", math.nan)))
        else:
            total, count = (float(array_of(each.value)) for each in (tracker.total, tracker.count))
            size = count - self._sums[1]
            self._losses.append((total - self._sums[0]) / size if size else math.nan)
            self._sums = (total, count)
        found = [math.nan] * len(self._weights)
        if self._before is not None:
            sizes = self._compare(self._before, [each.value for each in self._weights.values()])
            found = relative(*array_of(sizes)).tolist()
        self._updates.append(found)
        self._before = None


def _compared(before: list[Any], after: list[Any]) -> Any:
    """How large the changes of weights are, and the weights before, of shape (2, weights)."""
    changes = [root_mean_square(new - old) for new, old in zip(after, before, strict=True)]
    sizes = [root_mean_square(old) for old in before]
    return keras.ops.reshape(keras.ops.stack([*changes, *sizes]), (2, -1)) if sizes else keras.ops.zeros((2, 0))
