"""Training on several processes: the same steps as in one, and nothing left behind however it ends."""

from __future__ import annotations

import json
import multiprocessing
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import psutil
import pytest
from patience import PATIENCE_S, until
from torch.distributed.elastic.multiprocessing.errors import record

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError, LlmserError, StorageError
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import Watch, WeightedTerm, train
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.recommenders.loop.parallel import FOLDER, VARIABLE, _end, _failure, process_count
from llmser_tasks.recommenders.loop.process_group import PeerLost
from llmser_tasks.sequences.histories import Histories

RING = 30
SMALL = Recommender(
    dimension=16, layers=1, heads=2, max_length=8, dropout=0, batch_size=16, learning_rate=1e-2, epochs=4, patience=4
)
ENVIRONMENT = {"PYTHONPATH": os.pathsep.join(sys.path), "OMP_NUM_THREADS": "1", "GLOO_SOCKET_IFNAME": "lo"}

PEER = """
import sys
from pathlib import Path
from llmser_tasks.core.progress import silent
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.recommenders.loop.training import run
from llmser_tasks.recommenders.loop.worker import joined

with joined(Path(sys.argv[1]), "cpu") as (group, device):
    for folder in sorted(Path(sys.argv[1]).glob("inputs-*")):
        run(TrainingInputs.read(folder), device, group, silent)
"""


def dual(ring: Histories) -> list[WeightedTerm]:
    """Dual-channel training: one pseudo item before every history, of all weights between 0 and 1."""
    pseudo = Histories.of(ring.users, [[(row[0] - 2) % RING + 1] for row in ring])
    return dual_channel(ring, ring.after(pseudo), np.linspace(0, 1, len(ring)), np.ones(len(ring), np.int64))


def log_of(folder: Path) -> list[dict[str, float]]:
    return [json.loads(line) for line in (folder / "log.jsonl").read_text().splitlines()]


def check_same(one: Path, other: Path, epochs: int = SMALL.epochs) -> None:
    """Two folders tell of the same epochs, and hold nothing but a finished training."""
    ours, theirs = log_of(one), log_of(other)
    assert len(ours) == len(theirs) == epochs
    for mine, its in zip(ours, theirs, strict=True):
        assert mine["loss"] == pytest.approx(its["loss"], rel=1e-4)
        assert mine["ndcg@10"] == its["ndcg@10"]
    for folder in (one, other):
        assert sorted(path.name for path in folder.iterdir()) == ["config.json", "log.jsonl", "model.safetensors"]


def test_two_processes_take_the_steps_of_one(ring: Histories, watch: Watch, tmp_path: Path) -> None:
    some = Watch(watch.contexts.select(np.arange(1)), watch.targets[:1], watch.exclude)  # nobody for the second process
    plain = [WeightedTerm(ring)]
    settings: list[tuple[dict[str, Any], Watch, list[WeightedTerm]]] = [
        ({}, watch, plain),
        ({}, watch, dual(ring)),
        ({"backbone": "bert4rec", "loss": "bce"}, watch, dual(ring)),
        ({"backbone": "gru4rec", "loss": "cross-entropy"}, watch, plain),  # gradients of the whole table
        ({"batch_size": len(ring) - 1}, some, plain),  # and no row for the second process in the second batch
        ({"batch_size": len(ring) - 1, "loss": "cross-entropy"}, some, dual(ring)),
    ]
    for number, (changed, watched, terms) in enumerate(settings):
        folder, inputs = tmp_path / f"of-two-{number}", tmp_path / f"inputs-{number}"
        for each in (folder, inputs, tmp_path / f"of-one-{number}"):
            each.mkdir()
        config = SMALL.model_copy(update=changed)
        TrainingInputs(config, terms, RING, 1, folder, "cpu", watched).write(inputs)
        train(config, terms, RING, 1, tmp_path / f"of-one-{number}", watch=watched, device="cpu")
    peers = [
        subprocess.Popen(
            [sys.executable, "-c", PEER, str(tmp_path)],
            env=os.environ | ENVIRONMENT | {"RANK": str(rank), "WORLD_SIZE": "2"},
        )
        for rank in range(2)
    ]
    assert [peer.wait() for peer in peers] == [0, 0]
    for number in range(len(settings)):
        check_same(tmp_path / f"of-one-{number}", tmp_path / f"of-two-{number}")


def test_a_killed_caller_leaves_nothing_and_two_processes_go_on(
    ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    one, two = tmp_path / "one", tmp_path / "two"
    one.mkdir()
    two.mkdir()
    long = SMALL.model_copy(update={"epochs": 12, "patience": 12})  # not over before the kill on a busy machine
    train(long, [WeightedTerm(ring)], RING, 1, one, watch=watch, device="cpu")
    monkeypatch.setenv(VARIABLE, "2")

    def kill(done: int, total: int | None, unit: str, note: str = "") -> None:
        if done == 2:
            os.kill(os.getpid(), signal.SIGKILL)

    caller = multiprocessing.get_context("fork").Process(
        target=train,
        args=(long, [WeightedTerm(ring)], RING, 1, two),
        kwargs={"watch": watch, "device": "cpu", "progress": kill},
    )
    caller.start()
    caller.join()
    assert caller.exitcode == -signal.SIGKILL
    wait_for_end(two)
    assert not list(two.glob(f"{FOLDER}*"))
    told = []

    def note(done: int, total: int | None, unit: str, note: str = "") -> None:
        told.append((done, total, unit, "NDCG@10" in note))

    summary = train(long, [WeightedTerm(ring)], RING, 1, two, watch=watch, device="cpu", progress=note)
    assert [number for number, *_ in told] == list(range(len(log_of(two)) + 1 - len(told), long.epochs + 1))
    assert told[-1] == (12, 12, "epochs", True) and len(told) < long.epochs  # those before the kill were not run again
    assert (summary.epochs, summary.threads, summary.users) == (12, 2, len(ring))
    check_same(one, two, long.epochs)


def test_a_killed_process_is_one_clear_sentence_and_no_process_is_left(
    ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(VARIABLE, "2")
    heard_by = set()

    def kill_one(done: int, total: int | None, unit: str, note: str = "") -> None:
        if done > 1:
            return  # the other finished an epoch before it noticed
        processes = of_training(tmp_path)
        for process in processes:
            heard_by.update(c.laddr.ip for c in process.net_connections("inet") if c.status == psutil.CONN_LISTEN)
        (worker,) = [process for process in processes if process.environ().get("RANK") == "1"]
        worker.kill()

    endless = SMALL.model_copy(update={"epochs": 10_000, "patience": 10_000})
    with pytest.raises(StorageError, match="One of 2 training processes was killed") as raised:
        train(endless, [WeightedTerm(ring)], RING, 1, tmp_path, watch=watch, device="cpu", progress=kill_one)
    assert str(raised.value).count("\n") == 0
    assert heard_by <= {"127.0.0.1"}
    assert not of_training(tmp_path)
    assert not list(tmp_path.glob(f"{FOLDER}*"))


def test_an_interrupted_caller_ends_processes_in_sessions_of_their_own() -> None:
    worker = f"[{sys.executable!r}, '-c', 'import time; time.sleep(3600)']"
    launcher = f"import subprocess; p = subprocess.Popen({worker}, start_new_session=True); print(p.pid); p.wait()"
    process = subprocess.Popen(
        [sys.executable, "-uc", launcher], stdin=subprocess.PIPE, stdout=subprocess.PIPE, start_new_session=True
    )
    assert process.stdout is not None
    started = psutil.Process(int(process.stdout.readline()))
    _end(process)
    assert process.returncode == -signal.SIGKILL
    psutil.wait_procs([started], timeout=PATIENCE_S)
    assert not started.is_running() or started.status() == psutil.STATUS_ZOMBIE  # whose parent is gone


def of_training(folder: Path) -> list[psutil.Process]:
    """The launcher and the processes of a training in `folder`."""
    found = []
    for process in psutil.process_iter():
        try:
            if any(str(folder / FOLDER) in argument for argument in process.cmdline()):
                found.append(process)
        except psutil.Error:
            continue
    return found


def wait_for_end(folder: Path) -> None:
    until(lambda: not of_training(folder), lambda: "processes of a killed training live on")


def failure(folder: Path, *errors: Exception) -> LlmserError:
    """What is made of these errors, in this order, as torch's launcher has them written down."""
    (folder / "errors.txt").touch()

    for rank, error in enumerate(errors):

        def fail(error: Exception = error) -> None:
            raise error

        (folder / "log" / str(rank)).mkdir(parents=True)
        with pytest.MonkeyPatch.context() as patch, pytest.raises(type(error)):
            patch.setenv("TORCHELASTIC_ERROR_FILE", str(folder / "log" / str(rank) / "error.json"))
            record(fail)()
    return _failure(folder, 2)


def test_what_a_process_says_is_said_again(tmp_path: Path) -> None:
    for name in "abcde":
        (tmp_path / name).mkdir()
    told = failure(tmp_path / "a", PeerLost("Connection reset"), InputError("No item: bring some."))
    assert isinstance(told, InputError) and str(told) == "No item: bring some."
    told = failure(tmp_path / "b", StorageError("Full."), InputError("Later."))
    assert isinstance(told, StorageError) and str(told) == "Full."
    told = failure(tmp_path / "c", RuntimeError("CUDA out of memory.\nMore words"))
    assert "failed with RuntimeError: CUDA out of memory; " in str(told)
    assert "was killed" in str(failure(tmp_path / "d", PeerLost("Connection reset")))
    assert "did not start" in str(failure(tmp_path / "e"))


def test_the_number_of_processes(
    ring: Histories, watch: Watch, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv(VARIABLE, raising=False)
    assert process_count("cpu") == process_count("cuda") == 1
    monkeypatch.setenv(VARIABLE, " 3 ")
    assert process_count("cpu") == 3
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    with pytest.raises(InputError, match="2 GPUs are visible"):
        process_count("cuda")
    with pytest.raises(InputError, match="bound to cuda:1"):
        process_count("cuda:1")
    for nonsense in ("0", "-2", "many", "1.5"):
        monkeypatch.setenv(VARIABLE, nonsense)
        with pytest.raises(InputError, match=VARIABLE):
            train(SMALL, [WeightedTerm(ring)], RING, 1, tmp_path, watch=watch, device="cpu")
