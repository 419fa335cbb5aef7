import dataclasses
import gc
import gzip
import hashlib
import http.server
import io
import pickle
import tarfile
import threading
import warnings
from pathlib import Path

import numpy as np
import pytest

from fanin.errors import DataError, FaninError, InvalidValueError, UnknownNameError
from fanin.experiments import datasets
from fanin.experiments.datasets import TASKS, load_task, task_entry

ARRAYS = {"x": np.arange(80, dtype=np.float32).reshape(40, 2), "y": np.arange(40) % 2}


def idx(array):
    head = bytes([0, 0, 8, array.ndim]) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    return gzip.compress(head + array.tobytes())


def idx_files():
    rng = np.random.default_rng(0)
    arrays = {
        "train-images-idx3-ubyte": rng.integers(0, 256, (40, 5, 4), np.uint8),
        "train-labels-idx1-ubyte": (np.arange(40) % 10).astype(np.uint8),
        "t10k-images-idx3-ubyte": rng.integers(0, 256, (12, 5, 4), np.uint8),
        "t10k-labels-idx1-ubyte": (np.arange(12) % 10).astype(np.uint8),
    }
    return {f"{name}.gz": idx(array) for name, array in arrays.items()}, list(arrays.values())


def cifar_files():
    rng = np.random.default_rng(1)
    parts = {}
    for name in (*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"):
        flat = rng.integers(0, 256, (10, 3072), np.uint8)
        parts[name] = {b"data": flat, b"labels": list(range(10)), b"batch_label": name.encode()}
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as archive:
        # Not in their order, and with files beside them that are no batches.
        for name in ("readme.html", "test_batch", *sorted(parts, reverse=True)[1:], "batches.meta"):
            content = pickle.dumps(parts[name]) if name in parts else b"nothing to unpickle"
            entry = tarfile.TarInfo(f"cifar-10-batches-py/{name}")
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return {"cifar-10-python.tar.gz": buffer.getvalue()}, parts


@dataclasses.dataclass
class Server:
    """Serves files from memory; `cut` maps a name to the number of bytes after which the connection ends."""

    files: dict
    cut: dict
    asked: list
    url: str = ""


@pytest.fixture
def server(monkeypatch):
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("no_proxy", "127.0.0.1")
    served = Server({}, {}, [])

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            name = self.path.rsplit("/", 1)[-1]
            served.asked.append(name)
            if name not in served.files:
                self.send_error(404)
                return
            content = served.files[name]
            self.send_response(200)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content[: served.cut.get(name)])

        def log_message(self, *_):
            pass

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as running:
        thread = threading.Thread(target=running.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        served.url = f"http://127.0.0.1:{running.server_port}/files/"
        yield served
        running.shutdown()
        thread.join()
    with warnings.catch_warnings():
        # Pooch leaves the connection of a download that broke off to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        gc.collect()


@pytest.fixture
def standin(server, monkeypatch, tmp_path):
    """Puts small files in the place of a data set; returns the folder that they are kept in."""

    def put(name, files):
        server.files = dict(files)
        entry = dataclasses.replace(
            datasets.DOWNLOADS[name],
            url=server.url,
            files={file: hashlib.sha256(content).hexdigest() for file, content in files.items()},
        )
        monkeypatch.setitem(datasets.DOWNLOADS, name, entry)
        monkeypatch.setenv("FANIN_DATA_DIR", str(tmp_path / "data"))
        return tmp_path / "data" / entry.folder

    return put


def kept(folder):
    return sorted(path.name for path in folder.rglob("*")) if folder.exists() else []


def test_digits():
    task = load_task("digits")
    assert (task.name, task.kind, task.outputs) == ("digits", "classification", 10)
    assert (len(task.x_train), len(task.x_val), len(task.x_test)) == (1079, 359, 359)
    assert task.x_train.shape[1:] == (8, 8)
    assert (task.x_train.min(), task.x_train.max()) == (0.0, 1.0)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_idx_files_are_read(standin, server, name):
    files, (x_train, y_train, x_test, y_test) = idx_files()
    folder = standin(name, files)
    task = load_task(name)
    assert np.array_equal(task.x_test, x_test.astype(np.float32) / np.float32(255))
    assert task.y_test.tolist() == y_test.tolist()
    assert (len(task.x_train), len(task.x_val)) == (36, 4)
    together = np.concatenate([task.x_train, task.x_val])
    order = [int(np.flatnonzero((x_train.astype(np.float32) / np.float32(255) == x).all((1, 2)))[0]) for x in together]
    assert sorted(order) == list(range(40))
    assert np.concatenate([task.y_train, task.y_val]).tolist() == y_train[order].tolist()
    assert kept(folder) == sorted(files)
    asked = len(server.asked)
    assert load_task(name).fingerprint == task.fingerprint
    assert len(server.asked) == asked  # not downloaded again


def test_cifar_archive_is_read(standin):
    files, parts = cifar_files()
    standin("cifar10", files)
    task = load_task("cifar10")
    assert task.x_test.shape == (10, 32, 32, 3)
    assert (len(task.x_train), len(task.x_val), task.outputs) == (45, 5, 10)
    flat = parts["test_batch"][b"data"]
    # Rows of the archive hold the red plane first, then green and blue.
    red, blue = flat[3, 5 * 32 + 7], flat[3, 2048 + 5 * 32 + 7]
    assert task.x_test[3, 5, 7, 0] == np.float32(red) / np.float32(255)
    assert task.x_test[3, 5, 7, 2] == np.float32(blue) / np.float32(255)
    arrays = datasets.TASKS["cifar10"].load()
    firsts = np.concatenate([parts[f"data_batch_{i}"][b"data"] for i in range(1, 6)])[:, 0]
    assert arrays["x_train"][:, 0, 0, 0].tolist() == firsts.tolist()
    assert arrays["y_train"].tolist() == list(range(10)) * 5


def test_an_unpacked_copy_of_cifar_is_taken_instead(standin, server):
    folder = standin("cifar10", {})
    folder.mkdir(parents=True)
    images = np.random.default_rng(0).integers(0, 256, (60, 32, 32, 3), dtype=np.uint8)
    labels = np.arange(60) % 10
    np.savez(folder / "cifar10.npz", x_train=images[:50], y_train=labels[:50], x_test=images[50:], y_test=labels[50:])
    task = load_task("cifar10")
    assert np.array_equal(task.x_test, images[50:].astype(np.float32) / np.float32(255))
    assert (len(task.x_train), len(task.x_val), task.outputs, server.asked) == (45, 5, 10, [])


def _cut(server):
    server.cut["train-labels-idx1-ubyte.gz"] = 30


def _wrong(server):
    server.files["train-labels-idx1-ubyte.gz"] = b"something else"


def _missing(server):
    del server.files["train-labels-idx1-ubyte.gz"]


@pytest.mark.parametrize("spoil", [_cut, _wrong, _missing])
def test_download_that_is_not_whole_is_one_error_and_leaves_nothing_half(standin, server, spoil):
    files, _ = idx_files()
    folder = standin("mnist", files)
    spoil(server)
    with pytest.raises(DataError, match=r"train-labels-idx1-ubyte\.gz could not be downloaded whole") as error:
        load_task("mnist")
    assert error.value.given == server.url + "train-labels-idx1-ubyte.gz"
    assert str(folder) in error.value.hint
    assert kept(folder) == ["train-images-idx3-ubyte.gz"]
    assert (folder / "train-images-idx3-ubyte.gz").read_bytes() == files["train-images-idx3-ubyte.gz"]
    server.files, server.cut = dict(files), {}
    assert load_task("mnist").outputs == 10
    assert server.asked.count("train-images-idx3-ubyte.gz") == 1


def test_no_network_is_one_error(standin, monkeypatch):
    standin("mnist", idx_files()[0])
    nowhere = dataclasses.replace(datasets.DOWNLOADS["mnist"], url="http://127.0.0.1:9/")
    monkeypatch.setitem(datasets.DOWNLOADS, "mnist", nowhere)
    with pytest.raises(DataError, match="could not be downloaded") as error:
        load_task("mnist")
    assert "FANIN_DATA_DIR" in error.value.hint


def test_data_folder_is_used_without_a_download(standin, server):
    files, _ = idx_files()
    folder = standin("mnist", files)
    folder.mkdir(parents=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)
    assert load_task("mnist").outputs == 10
    assert server.asked == []


def test_downloads_go_to_the_cache_where_no_folder_is_named(standin, monkeypatch, tmp_path):
    files, _ = idx_files()
    standin("mnist", files)
    monkeypatch.delenv("FANIN_DATA_DIR")
    monkeypatch.setenv("FANIN_CACHE_DIR", str(tmp_path / "cache"))
    load_task("mnist")
    assert kept(tmp_path / "cache" / "data" / "mnist") == sorted(files)


def test_the_table_names_official_files():
    for name, download in datasets.DOWNLOADS.items():
        assert name in TASKS
        assert download.url.startswith("https://")
        assert download.url.endswith("/")
        assert all(len(digest) == 64 for digest in download.files.values())


def test_npz_by_path(tmp_path):
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    task = load_task(str(tmp_path / "mine.npz"))
    assert (task.name, task.outputs, len(task.x_train)) == ("mine.npz", 2, 24)


def _pickled(path):
    np.savez(path, x=np.array([{}, {}], object), y=[0, 1])


def _archive(path):
    path.write_bytes(b"PK\x03\x04 cut short")


def _plain(path):
    with path.open("wb") as stream:
        np.save(stream, ARRAYS["x"])


@pytest.mark.parametrize("make", [_pickled, _archive, _plain, lambda path: path.write_bytes(b""), lambda path: None])
def test_npz_that_cannot_be_read(tmp_path, make):
    path = tmp_path / "bad.npz"
    make(path)
    with pytest.raises(DataError) as error:
        load_task(str(path))
    assert error.value.given == str(path)
    del error
    gc.collect()  # a file left open shows here, and not in some later test


def test_npz_with_other_names(tmp_path):
    np.savez(tmp_path / "mine.npz", images=ARRAYS["x"], labels=ARRAYS["y"])
    with pytest.raises(DataError, match=r"images, labels.*x_train"):
        load_task(str(tmp_path / "mine.npz"))


SOURCE = """
import numpy as np
x = np.arange(80, dtype=np.float32).reshape(40, 2)
y = np.arange(40) % 2
def whole(): return x, y
def nested(): return (x, y), (x[:9], y[:9])
def named(): return {"x_train": x, "y_train": y, "x_test": x[:9], "y_test": y[:9]}
def lists(): return {"x": x.tolist(), "y": y.tolist()}
def broken(): raise KeyError("no such column")
def nothing(): return None
def three(): return x, y, x
def wrong(): return x, y[:-1]
def ragged(): return {"x": [[1.0, 2.0], [3.0]], "y": [0, 1]}
"""


@pytest.fixture
def source(tmp_path):
    path = tmp_path / "mydata.py"
    path.write_text(SOURCE)
    return str(path)


@pytest.mark.parametrize(("name", "sizes"), [("whole", (24, 8, 8)), ("nested", (36, 4, 9)), ("named", (36, 4, 9)),
                                             ("lists", (24, 8, 8))])  # fmt: skip
def test_own_function(source, name, sizes):
    task = load_task(f"{source}:{name}")
    assert (len(task.x_train), len(task.x_val), len(task.x_test)) == sizes
    assert task.name == f"{source}:{name}"


def test_own_function_and_own_file_are_the_same_data(source, tmp_path):
    np.savez(tmp_path / "mine.npz", **ARRAYS)
    assert load_task(f"{source}:whole").fingerprint == load_task(str(tmp_path / "mine.npz")).fingerprint


@pytest.mark.parametrize(
    ("name", "match"),
    [
        ("broken", "KeyError.*no such column"),
        ("nothing", "returned no data.*NoneType"),
        ("three", "returned no data.*tuple"),
        ("wrong", "differ in length"),
        ("ragged", "could not be loaded"),
    ],
)
def test_own_function_that_gives_no_data(source, name, match):
    with pytest.raises(DataError, match=match):
        load_task(f"{source}:{name}")


def test_unknown_task():
    with pytest.raises(UnknownNameError, match="Did you mean mnist") as error:
        load_task("mnits")
    for name in (*TASKS, "path.npz", "file.py:load"):
        assert name in error.value.allowed


def test_missing_file_and_missing_function(source, tmp_path):
    with pytest.raises(UnknownNameError, match="file does not exist"):
        load_task(f"{tmp_path / 'none.py'}:load")
    with pytest.raises(UnknownNameError, match="Did you mean whole"):
        load_task(f"{source}:hole")
    with pytest.raises((UnknownNameError, InvalidValueError)):
        load_task("no_such_package_at_all:load")


def test_every_entry_is_complete():
    for name, entry in TASKS.items():
        assert entry.name == name
        assert task_entry(name) is entry
        assert entry.model.startswith(("mlp:", "cnn:"))
    assert task_entry("mine.npz").epochs >= 1


def test_errors_are_the_kind_the_command_line_catches():
    assert issubclass(DataError, FaninError)
    assert Path(datasets.__file__).exists()
