from __future__ import annotations

import hashlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
from patience import PATIENCE_S, until

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.texts.encoder import CHUNK, Encoder, Vectors, embed_cached

TITLES = [
    "Argan Oil Shampoo",
    "Amazon.com $25 Gift Card in a Greeting Card (Happy Birthday Design)",
    "Black Eyeliner Pencil, Waterproof",
    "Nail Polish",
    "The Old Man and the Sea",
    "Crème brûlée torch",
    "日本の緑茶 200g",
    "Vitamin C Serum for Face with Hyaluronic Acid, Retinol, and Amino Blend, 1 oz " * 8,
    "x",
    "Mascara Volume Noir " * 3,
]


@pytest.fixture(scope="module")
def minilm() -> Encoder:
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    return Encoder.open("minilm")


class Counting:
    """Stands in for a BERT: a vector drawn from the title, and a record of what was asked."""

    hash = "0123456789abcdef" * 4
    dimension = 8

    def __init__(self) -> None:
        self.asked: list[str] = []

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> Vectors:
        self.asked += titles
        seeds = [int.from_bytes(hashlib.sha256(title.encode()).digest()[:8], "big") for title in titles]
        drawn = np.array([np.random.default_rng(seed).normal(size=self.dimension) for seed in seeds], np.float32)
        return drawn.reshape(len(titles), self.dimension)


def test_vectors_are_unit_length_and_like_titles_are_near(minilm: Encoder) -> None:
    vectors = minilm.embed(["Argan oil shampoo", "argan oil conditioner", "Birthday gift card"])
    assert vectors.shape == (3, 384)
    assert vectors.dtype == np.float32
    assert np.linalg.norm(vectors, axis=1) == pytest.approx(1, abs=1e-5)
    assert vectors[0] @ vectors[1] > 0.6 > 0.3 > vectors[0] @ vectors[2]


def test_the_hash_is_that_of_the_weights(minilm: Encoder) -> None:
    assert minilm.hash.startswith("53aa5117")


def test_a_vector_does_not_depend_on_what_is_embedded_beside_it(minilm: Encoder) -> None:
    together = minilm.embed(TITLES)
    shuffled = list(range(len(TITLES)))
    random.Random(3).shuffle(shuffled)
    assert (minilm.embed([TITLES[i] for i in shuffled]) == together[shuffled]).all()
    alone = np.concatenate([minilm.embed([title]) for title in TITLES])
    assert (alone == together).all()


def test_a_vector_is_the_same_whatever_the_threads_of_its_process(minilm: Encoder) -> None:
    """A ranker has other threads than a step of Airflow's."""
    import torch

    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(minilm.embed([*TITLES, *"abcdefgh"]))  # short ones make small matrices
            assert torch.get_num_threads() == threads
    finally:
        torch.set_num_threads(before)
    assert all((vectors == found[0]).all() for vectors in found)


def test_agrees_with_an_unpadded_pass_of_the_model(minilm: Encoder) -> None:
    import torch
    from transformers import AutoModel, AutoTokenizer

    from llmser_tasks.texts.encoder import _embedded_folder

    model = AutoModel.from_pretrained(_embedded_folder(), local_files_only=True).eval()
    tokenizer = AutoTokenizer.from_pretrained(_embedded_folder(), local_files_only=True)
    for title, ours in zip(TITLES, minilm.embed(TITLES), strict=True):
        tokens = tokenizer(title, return_tensors="pt", truncation=True, max_length=128)
        with torch.inference_mode():
            states = model(**tokens).last_hidden_state[0]
        theirs = torch.nn.functional.normalize(states.mean(dim=0), dim=0).numpy()
        assert ours @ theirs > 0.9999, title


def test_equal_titles_are_embedded_once_and_unreadable_ones_are_zero(minilm: Encoder) -> None:
    seen = []
    vectors = minilm.embed(["Nail  Polish", "Nail Polish", "", "<b></b>"], lambda done, total, *_: seen.append(total))
    assert seen == [1]
    assert (vectors[0] == vectors[1]).all()
    assert not vectors[2:].any()


def test_hostile_titles_do_not_break_it(minilm: Encoder) -> None:
    hostile = ["a" * 10_000, "\ud800 lone surrogate", "\u202eesrever", "{" * 5000, "\x00", "🧴" * 3000]
    assert np.isfinite(minilm.embed(hostile)).all()


@pytest.mark.parametrize("spoil", ["model.safetensors", "tokenizer.json", "config.json"])
def test_a_folder_that_lacks_a_file_is_refused_in_one_sentence(spoil: str, tmp_path: Path) -> None:
    from llmser_tasks.texts.encoder import _embedded_folder

    for file in ("config.json", "model.safetensors", "tokenizer.json"):
        if file != spoil:
            (tmp_path / file).symlink_to(_embedded_folder() / file)
    with pytest.raises(InputError, match="cannot be read as a BERT") as caught:
        Encoder.open(str(tmp_path))
    assert "\n" not in str(caught.value)


def test_weights_that_are_pickled_are_refused(tmp_path: Path) -> None:
    from llmser_tasks.texts.encoder import _embedded_folder

    for file in ("config.json", "tokenizer.json"):
        shutil.copy(_embedded_folder() / file, tmp_path)
    (tmp_path / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'false'\ntR.")
    with pytest.raises(InputError):
        Encoder.open(str(tmp_path))


def test_an_unknown_name_is_refused_offline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    with pytest.raises(InputError, match="nobody/nothing"):
        Encoder.open("nobody/nothing")


def test_the_cache_asks_once_for_each_title(tmp_path: Path) -> None:
    first, second = Counting(), Counting()
    wanted = ["a  b", "a b", "c", ""]
    vectors = embed_cached(first, wanted, tmp_path)
    assert sorted(first.asked) == ["a b", "c"]
    again = embed_cached(second, [*wanted, "d"], tmp_path)
    assert second.asked == ["d"]
    assert (again[:4] == vectors).all()
    assert (vectors[0] == vectors[1]).all()
    assert not vectors[3].any()


def test_the_cache_keeps_models_apart(tmp_path: Path) -> None:
    first, other = Counting(), Counting()
    other.hash = "f" * 64
    embed_cached(first, ["a"], tmp_path)
    embed_cached(other, ["a"], tmp_path)
    assert other.asked == ["a"]


def test_many_processes_share_a_cache(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/texts']\n"
        "from pathlib import Path\n"
        "from test_encoder import Counting\n"
        "from llmser_tasks.texts.encoder import embed_cached\n"
        "start = int(sys.argv[1])\n"
        "embed_cached(Counting(), [f'title {n}' for n in range(start, start + 3000)], Path(sys.argv[2]))\n"
    )
    workers = [subprocess.Popen([sys.executable, "-c", code, str(n), str(tmp_path)]) for n in (0, 1500, 3000)]
    assert [worker.wait(PATIENCE_S) for worker in workers] == [0, 0, 0]
    last = Counting()
    embed_cached(last, [f"title {n}" for n in range(6000)], tmp_path)
    assert last.asked == []


def test_a_killed_writer_leaves_what_it_committed(tmp_path: Path) -> None:
    code = (
        "import sys; sys.path[:0] = ['tests', 'tests/texts']\n"
        "from pathlib import Path\n"
        "from test_encoder import Counting\n"
        "from llmser_tasks.texts.encoder import embed_cached\n"
        "embed_cached(Counting(), [f'title {n}' for n in range(400_000)], Path(sys.argv[1]))\n"
    )
    worker = subprocess.Popen([sys.executable, "-c", code, str(tmp_path)])
    until(lambda: _rows(tmp_path) or worker.poll() is not None)
    worker.send_signal(signal.SIGKILL)
    worker.wait()
    kept = _rows(tmp_path)
    assert kept
    assert kept % CHUNK == 0  # whole commits only
    encoder = Counting()
    titles = [f"title {n}" for n in range(1000)]
    assert (embed_cached(encoder, titles, tmp_path) == Counting().embed(titles)).all()


def _rows(folder: Path) -> int:
    files = list(folder.glob("*.sqlite"))
    if not files:
        return 0
    try:
        connection = sqlite3.connect(files[0], timeout=PATIENCE_S)
        return int(connection.execute("SELECT count(*) FROM embeddings").fetchone()[0])
    except sqlite3.OperationalError:  # the table is not there yet
        return 0


def test_a_cache_that_is_not_one_says_what_to_do(tmp_path: Path) -> None:
    embed_cached(Counting(), ["a"], tmp_path)
    (file,) = tmp_path.glob("*.sqlite")
    file.write_bytes(b"garbage" * 1000)
    with pytest.raises(StorageError, match="delete the file"):
        embed_cached(Counting(), ["a"], tmp_path)
