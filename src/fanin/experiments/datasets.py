"""Data sets to train on, in one table: embedded, downloaded with a checksum, or the user's own."""

import gzip
import os
import pickle
import tarfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fanin.errors import DataError, extra_missing, unknown_name
from fanin.experiments.cache import cache_dir
from fanin.experiments.sources import load_function
from fanin.experiments.tasks import ALLOWED_ARRAYS, Arrays, make_task
from fanin.records import Task

__all__ = ["TASKS", "TaskEntry", "load_task", "task_entry"]


@dataclass(frozen=True)
class Download:
    """Files that belong to a data set: where they are and what they must hash to (SHA-256)."""

    folder: str
    url: str
    files: Mapping[str, str]


@dataclass(frozen=True)
class TaskEntry:
    """One data set of the table, with what is trained on it where the user does not say."""

    name: str
    summary: str
    load: Callable[[], Arrays]
    model: str
    epochs: int
    batch_size: int


_MNIST_FILES = (
    "train-images-idx3-ubyte",
    "train-labels-idx1-ubyte",
    "t10k-images-idx3-ubyte",
    "t10k-labels-idx1-ubyte",
)
DOWNLOADS = {
    "mnist": Download(
        "mnist",
        "https://ossci-datasets.s3.amazonaws.com/mnist/",
        {
            "train-images-idx3-ubyte.gz": "440fcabf73cc546fa21475e81ea370265605f56be210a4024d2ca8f203523609",
            "train-labels-idx1-ubyte.gz": "3552534a0a558bbed6aed32b30c495cca23d567ec52cac8be1a0730e8010255c",
            "t10k-images-idx3-ubyte.gz": "8d422c7b0a1c1c79245a5bcf07fe86e33eeafee792b84584aec276f5a2dbc4e6",
            "t10k-labels-idx1-ubyte.gz": "f7ae60f92e00ec6debd23a6088c31dbd2371eca3ffa0defaefb259924204aec6",
        },
    ),
    "fashion_mnist": Download(
        "fashion-mnist",
        "https://github.com/zalandoresearch/fashion-mnist/raw/master/data/fashion/",
        {
            "train-images-idx3-ubyte.gz": "3aede38d61863908ad78613f6a32ed271626dd12800ba2636569512369268a84",
            "train-labels-idx1-ubyte.gz": "a04f17134ac03560a47e3764e11b92fc97de4d1bfaf8ba1a3aa29af54cc90845",
            "t10k-images-idx3-ubyte.gz": "346e55b948d973a97e58d2351dde16a484bd415d4595297633bb08f03db6a073",
            "t10k-labels-idx1-ubyte.gz": "67da17c76eaffca5446c3361aaab5c3cd6d1c2608764d35dfb1850b086bf8dd5",
        },
    ),
    "cifar10": Download(
        "cifar10",
        "https://www.cs.toronto.edu/~kriz/",
        {"cifar-10-python.tar.gz": "6d958be074577803d12ecdefd02955f39262c83c16fe9348329d7fe0b5c001ce"},
    ),
}


def _folder(download: Download) -> Path:
    """Where the data set's files are, or are downloaded to."""
    return Path(os.environ.get("FANIN_DATA_DIR", cache_dir() / "data")) / download.folder


def _fetch(download: Download) -> dict[str, Path]:
    """The data set's files, downloaded where they are not in the cache, with their checksums verified.

    Raises:
        DataError: If a file cannot be had, or is not the file it should be.
    """
    try:
        import pooch
    except ImportError as error:
        raise extra_missing(error, "data", ("pooch",), "Downloading data") from None
    folder = _folder(download)
    pooch.get_logger().setLevel("ERROR")
    store = pooch.create(folder, download.url, registry={k: f"sha256:{v}" for k, v in download.files.items()})
    paths = {}
    for name in download.files:
        try:
            paths[name] = Path(store.fetch(name))
        except Exception as error:  # pooch passes on whatever its transport raises
            cause = f"{type(error).__name__}: {str(error).splitlines()[0][:120]}"
            raise DataError(
                f"The file {name} could not be downloaded whole: {cause}",
                given=download.url + name,
                hint=f"Put the original file into {folder}, or let FANIN_DATA_DIR name its folder.",
            ) from None
    return paths


def _read_idx(path: Path) -> NDArray[np.uint8]:
    """An array from the IDX format of the MNIST files."""
    raw = gzip.decompress(path.read_bytes())
    dims = [int.from_bytes(raw[4 + 4 * i : 8 + 4 * i], "big") for i in range(raw[3])]
    return np.frombuffer(raw, np.uint8, offset=4 + 4 * len(dims)).reshape(dims)


def _idx(name: str) -> Arrays:
    paths = _fetch(DOWNLOADS[name])
    arrays = [_read_idx(paths[f"{file}.gz"]) for file in _MNIST_FILES]
    return dict(zip(("x_train", "y_train", "x_test", "y_test"), arrays, strict=True))


def _cifar10() -> Arrays:
    """The images of the official archive, or of a copy that somebody unpacked beside it."""
    unpacked = _folder(DOWNLOADS["cifar10"]) / "cifar10.npz"
    if unpacked.exists():
        return _npz(unpacked)
    (path,) = _fetch(DOWNLOADS["cifar10"]).values()
    parts: dict[str, Any] = {}
    with tarfile.open(path) as archive:
        for member in archive:
            name = Path(member.name).name
            stream = archive.extractfile(member)
            if stream is not None and (name.startswith("data_batch_") or name == "test_batch"):
                # Unpickled only because the checksum has shown that it is the official archive.
                parts[name] = pickle.load(stream, encoding="bytes")
    train = [parts[name] for name in sorted(parts) if name != "test_batch"]

    def images(flat: Any) -> Any:
        return np.asarray(flat).reshape(-1, 3, 32, 32).transpose(0, 2, 3, 1)

    return {
        "x_train": images(np.concatenate([part[b"data"] for part in train])),
        "y_train": np.concatenate([part[b"labels"] for part in train]),
        "x_test": images(parts["test_batch"][b"data"]),
        "y_test": np.asarray(parts["test_batch"][b"labels"]),
    }


def _digits() -> Arrays:
    try:
        from sklearn.datasets import load_digits
    except ImportError as error:
        raise extra_missing(error, "data", ("sklearn",), "The task digits") from None
    data = load_digits()
    return {"x": (data.images / 16.0).astype(np.float32), "y": data.target}


TASKS: Mapping[str, TaskEntry] = {
    entry.name: entry
    for entry in (
        TaskEntry(
            "digits",
            "1,797 handwritten digits, 8 x 8 (scikit-learn's, embedded)",
            _digits,
            "mlp:128x128",
            20,
            32,
        ),
        TaskEntry("mnist", "70,000 handwritten digits, 28 x 28", lambda: _idx("mnist"), "mlp:256", 5, 64),
        TaskEntry(
            "fashion_mnist",
            "70,000 pictures of clothes, 28 x 28",
            lambda: _idx("fashion_mnist"),
            "mlp:256",
            5,
            64,
        ),
        TaskEntry("cifar10", "60,000 colour photographs in 10 classes, 32 x 32 x 3", _cifar10, "mlp:512x256", 5, 64),
    )
}
"""The data sets by name."""

_OWN = TaskEntry("", "your own", dict, "mlp:128x128", 20, 32)


def task_entry(text: str) -> TaskEntry:
    """The table's entry for a task, or what holds for a user's own data."""
    return TASKS.get(text, _OWN)


def load_task(text: str) -> Task:
    """Load a task by name, from ``path.npz``, or from ``file.py:load``.

    Raises:
        UnknownNameError, DataError: If there is none, or its data cannot be trained on.
    """
    if text in TASKS:
        return make_task(text, TASKS[text].load())
    if text.endswith(".npz"):
        return make_task(Path(text).name, _npz(Path(text)))
    if ":" in text:
        load, _ = load_function(text, "task")
        try:
            return make_task(text, _named(load(), text))
        except DataError:
            raise
        except Exception as error:
            raise DataError(f"The data could not be loaded: {type(error).__name__}: {error}", given=text) from error
    raise unknown_name("task", text, [*TASKS, "path.npz", "file.py:load"])


def _npz(path: Path) -> Arrays:
    if not path.is_file():
        raise DataError("The data file does not exist", given=str(path))
    try:
        # Opened here: NumPy leaves a file that it cannot read open.
        with path.open("rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return dict(archive.items())
    except Exception as error:  # numpy and zipfile each raise their own
        raise DataError(
            f"The data file cannot be read: {type(error).__name__}: {error}",
            given=str(path),
            allowed="an .npz of plain arrays",
        ) from None


def _named(data: Any, text: str) -> Arrays:
    if isinstance(data, Mapping):
        return {key: np.asarray(value) for key, value in data.items()}
    if isinstance(data, tuple) and len(data) == 2:
        if isinstance(data[0], tuple):
            (x_train, y_train), (x_test, y_test) = data
            names = {"x_train": x_train, "y_train": y_train, "x_test": x_test, "y_test": y_test}
            return {key: np.asarray(value) for key, value in names.items()}
        return {"x": np.asarray(data[0]), "y": np.asarray(data[1])}
    raise DataError(
        "The function returned no data",
        given=f"{text} returned {type(data).__name__}",
        allowed=ALLOWED_ARRAYS,
    )
