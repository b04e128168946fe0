"""Demo runs in which something is killed by signal 9 at random moments: what survives, what is lost, what is left over.

    python benchmarks/chaos.py [--component scheduler …] [--moments 10] [--together 2] [--seed 1] [--out chaos.json]

An undisturbed run of the sample comes first: its metrics, its answers and its length are what the others are held
against. Then each component has `--moments` kills, at moments drawn from the seed, `--together` of them in one run.
Components: api-server, scheduler, dag-processor, triggerer, ranker, Postgres; worker (a process of LocalExecutor's) and
task (the process below it, whose memory is what runs out); everything (all at once with `llmser up` itself, which is
then started again). Every run has a fresh home, services of its own and the sample's own settings.

Each finished run is a line of the file, so that an interrupted benchmark goes on where it was. Per run:

- lost: questions that the undisturbed run had an answer to and this one has not; twice: answers that the ranker sent
  beyond one for each that is kept (it counts in memory, so that what it sent in the last moment before it was itself
  killed is not seen);
- orphans: processes of a component that is no more, half a minute after the last kill and at the end of the run, and
  whatever is left when `llmser up` has been stopped; locks: lock files that somebody still holds, advisory locks of
  sessions that do nothing, claims and reserved money;
- same: the table of metrics, byte by byte.
"""

from __future__ import annotations

import argparse
import contextlib
import fcntl
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import httpx
import psutil
from sqlalchemy import text

from llmser_tasks.core.errors import LlmserError
from llmser_tasks.core.handle import Warehouse
from llmser_tasks.postgres import embedded
from llmser_tasks.ranker.faults import ODD, SPOILT
from llmser_tasks.sample import write_sample
from llmser_tasks.services import airflow_api, local, processes, stack, state
from llmser_tasks.services.processes import COMPONENT
from llmser_tasks.services.stack import Stack
from llmser_tasks.warehouse.engine import engine, transaction

COMPONENTS = (
    "api-server", "scheduler", "dag-processor", "triggerer", "ranker", "postgres", "worker", "task", "everything",
)  # fmt: skip
RUN = "chaos"
LOOK_EVERY_S = 0.1
STUCK_AFTER_S = 1800.0  # beyond the undisturbed run's length, without the run having ended
ANSWERED = ("answered", *SPOILT, *ODD)


class Services:
    """`llmser up` in a process of its own, on a home of its own."""

    def __init__(self, home: Path) -> None:
        self.home = home
        self.process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        variables = {k: v for k, v in os.environ.items() if not k.startswith(("AIRFLOW", "LLMSER"))}
        with (self.home / "up.log").open("ab") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "llmser_tasks.cli", "up"],
                env=variables | {"LLMSER_HOME": str(self.home)},
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        while stack.attached(self.home) is None:
            if self.process.poll() is not None:
                raise SystemExit(
                    f"`llmser up` ended by itself:\n{(self.home / 'up.log').read_text(encoding='utf-8')[-3000:]}"
                )
            time.sleep(0.5)

    def stop(self) -> None:
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait()

    @property
    def marker(self) -> str:
        found = state.read(self.home)
        assert found is not None
        return found.marker

    def child(self, name: str) -> psutil.Process | None:
        found = state.read(self.home)
        return next((c.process() for c in found.children if c.name == name), None) if found else None

    def orphans(self) -> list[str]:
        """Marked processes that no living component has started."""
        assert self.process is not None
        with contextlib.suppress(psutil.Error):
            family = {p.pid for p in psutil.Process(self.process.pid).children(recursive=True)} | {self.process.pid}
            time.sleep(1)  # who was forked in between belongs to somebody
            family |= {p.pid for p in psutil.Process(self.process.pid).children(recursive=True)}
            return [_named(p) for p in processes.marked(self.marker) if p.pid not in family]
        return []


def _named(process: psutil.Process) -> str:
    with contextlib.suppress(psutil.Error):
        return f"{process.environ().get(COMPONENT, '?')}: {' '.join(process.cmdline())[:60]}"
    return "gone"


def kill(services: Services, component: str, draw: random.Random) -> bool:
    """Kill it; False where it is not there just now."""
    victims: list[psutil.Process] = []
    if component == "postgres":
        server = embedded.running(services.home)
        victims = [psutil.Process(server.pid)] if server else []
    elif component in {"worker", "task"}:
        scheduler = services.child("scheduler")
        workers = [p for p in scheduler.children() if "LocalExecutor" in " ".join(p.cmdline())] if scheduler else []
        tasks = [task for worker in workers for task in worker.children()]
        found = workers if component == "worker" else tasks
        victims = [draw.choice(sorted(found, key=lambda p: p.pid))] if found else []
    elif component == "everything":
        assert services.process is not None
        server = embedded.running(services.home)
        victims = [psutil.Process(services.process.pid), *processes.marked(services.marker)]
        victims += [psutil.Process(server.pid)] if server else []
    else:
        child = services.child(component)
        victims = [child] if child else []
    for victim in victims:
        with contextlib.suppress(psutil.NoSuchProcess):
            victim.kill()
    if component == "everything" and victims:
        services.process.wait()  # type: ignore[union-attr]
        services.start()
    return bool(victims)


class Sent:
    """Answers that the ranker has sent; it counts from zero when it is started again."""

    def __init__(self) -> None:
        self.before = 0
        self.now = 0

    def look(self, here: Stack) -> None:
        with contextlib.suppress(httpx.HTTPError, ValueError, KeyError):
            url = here.addresses.ranker.removesuffix("/v1")
            key = {"Authorization": f"Bearer {here.ranker_key}"}
            outcomes = httpx.get(f"{url}/stats", headers=key, trust_env=False, timeout=5).json()["outcomes"]
            seen = sum(outcomes.get(kind, 0) for kind in ANSWERED)
            if seen < self.now:
                self.before += self.now
            self.now = seen

    @property
    def all(self) -> int:
        return self.before + self.now


def run(component: str, moments: list[float], seed: int) -> dict[str, Any]:
    """One demo run with kills at these moments, in seconds from its start."""
    home = Path(tempfile.mkdtemp(prefix="llmser-chaos-"))
    home.chmod(0o711)
    services = Services(home)
    try:
        services.start()
        return _disturbed(services, component, moments, seed)
    finally:
        services.stop()
        local.down(home)
        if not os.environ.get("LLMSER_KEEP"):
            shutil.rmtree(home, ignore_errors=True)


def _disturbed(services: Services, component: str, moments: list[float], seed: int) -> dict[str, Any]:
    home = services.home
    draw = random.Random(f"{component} {seed} {moments}")
    files = write_sample(home / "sample", users=local.DEMO_USERS)
    values = {
        "dataset": local.DEMO, "reviews": str(files.reviews), "items": str(files.items), **local.DEMO_TRAINING,
    }  # fmt: skip
    here = _attached(home)
    with here.client() as client:
        airflow_api.trigger(client, values, RUN)
    began = time.monotonic()
    left, killed, sent = list(moments), [], Sent()
    orphans: set[str] = set()
    looked = False
    how = "running"
    while how not in {"success", "failed"}:
        time.sleep(LOOK_EVERY_S)
        sent.look(here)
        now = time.monotonic() - began
        assert services.process is not None
        if left and now >= left[0] and kill(services, component, draw):
            killed.append(now)
            left.pop(0)
            here, looked = _attached(home), False
        if killed and not looked and now > killed[-1] + 30:
            orphans |= set(services.orphans())
            looked = True
        with contextlib.suppress(httpx.TransportError, LlmserError), here.client() as client:
            how = airflow_api.run(client, RUN)["state"]
        if services.process.poll() is not None:
            how = "up ended"
            break
        if now > (moments[-1] if moments else 0) + STUCK_AFTER_S:
            how = "stuck"
            break
    seconds = time.monotonic() - began
    sent.look(here)
    found: dict[str, Any] = {"component": component, "seed": seed, "planned": moments, "killed": killed, "state": how}
    if how != "up ended":
        orphans |= set(services.orphans())
        found |= _told(here.warehouse) | {"locks": _locks(home, here.warehouse)}
    found |= {"seconds": seconds, "sent": sent.all, "up": (home / "up.log").read_text(encoding="utf-8")[-4000:]}
    marker = services.marker
    engine(here.warehouse).dispose()
    services.stop()
    orphans |= {f"after the end: {_named(p)}" for p in processes.marked(marker)}
    if embedded.running(home) is not None:
        orphans.add("after the end: Postgres")
    return found | {"orphans": sorted(orphans)}


def _attached(home: Path) -> Stack:
    here = stack.attached(home)
    assert here is not None
    return here


def _told(warehouse: Warehouse) -> dict[str, Any]:
    """What the warehouse says of the run."""
    with transaction(warehouse) as connection:
        metrics = connection.execute(
            text("select method, seed, protocol, user_group, metric, value, users from metrics order by 1, 2, 3, 4, 5")
        ).all()
        questions = connection.scalars(text("select question_key from answers where content is not null")).all()
        message = connection.scalar(text("select message from runs where run_id = :run"), {"run": RUN})
        steps = connection.scalar(text("select count(*) from steps where state = 'running'"))
    return {
        "metrics": [[*row[:5], row[5].hex(), row[6]] for row in metrics],
        "questions": sorted(questions),
        "message": message,
        "steps still running": steps,
    }


def _locks(home: Path, warehouse: Warehouse) -> list[str]:
    found = []
    for path in home.rglob(".lock-*"):
        with path.open("a", encoding="utf-8") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                found.append(path.name)
    with transaction(warehouse) as connection:
        held = "select count(*) from pg_locks where locktype = 'advisory' and pid <> pg_backend_pid()"
        if number := connection.scalar(text(held)):
            found.append(f"{number} advisory locks")
    return found


def compared(one: dict[str, Any], undisturbed: dict[str, Any]) -> dict[str, Any]:
    """What a reader wants to know of one run."""
    kept = set(one.get("questions", ()))
    return {
        "component": one["component"],
        "kills": len(one["killed"]),
        "survived": one["state"] == "success",
        "state": one["state"],
        "lost": len(set(undisturbed["questions"]) - kept),
        "twice": max(0, one["sent"] - len(kept) - (undisturbed["sent"] - len(undisturbed["questions"]))),
        "stuck": one["state"] == "stuck" or bool(one.get("steps still running")),
        "orphans": len(one["orphans"]),
        "locks": len(one.get("locks", ())),
        "same": one.get("metrics") == undisturbed["metrics"],
        "seconds": round(one["seconds"]),
    }


def table(results: list[dict[str, Any]]) -> str:
    undisturbed = next(one for one in results if one["component"] == "none")
    lines = [
        "| killed | runs | kills | survived | lost | paid twice | stuck | orphans | locks | same metrics | seconds |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for component in ("none", *COMPONENTS):
        rows = [compared(one, undisturbed) for one in results if one["component"] == component]
        if rows:
            total = {key: sum(row[key] for row in rows) for key in ("kills", "survived", "lost", "twice", "stuck")}
            total |= {key: sum(row[key] for row in rows) for key in ("orphans", "locks", "same")}
            seconds = " ".join(str(row["seconds"]) for row in rows)
            cells = [component, len(rows), *(total[key] for key in ("kills", "survived", "lost", "twice", "stuck"))]
            cells += [*(total[key] for key in ("orphans", "locks", "same")), seconds]
            lines.append("| " + " | ".join(map(str, cells)) + " |")
    return "\n".join(lines)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--component", nargs="+", choices=COMPONENTS, default=list(COMPONENTS))
    parser.add_argument("--moments", type=int, default=10, help="kills of each component")
    parser.add_argument("--together", type=int, default=2, help="kills in one run")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--out", type=Path, default=Path("chaos.json"), help="a line for each run that has ended")
    asked = parser.parse_args()
    lines = asked.out.read_text(encoding="utf-8").splitlines() if asked.out.exists() else []
    results: list[dict[str, Any]] = [json.loads(line) for line in lines]

    def add(component: str, moments: list[float]) -> dict[str, Any]:
        made = run(component, moments, asked.seed)
        results.append(made)
        with asked.out.open("a", encoding="utf-8") as file:
            file.write(json.dumps(made) + "\n")
        return made

    undisturbed = next((one for one in results if one["component"] == "none"), None) or add("none", [])
    for component in asked.component:
        draw = random.Random(f"{component} {asked.seed}")
        for _ in range(0, asked.moments, asked.together):
            moments = sorted(draw.uniform(0.02, 0.9) * undisturbed["seconds"] for _ in range(asked.together))
            if any(one["component"] == component and one["planned"] == moments for one in results):
                continue
            print(json.dumps(compared(add(component, moments), undisturbed)), flush=True)
    print(table(results))


if __name__ == "__main__":
    main()
