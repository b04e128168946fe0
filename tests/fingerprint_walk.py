"""Every step that makes an artefact, called once on a tiny dataset, and what its fingerprint would be if code or
settings were others: nothing but the first call computes anything."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
from tiny_dumps import SMALL, FakeEncoder, careers, write_dumps

from llmser_tasks.asking.picks import Picks
from llmser_tasks.core import config, reachable
from llmser_tasks.core.config import RunConfig, digest
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.core.kinds import METHODS, QUESTION_STEPS, STEPS, TRAINED
from llmser_tasks.core.reachable import Sources
from llmser_tasks.core.run import Refs, Run, artefact, model_name
from llmser_tasks.core.workspace import Artefact, Workspace, basis_of
from llmser_tasks.evaluation.evaluate import evaluate
from llmser_tasks.ingest import ingest
from llmser_tasks.methods import adding
from llmser_tasks.methods.llmser import reliability
from llmser_tasks.methods.trained import train
from llmser_tasks.sequences import changes
from llmser_tasks.sequences.artefacts import sequences
from llmser_tasks.sequences.histories import Histories
from llmser_tasks.texts.encoder import Encoder

Write = Callable[[Path], dict[str, Any]]


@dataclass(frozen=True)
class Call:
    """What a step gave `Workspace.produce`."""

    step: str
    write: Write
    inputs: Mapping[str, Artefact | str]
    config: Mapping[str, Any]
    chosen: tuple[str, ...]
    seed: int | None

    def basis(self, sources: Sources) -> dict[str, Any]:
        reach = sources.reach([self.write.__module__, *self.chosen])
        return basis_of(self.step, reach, inputs=self.inputs, config=self.config, seed=self.seed)

    def fingerprint(self, sources: Sources | None = None) -> str:
        return digest(self.basis(sources or reachable.sources()))


@dataclass(frozen=True)
class Recorder(Workspace):
    """Makes each step once, and then says it is there, whatever is asked for; notes what was asked for."""

    made: dict[str, Artefact] = field(default_factory=dict)
    calls: dict[str, Call] = field(default_factory=dict)

    def produce(
        self,
        step: str,
        dataset: str,
        write: Write,
        *,
        inputs: Mapping[str, Artefact | str],
        config: Mapping[str, Any],
        chosen: Any = (),
        seed: int | None = None,
        resumable: bool = False,
    ) -> Artefact:
        self.calls[step] = Call(step, write, inputs, config, tuple(chosen), seed)
        if step not in self.made:
            self.made[step] = super().produce(
                step, dataset, write, inputs=inputs, config=config, chosen=chosen, seed=seed, resumable=resumable
            )
        return self.made[step]


class Changed(Sources):
    """The package with one module changed, and all others read once."""

    def __init__(self, base: Sources, module: str) -> None:
        super().__init__(base._folder)
        self._known = {name: code for name, code in base._known.items() if name != module}
        self._changed = base._path(module)

    def text(self, path: Path) -> bytes:
        return super().text(path) + (b"\nchanged = True\n" if path == self._changed else b"")


def settings(folder: Path, **other: Any) -> dict[str, Any]:
    """Flat settings of a tiny dataset, whose dumps are written."""
    return SMALL | {
        "dataset": "tiny", "seeds": (42,), "methods": TRAINED, "search": "2", **write_dumps(folder, careers()), **other
    }  # fmt: skip


def walk(store: Recorder, config: RunConfig) -> dict[str, Call]:
    """Make every step, as `pipeline` does; what was picked is the first of each pool."""
    store.calls.clear()
    run = Run("walk", config, store, Warehouse(""))
    read = ingest(store, config.dataset)
    refs: dict[str, Any] = {"ingest": read.reference()}
    refs |= {name: made.reference() for name, made in sequences(store, config.dataset, read).items()}
    with mock.patch.object(Picks, "of_run", _picks), mock.patch.object(Encoder, "open", FakeEncoder.open):
        for name in [*(name for name in config.chain if name not in QUESTION_STEPS), *STEPS]:
            if name not in refs:
                module = reliability.score if name == "reliability" else STEPS.load(name).make
                if STEPS[name].tries:
                    own = dict(store.calls)  # what it makes aside, with other settings, goes by the same names
                refs[name] = module(run, refs).reference()
        for method in config.models:
            refs[model_name(method, config.seed)] = train(run, refs, method, config.seed).reference()
        for method in [method for method in config.methods if METHODS[method].addition]:
            refs[model_name(method, config.seed)] = adding.fit(run, refs, method, config.seed).reference()
        evaluate(run, refs)
    known = {name: artefact(refs, name) for name in ("training", "catalogue")}
    former = {f"former_{name}": made for name, made in known.items()}
    changes.compare(store, config.dataset.name, **known, **former)
    return {**store.calls, **own}


def modules() -> list[str]:
    """Every module of the package."""
    folder = Path(reachable.__file__).parents[1]
    names = (path.relative_to(folder.parent).with_suffix("").parts for path in sorted(folder.rglob("*.py")))
    return [".".join(parts[:-1] if parts[-1] == "__init__" else parts) for parts in names]


def mutations(calls: Mapping[str, Call]) -> Iterator[tuple[str, str, bool, bool]]:
    """(step, module, whether the step reaches it, whether its fingerprint was another once that module was changed)."""
    base = Sources(Path(reachable.__file__).parents[1])
    reached = {step: set(call.basis(base)["code"]) for step, call in calls.items()}
    before = {step: call.fingerprint(base) for step, call in calls.items()}
    for module in modules():
        changed = Changed(base, module)
        for step, call in calls.items():
            yield step, module, module in reached[step], call.fingerprint(changed) != before[step]


def run_config(values: Mapping[str, Any]) -> RunConfig:
    return config.from_flat(values)


def _picks(run: Run, refs: Refs, step: str) -> Picks:
    """The first of each pool that the step was asked about."""
    pools, count = {"snf": ("ccg", 3), "reason": ("rcs", 1)}[step]
    table = Histories.read(run.folder(refs, pools) / "pools.parquet")
    chosen = Histories.of(table.users, [pool[:count] for pool in table])
    sources = np.full(len(chosen.items), "strict", object)
    return Picks("step", "walk", chosen, sources, np.full(len(chosen), None, object))
