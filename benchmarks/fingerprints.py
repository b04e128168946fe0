"""Which changes of the program make a step again: every module of the package changed in turn, for every step.

    python benchmarks/fingerprints.py

The steps run once on a tiny dataset, then fingerprints alone are computed. A step must be made again where it reaches
the changed module, and kept where it does not. Settings are changed in turn, too, as `tests/test_fingerprints.py` does.
"""

from __future__ import annotations

import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fingerprint_walk import Recorder, modules, mutations, run_config, settings, walk

from llmser_tasks.core import reachable


def main() -> None:
    with tempfile.TemporaryDirectory() as folder:
        store = Recorder(Path(folder) / "artefacts")
        calls = walk(store, run_config(settings(Path(folder))))
        outcome: Counter[tuple[bool, bool]] = Counter()
        reached: Counter[str] = Counter()
        for step, _, reaches, made_again in mutations(calls):
            outcome[reaches, made_again] += 1
            reached[step] += reaches
    print(f"{len(calls)} steps × {len(modules())} modules: {sum(outcome.values())} pairs")
    print(f"reached: {outcome[True, True]} made again, {outcome[True, False]} kept")
    print(f"not reached: {outcome[False, True]} made again, {outcome[False, False]} kept")
    for step, count in reached.items():
        fresh = reachable.Sources(Path(reachable.__file__).parents[1])
        started = time.perf_counter()
        fingerprint = calls[step].fingerprint(fresh)
        cold = time.perf_counter() - started
        print(f"  {step:<14} reaches {count:>3} modules; {1000 * cold:5.0f} ms in a fresh process  {fingerprint[:12]}")
    if outcome[True, False] or outcome[False, True]:
        sys.exit(1)


if __name__ == "__main__":
    main()
