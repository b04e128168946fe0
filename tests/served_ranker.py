"""The embedding ranker with bags of words for embeddings, and questions for it."""

from __future__ import annotations

import asyncio
import contextlib
import hashlib
import json
import threading
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path
from typing import Any

import httpx
import numpy as np
from patience import PATIENCE_S

from llmser_tasks.core.progress import Progress, silent
from llmser_tasks.ranker.server import listen, make_server
from llmser_tasks.texts.encoder import Vectors


class Bags:
    """Stands in for a BERT: a title is the bag of its words, so titles that share words are near."""

    hash = "b" * 64
    dimension = 64

    def __init__(self) -> None:
        self.calls: list[int] = []

    def embed(self, titles: Sequence[str], progress: Progress = silent) -> Vectors:
        self.calls.append(len(titles))
        vectors = np.zeros((len(titles), self.dimension), np.float32)
        for row, title in enumerate(titles):
            for word in title.lower().split():
                vectors[row, int(hashlib.sha256(word.encode()).hexdigest(), 16) % self.dimension] += 1
        return vectors / np.maximum(np.linalg.norm(vectors, axis=1, keepdims=True), 1e-9)


@contextlib.contextmanager
def ranker(
    spec: str = "",
    key: str | None = None,
    cache: Path | None = None,
    encoder: Any = None,
    names: Collection[str] = (),
) -> Iterator[httpx.Client]:
    listener = listen("127.0.0.1", 0)
    server = make_server(encoder or Bags(), cache, spec, key, names)
    thread = threading.Thread(target=lambda: asyncio.run(server.serve(sockets=[listener])))
    thread.start()
    try:
        with httpx.Client(base_url=f"http://127.0.0.1:{listener.getsockname()[1]}", timeout=PATIENCE_S) as client:
            yield client
    finally:
        server.should_exit = True
        thread.join(PATIENCE_S)
        assert not thread.is_alive()


def question(history: Sequence[Any], candidates: Sequence[Any], most: int | None = None, **more: Any) -> dict[str, Any]:
    """A request as the pipeline sends it: for `most` picks, or for one item."""
    ids = [f"c{n + 1:02d}" for n in range(len(candidates))]
    one = {"type": "string", "enum": ids}
    properties = {"item": one} if most is None else {"picks": {"type": "array", "items": one, "maxItems": most}}
    block = {"history": history, "candidates": [{"id": i, "title": t} for i, t in zip(ids, candidates, strict=True)]}
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {
        "model": "whatever",
        "messages": [
            {"role": "system", "content": "Name what comes next."},
            {"role": "user", "content": json.dumps(block)},
        ],
        "response_format": {"type": "json_schema", "json_schema": {"name": "answer", "strict": True, "schema": schema}},
    } | more
