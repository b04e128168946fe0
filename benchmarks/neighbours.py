"""Exact neighbours of users: time and memory by their number, against indexes from libraries.

    python benchmarks/neighbours.py [--sizes 10000 30000 100000] [--dimension 384] [--libraries]

Vectors are synthetic: users around a thousand tastes. Prints one row a size, with what 10⁶ users would take at that
rate; memory is what the search adds to the vectors. --libraries compares with those of faiss, hnswlib and usearch that
are installed: CPU seconds, and the share of the exact neighbours that they find. Threads as in a run (LLMSER_THREADS).
"""

from __future__ import annotations

import argparse
import importlib
import multiprocessing
import resource
import time
from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from llmser_tasks.texts.neighbours import neighbours

K = 10
TASTES = 1000
MILLION = 1_000_000

Floats = NDArray[np.float32]
Found = NDArray[np.integer]


def vectors(count: int, dimension: int, seed: int = 0) -> Floats:
    random = np.random.default_rng(seed)
    tastes = random.normal(size=(TASTES, dimension)).astype(np.float32)
    made = tastes[random.integers(0, TASTES, count)] + random.standard_normal((count, dimension), np.float32)
    made /= np.linalg.norm(made, axis=1, keepdims=True)
    return made


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def exact(count: int, dimension: int) -> tuple[float, float, float]:
    """CPU seconds, wall seconds, MiB beside the vectors; in a process of its own, whose peak is its own."""
    given = vectors(count, dimension)
    before, wall, cpu = peak_mib(), time.perf_counter(), time.process_time()
    neighbours(given, K)
    return time.process_time() - cpu, time.perf_counter() - wall, peak_mib() - before


def libraries() -> Iterator[tuple[str, Callable[[Floats], Found]]]:
    for name, search in (("faiss", _faiss), ("hnswlib", _hnswlib), ("usearch", _usearch)):
        try:
            importlib.import_module(name)
        except ImportError:
            print(f"{name} is not installed.", flush=True)
        else:
            yield name, search


def _faiss(given: Floats) -> Found:
    import faiss  # IVF: a cell for every sixteen users' root, a sixteenth of them looked at

    count, dimension = given.shape
    cells = max(16, int(4 * count**0.5))
    index = faiss.IndexIVFFlat(faiss.IndexFlatIP(dimension), dimension, cells, faiss.METRIC_INNER_PRODUCT)
    index.train(given)
    index.add(given)
    index.nprobe = max(1, cells // 16)
    return np.asarray(index.search(given, K + 1)[1])


def _hnswlib(given: Floats) -> Found:
    import hnswlib

    index = hnswlib.Index("ip", given.shape[1])
    index.init_index(len(given), ef_construction=200, M=16)
    index.add_items(given)
    index.set_ef(100)
    return np.asarray(index.knn_query(given, K + 1)[0]).astype(np.int64)


def _usearch(given: Floats) -> Found:
    from usearch.index import Index

    index = Index(ndim=given.shape[1], metric="ip", dtype="f32")
    index.add(np.arange(len(given)), given)
    return np.asarray(index.search(given, K + 1).keys).astype(np.int64)


def recall(found: Found, true: Found) -> float:
    """Share of the true neighbours that are among the found ones."""
    return float(
        np.mean([len(set(one) & set(other)) / K for one, other in zip(found.tolist(), true.tolist(), strict=True)])
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sizes", type=int, nargs="+", default=[10_000, 30_000, 100_000])
    parser.add_argument("--dimension", type=int, default=384)
    parser.add_argument("--libraries", action="store_true")
    arguments = parser.parse_args()
    print("| users | CPU s | wall s | ns a pair | MiB beside the vectors | 10⁶ users, CPU h |\n|" + " ---: |" * 6)
    for count in arguments.sizes:
        with multiprocessing.get_context("spawn").Pool(1) as alone:
            cpu, wall, mib = alone.apply(exact, (count, arguments.dimension))
        pair = cpu / count**2
        hours = pair * MILLION**2 / 3600
        print(f"| {count:,} | {cpu:.1f} | {wall:.1f} | {pair * 1e9:.1f} | {mib:.0f} | {hours:.1f} |", flush=True)
    if not arguments.libraries:
        return
    print()
    installed = list(libraries())
    if not installed:
        return
    print("\n| index | users | CPU s | exact ones found |\n| --- | ---: | ---: | ---: |")
    for count in arguments.sizes:
        given = vectors(count, arguments.dimension)
        true = neighbours(given, K).rows
        for name, search in installed:
            cpu = time.process_time()
            found = search(given)
            print(f"| {name} | {count:,} | {time.process_time() - cpu:.1f} | {recall(found, true):.1%} |", flush=True)


if __name__ == "__main__":
    main()
