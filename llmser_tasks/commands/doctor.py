"""`llmser doctor`"""

from __future__ import annotations

import importlib.metadata
import os
import shutil
import socket
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import urlsplit

import click

from llmser_tasks.core import environment
from llmser_tasks.core.console import echo
from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.workspace import DAMAGED

if TYPE_CHECKING:
    from llmser_tasks.llm.endpoint import Endpoint

ROOM_GIB = 5  # a run on Beauty with its environment's logs needs far less; a large dump's sort spills to disk
PROBE_S = 5.0


@dataclass(frozen=True)
class Finding:
    """What a check found. `remedy` is set where something needs doing."""

    text: str
    remedy: str = ""


@click.command()
def doctor() -> None:
    """Check this machine. Exit code 1 if something stands in the way of a run; keys and passwords are never shown."""
    wrong = 0
    for name, check in CHECKS.items():
        for finding in _examined(check):
            wrong += bool(finding.remedy)
            echo(f"{'✘' if finding.remedy else '✔'} {name:<10} {finding.text}")
            if finding.remedy:
                echo(f"  {'':<10} → {finding.remedy}")
    if wrong:
        echo(f"{wrong} to mend.", err=True)
        raise click.exceptions.Exit(1)


def _examined(check: Callable[[], Iterator[Finding]]) -> Iterator[Finding]:
    try:
        yield from check()
    except LlmserError as error:
        what, _, remedy = str(error).partition("; ")
        yield Finding(what.rstrip("."), remedy or "Fix that, then run `llmser doctor` again.")


def python() -> Iterator[Finding]:
    version = ".".join(map(str, sys.version_info[:3]))
    suits = sys.version_info[:2] == (3, 11)
    yield Finding(f"{version}, {sys.executable}", "" if suits else "Use Python 3.11; `make env` makes an environment.")


def packages() -> Iterator[Finding]:
    from packaging.requirements import Requirement

    try:
        required = [Requirement(line) for line in importlib.metadata.requires("llmser") or []]
    except importlib.metadata.PackageNotFoundError:
        yield Finding("llmser itself is not installed", "Run `make env`.")
        return
    missing = []
    needed = [r for r in required if r.marker is None or r.marker.evaluate({"extra": ""})]
    for requirement in needed:
        try:
            version = importlib.metadata.version(requirement.name)
        except importlib.metadata.PackageNotFoundError:
            missing.append(f"{requirement.name} is missing")
            continue
        if not requirement.specifier.contains(version.partition("+")[0], prereleases=True):
            missing.append(f"{requirement.name} is {version}, but {requirement.specifier} is needed")
    if missing:
        yield Finding("; ".join(missing), "Run `make env`, which installs what the lock file names.")
    else:
        yield Finding(f"all {len(needed)} that llmser needs")


def device() -> Iterator[Finding]:
    import torch

    if torch.cuda.is_available():
        yield Finding(f"torch {torch.__version__} on {torch.cuda.get_device_name(0)}")
    else:
        yield Finding(f"torch {torch.__version__} on the CPU, {torch.get_num_threads()} threads")


def encoder() -> Iterator[Finding]:
    from llmser_tasks.core.config import RunConfig
    from llmser_tasks.texts.encoder import Encoder

    name = RunConfig().reliability.encoder
    opened = Encoder.open(name)
    yield Finding(f"{name}: vectors of {opened.dimension}, weights sha256 {opened.hash[:12]}…")


def disk() -> Iterator[Finding]:
    for folder in dict.fromkeys([environment.home(), environment.workspace().root]):
        there = next(p for p in (folder, *folder.parents) if p.exists())
        free = shutil.disk_usage(there).free / 2**30
        if not os.access(there, os.W_OK):
            yield Finding(f"{folder} cannot be written", "Set LLMSER_HOME or LLMSER_ARTEFACTS to a folder of yours.")
        elif free < ROOM_GIB:
            yield Finding(f"{folder}: {free:.1f} GiB free", f"Free some space; {ROOM_GIB} GiB are comfortable.")
        else:
            yield Finding(f"{folder}: {free:.0f} GiB free")


def artefacts() -> Iterator[Finding]:
    """Every byte of every finished artefact is compared with its manifest."""
    store = environment.workspace()
    count = 0
    for path, wrong in store.damage():
        count += 1
        if wrong:
            yield Finding(f"{path}: {wrong}", "Start its run again: the artefact is set aside and made anew.")
    aside = sum(1 for _ in store.root.rglob(f"{DAMAGED}*"))
    yield Finding(f"{count} looked at in {store.root}" + (f"; {aside} damaged ones lie aside" if aside else ""))


def ports() -> Iterator[Finding]:
    try:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            probe.listen()
            with socket.create_connection(probe.getsockname(), timeout=PROBE_S):
                yield Finding("127.0.0.1 can be listened on and reached")
    except OSError as error:
        yield Finding(
            f"127.0.0.1: {error.strerror or error}", "Bring the loopback interface up, or loosen the sandbox."
        )


def postgres() -> Iterator[Finding]:
    from llmser_tasks.postgres import embedded
    from llmser_tasks.warehouse import server as postgres_server
    from llmser_tasks.warehouse.engine import where

    url = os.environ.get("LLMSER_DATABASE_URL")
    if not url:
        server = embedded.running(environment.home())
        if server is None:
            yield Finding(f"embedded {embedded.version(environment.home())}, not running: started when needed")
            return
        url = server.url
    found = postgres_server.look(url)
    kind = "LLMSER_DATABASE_URL" if os.environ.get("LLMSER_DATABASE_URL") else "embedded"
    note = "" if found.migrated else ", without LLMSeR's schema so far: made when needed"
    yield Finding(f"{kind}: PostgreSQL {found.version} at {where(url)}{note}")


def llm() -> Iterator[Finding]:
    from llmser_tasks.llm.endpoint import RANKER, Endpoint
    from llmser_tasks.services import stack

    here = stack.attached(environment.home())
    if ranker := os.environ.get("LLMSER_RANKER_URL") or (here.addresses.ranker if here else None):
        key = os.environ.get("LLMSER_RANKER_KEY") or (here.ranker_key if here else None)
        yield _asked(Endpoint.from_mapping(RANKER, ranker, key, {}))
    else:
        yield Finding("embedding-ranker: started when needed")
    if os.environ.get("LLMSER_LLM_URL"):
        yield _asked(Endpoint.from_environment("of LLMSER_LLM_URL"))
    else:
        yield Finding("no other endpoint, as LLMSER_LLM_URL is not set")


def _asked(endpoint: Endpoint) -> Finding:
    """Ask for the list of models, which costs nothing."""
    import httpx

    from llmser_tasks.llm.endpoint import RANKER
    from llmser_tasks.services.status import status_of

    variable = "LLMSER_RANKER_KEY" if endpoint.name == RANKER else "LLMSER_LLM_KEY"
    name = f"{endpoint.model} at {urlsplit(endpoint.url).netloc}, {'with' if endpoint.key else 'without'} a key"
    try:
        url, proxied = endpoint.address("models"), not endpoint.is_local
        status = status_of("GET", url, within_s=PROBE_S, trust_env=proxied, headers=endpoint.credentials)
    except httpx.HTTPError as error:
        return Finding(f"{name}: does not answer ({type(error).__name__})", "Check its address, and that it runs.")
    if status in {401, 403}:
        return Finding(f"{name}: refuses it (HTTP {status})", f"Set {variable} to a key that it knows.")
    if status >= 500:
        return Finding(f"{name}: fails (HTTP {status})", "Try again later, or look at its own log.")
    return Finding(f"{name}: answers")


def airflow() -> Iterator[Finding]:
    import httpx

    from llmser_tasks.services import airflow_api, stack

    version = importlib.metadata.version("apache-airflow")
    here = stack.attached(environment.home())
    if here is None:
        waiting_for = stack.starting(environment.home())
        how = f"starting: waiting for {waiting_for}" if waiting_for else "not running: `llmser up` starts it"
        yield Finding(f"{version}, {how}")
        return
    try:
        with here.client() as client:
            health = airflow_api.health(client)
    except (httpx.HTTPError, airflow_api.Unready) as error:
        yield Finding(
            f"{version}, {here.url} does not answer ({type(error).__name__})", "Run `llmser down`, then `up`."
        )
        return
    for part, state in health.items():
        if state and state.get("status") not in {"healthy", None}:
            yield Finding(f"{part} is {state['status']}", f"See {Path(here.home) / 'logs'}.")
    yield Finding(f"{version} at {here.url}")


CHECKS: dict[str, Callable[[], Iterator[Finding]]] = {
    "Python": python,
    "packages": packages,
    "device": device,
    "encoder": encoder,
    "disk": disk,
    "artefacts": artefacts,
    "loopback": ports,
    "Postgres": postgres,
    "LLM": llm,
    "Airflow": airflow,
}
