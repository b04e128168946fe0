"""What `gpu.py` checks, a function a part: (device, small) → rows, each with a verdict or a figure.

Everything is compared with the CPU's path. Where the device is a CPU, too, its tensors are sent the GPU's way
(`devices.on_gpu`), so that the same checks are a test of these branches on any machine.
"""

from __future__ import annotations

import itertools
import json
import os
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from unittest import mock

import floor
import numpy as np
import torch
import torch.distributed as dist
import torch.multiprocessing as processes
from safetensors.torch import load_file
from torch import Tensor

from llmser_tasks.core.config import Recommender
from llmser_tasks.core.errors import InputError
from llmser_tasks.methods.llmser.dual_channel import dual_channel
from llmser_tasks.recommenders import Watch, WeightedTerm, devices, load, ranks, sampled_ranks, top_k, train
from llmser_tasks.recommenders.load import make_model
from llmser_tasks.recommenders.loop import training
from llmser_tasks.recommenders.loop.inputs import TrainingInputs
from llmser_tasks.recommenders.loop.optimiser import Adam
from llmser_tasks.recommenders.loop.process_group import ALONE, ProcessGroup
from llmser_tasks.recommenders.losses import sampled_softmax
from llmser_tasks.recommenders.losses.partition import log_partition
from llmser_tasks.recommenders.model import Model
from llmser_tasks.recommenders.negatives import Negatives, UnseenUniform
from llmser_tasks.recommenders.objective import Objective, losses_of
from llmser_tasks.recommenders.terms.next_item import NextItemBatch
from llmser_tasks.sequences.histories import Histories

Rows = list[dict[str, Any]]
BACKBONES = ("sasrec", "gru4rec", "bert4rec")
LOSSES = ("sampled-softmax", "cross-entropy", "bce", "gbce")
CPU = torch.device("cpu")
LOSS_OFF = 1e-4  # relative; sums of float32 in another order
GRADIENT_OFF = 2e-3  # of each parameter's largest slope
STATE_OFF = 1e-4  # of the largest state
RANKS_EQUAL = 0.99  # of the users; scores that nearly tie change places
NOBODY = Watch(Histories.of([], []), np.zeros(0, np.int32), Histories.of([], []))


# What the parts share ------------------------------------------------------------------------------------------------


@contextmanager
def on(device: torch.device) -> Iterator[None]:
    """For the block, tensors go the way of `device`'s kind: a CPU's the GPU's way."""
    if device.type != "cpu":
        yield
        return
    with mock.patch.object(devices, "on_gpu", lambda _: True):
        yield


@contextmanager
def exact() -> Iterator[None]:
    """For the block, cuDNN multiplies float32 as float32: by default its GRU takes TF32, which has 10 bits."""
    before, torch.backends.cudnn.allow_tf32 = torch.backends.cudnn.allow_tf32, False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before


def walks(users: int, items: int, mean: int, seed: int = 0, most: int = 400) -> Histories:
    """Users who walk along a ring of items, each with steps of their own; lengths are geometric, 2 or more."""
    random = np.random.default_rng(seed)
    lengths = np.minimum(random.geometric(1 / max(mean - 1, 1), users) + 1, most)
    steps = random.integers(1, 4, int(lengths.sum()))
    offsets = np.concatenate([[0], np.cumsum(lengths)])
    walked = np.cumsum(steps) - np.repeat(np.cumsum(steps)[offsets[:-1]], lengths)
    walked += np.repeat(random.integers(0, items, users), lengths)
    return Histories(np.arange(users, dtype=np.int32), offsets.astype(np.int64), (walked % items + 1).astype(np.int32))


def watch_of(histories: Histories, items: int) -> Watch:
    """The next step of every walk."""
    return Watch.of(histories, (histories.last() % items + 1).astype(np.int32), histories)


def settings(backbone: str, small: bool, **given: Any) -> Recommender:
    sizes = {"dimension": 16, "max_length": 40, "batch_size": 32, "negatives": 32} if small else {}
    return Recommender.model_validate({"backbone": backbone, "epochs": 4, "patience": 4} | sizes | given)


def largest(one: Tensor, other: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    one, other = (t.to_dense() if t.is_sparse else t for t in (one.detach().cpu(), other.detach().cpu()))
    return float((one - other).abs().max() / one.abs().max().clamp(min=1e-12)) if one.numel() else 0.0


def said(name: str, passed: bool | None, **figures: Any) -> dict[str, Any]:
    """A row; `passed` None: a figure that nothing is asked of."""
    return {"name": name, "passed": passed} | figures


# Branches ------------------------------------------------------------------------------------------------------------


def branches(device: torch.device, small: bool) -> Rows:
    """Losses, gradients, a step of Adam and ranks against the CPU's: backbones × losses, with DCT and without."""
    with exact():
        found = [
            _branch(device, small, backbone, loss, two)
            for backbone, loss, two in itertools.product(BACKBONES, LOSSES, (False, True))
        ]
        found += [_ranks(device, small, backbone) for backbone in BACKBONES]
    as_trained = _branch(device, small, "gru4rec", "sampled-softmax", False)
    as_trained |= {"name": "gru4rec as it is trained", "passed": None}
    return [*found, _unseen(device), as_trained]


def _branch(device: torch.device, small: bool, backbone: str, loss: str, two: bool) -> dict[str, Any]:
    users, items = (48, 60) if small else (1000, 3000)
    plain = walks(users, items, 6 if small else 12, seed=1)
    negatives = {"cross-entropy": None, "bce": 3}.get(loss, 24 if small else 256)
    config = settings(backbone, small, loss=loss, dropout=0.0, negatives=negatives)
    alpha = np.random.default_rng(2).random(users) * (np.arange(users) % 3 > 0)
    enhanced = plain.after(walks(users, items, 3, seed=3))
    terms = dual_channel(plain, enhanced, alpha) if two else [WeightedTerm(plain)]
    objective = Objective.of(config, terms, items, CPU)
    torch.manual_seed(4)
    here = make_model(config, items)
    there = make_model(config, items)
    there.load_state_dict(here.state_dict())
    there.to(device)
    rows = torch.arange(min(users, 256))
    wanted = torch.ones_like(rows, dtype=torch.bool)
    weights = objective.weights[:, rows]
    asked = [
        term.batch(here, rows, wanted & (weight > 0), 5) for term, weight in zip(objective.terms, weights, strict=True)
    ]  # masks and negatives are drawn once, on the CPU

    def slopes(model: Model, where: torch.device) -> Tensor:
        parts = [_to(part, where) for part in asked if isinstance(part, NextItemBatch)]
        of_parts = losses_of(model, parts, len(rows))
        total = sum(
            ((weight.to(where) * each).sum() for weight, each in zip(weights, of_parts, strict=True)),
            torch.zeros((), device=where),
        )
        torch.autograd.backward(total / len(rows))
        return total.detach() / len(rows)

    ours = slopes(here, CPU)
    with on(device):
        theirs = slopes(there, device)
    pairs = list(zip(here.parameters(), there.parameters(), strict=True))
    gradient = max(largest(a.grad, b.grad) for a, b in pairs if a.grad is not None and b.grad is not None)
    same = all((a.grad is None) == (b.grad is None) for a, b in pairs)
    for a, b in pairs:  # the same slopes, for where one is nearly 0 Adam steps by its sign
        b.grad = None if a.grad is None else a.grad.clone().to(device)
    one, other = Adam(here.parameters(), 1e-3), Adam(there.parameters(), 1e-3)
    one.step()
    with on(device):
        other.step()
    step = max(largest(a, b) for a, b in pairs)
    off = abs(float(ours) - float(theirs)) / abs(float(ours))
    passed = same and off < LOSS_OFF and gradient < GRADIENT_OFF and step < 1e-5
    name = f"{backbone} {loss}{' DCT' if two else ''}"
    return said(name, passed, loss=float(ours), loss_off=off, gradient_off=gradient, step_off=step)


def _to(part: NextItemBatch, device: torch.device) -> NextItemBatch:
    """The same questions on another device."""
    moved = {name: value.to(device) for name, value in vars(part).items() if isinstance(value, Tensor)}
    weight = part.negatives.log_weight
    negatives = Negatives(
        part.negatives.items.to(device), None if weight is None else weight.to(device), part.negatives.whole
    )
    return NextItemBatch(**moved, negatives=negatives, loss=part.loss)


def _ranks(device: torch.device, small: bool, backbone: str) -> dict[str, Any]:
    users, items = (60, 80) if small else (5000, 20_000)
    histories = walks(users, items, 8, seed=6)
    watch = watch_of(histories, items)
    torch.manual_seed(7)
    here = make_model(settings(backbone, small), items).eval()
    there = make_model(settings(backbone, small), items).eval()
    there.load_state_dict(here.state_dict())
    there.to(device)
    negatives = np.random.default_rng(8).integers(1, items + 1, (len(watch.contexts), 20)).astype(np.int32)
    asked = (watch.contexts, watch.targets)
    ours = ranks(here, *asked, watch.exclude), sampled_ranks(here, *asked, negatives)
    best = top_k(here, watch.contexts, 10, watch.exclude)[0]
    with on(device):
        theirs = ranks(there, *asked, watch.exclude), sampled_ranks(there, *asked, negatives)
        found = top_k(there, watch.contexts, 10, watch.exclude)[0]
    equal = [float((a == b).mean()) for a, b in zip((*ours, best), (*theirs, found), strict=True)]
    return said(
        f"{backbone} ranks", min(equal) >= RANKS_EQUAL, full_equal=equal[0], sampled_equal=equal[1], top_equal=equal[2]
    )


def _unseen(device: torch.device) -> dict[str, Any]:
    """Negatives per position: never one of the user's own, all others alike."""
    histories = Histories.of(range(3), [[1, 5, 6], [2], list(range(1, 21))])
    sampler = UnseenUniform(histories, 20, 4000, device)
    rows = torch.tensor([0, 1, 2], device=device)
    with on(device):
        drawn = sampler.draw(rows, rows, torch.Generator(device=device).manual_seed(9)).items.cpu().numpy()
    own = [bool(np.isin(drawn[row], histories[row]).any()) for row in (0, 1)]
    counts = np.bincount(drawn[0], minlength=21)[1:]
    expected = 4000 / 17
    uneven = float(np.abs(counts[counts > 0] - expected).max() / np.sqrt(expected))  # in standard deviations
    inside = bool(((drawn >= 1) & (drawn <= 20)).all())
    return said("negatives unseen", not any(own) and inside and uneven < 5, deviations=uneven)


# Dropout and attention -----------------------------------------------------------------------------------------------


def dropout(device: torch.device, small: bool) -> Rows:
    """With dropout as it is by default, every backbone and loss trains, and its losses are numbers that fall."""
    users, items = (64, 50) if small else (3000, 2000)
    histories = walks(users, items, 6, seed=10)
    found = []
    for backbone, loss in itertools.product(BACKBONES, LOSSES):
        epochs = 2 if small else 6  # in two, chance in what BERT4Rec masks hides the fall
        config = settings(backbone, small, loss=loss, epochs=epochs, learning_rate=1e-2 if small else 1e-3)
        with tempfile.TemporaryDirectory() as folder, on(device):
            train(config, [WeightedTerm(histories)], items, 11, Path(folder), watch=NOBODY, device=device.type)
            losses = _losses(Path(folder))
        finite = all(np.isfinite(losses))
        found.append(said(f"{backbone} {loss}", finite and losses[-1] < losses[0], first=losses[0], last=losses[-1]))
    return found


def _losses(folder: Path) -> list[float]:
    return [json.loads(line)["loss"] for line in (folder / training.LOG).read_text(encoding="utf-8").splitlines()]


def attention(device: torch.device, small: bool) -> Rows:
    """Rows of 1, 32, 33 and 200 positions, alone and together: states and gradients as on the CPU."""
    found = []
    mixed = [1, 32, 33, 200, 31, 2, 64, 65]
    for backbone, lengths in itertools.product(BACKBONES, ([1], [32], [33], [200], mixed)):
        config = settings(backbone, small, max_length=200, dropout=0.0)
        torch.manual_seed(12)
        here, there = make_model(config, 300), make_model(config, 300)
        there.load_state_dict(here.state_dict())
        there.to(device)
        known = torch.tensor(lengths)
        generator = torch.Generator().manual_seed(13)
        tokens = torch.randint(1, 301, (len(known), int(known.max())), generator=generator)
        tokens = tokens.masked_fill(torch.arange(tokens.shape[1]) >= known[:, None], 0)
        toward = torch.randn(len(known), config.dimension, generator=generator)

        def state(model: Model, where: torch.device, given: tuple[Tensor, ...] = (tokens, known, toward)) -> Tensor:
            shown, long, wanted = (tensor.to(where) for tensor in given)
            states = model.last_states(shown, long)
            torch.autograd.backward((states * wanted).sum())
            return states

        ours = state(here, CPU)
        with on(device), exact():
            theirs = state(there, device)
        off = largest(ours, theirs)
        slopes = [
            largest(a.grad, b.grad)
            for a, b in zip(here.parameters(), there.parameters(), strict=True)
            if a.grad is not None and b.grad is not None and float(a.grad.abs().max()) > 1e-6
        ]
        passed = off < STATE_OFF and max(slopes) < GRADIENT_OFF and bool(torch.isfinite(theirs).all())
        found.append(said(f"{backbone} {'+'.join(map(str, lengths))}", passed, state_off=off, gradient_off=max(slopes)))
    return found


# The same again ------------------------------------------------------------------------------------------------------


def twice(device: torch.device, small: bool) -> Rows:
    """The same seed twice: the same bytes, or how far off."""
    found = []
    for backbone in BACKBONES:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            for folder in (one, other):
                _train(backbone, device.type, small, folder, None)
            found.append(_alike(backbone, Path(one), Path(other), 0.02))
    return found


def resume(device: torch.device, small: bool) -> Rows:
    """Killed by signal 9 after its second epoch and called again: the bytes of a training that nobody disturbed."""
    found = []
    for backbone in BACKBONES:
        with tempfile.TemporaryDirectory() as one, tempfile.TemporaryDirectory() as other:
            _train(backbone, device.type, small, one, None)
            context = processes.get_context("spawn")
            victim = context.Process(target=_train, args=(backbone, device.type, small, other, 2))
            victim.start()
            victim.join()
            done = len(_losses(Path(other)))
            _train(backbone, device.type, small, other, None)
            row = _alike(backbone, Path(one), Path(other), 0.02)
            killed = victim.exitcode == -signal.SIGKILL and done == 2
            found.append(row | {"passed": row["passed"] and killed, "killed_after": done})
    return found


def _train(backbone: str, device: str, small: bool, folder: str, killed_after: int | None) -> None:
    users, items = (96, 60) if small else (4000, 3000)
    histories = walks(users, items, 6, seed=14)
    config = settings(backbone, small, epochs=4, learning_rate=1e-2)

    def progress(done: int, *_: Any) -> None:
        if done == killed_after:
            os.kill(os.getpid(), signal.SIGKILL)

    with on(torch.device(device)):
        train(
            config, [WeightedTerm(histories)], items, 15, Path(folder), watch=watch_of(histories, items), device=device,
            progress=progress,
        )  # fmt: skip


def _alike(name: str, one: Path, other: Path, most: float) -> dict[str, Any]:
    """Whether two folders hold the same weights, or how far these and the losses are apart."""
    files = [folder / "model.safetensors" for folder in (one, other)]
    bytes_ = files[0].read_bytes() == files[1].read_bytes()
    ours, theirs = (load_file(file) for file in files)
    weights = max(largest(ours[key], theirs[key]) for key in ours)
    losses = float(np.abs(np.array(_losses(one)) / np.array(_losses(other)) - 1).max())
    return said(name, bytes_ or losses < most, same_bytes=bytes_, weights_off=weights, losses_off=losses)


# Memory and speed ----------------------------------------------------------------------------------------------------


def memory(device: torch.device, small: bool) -> Rows:
    """Peak of one step of sampled softmax over rows of 200 positions, beside the P × K scores that it cannot avoid: the
    batch's own positives are among the K, so with long rows most of the catalogue is."""
    found = []
    compared: list[int] = []

    def noting(states: Tensor, others: Tensor, *rest: Tensor) -> Tensor:
        compared.append(len(others))
        return log_partition(states, others, *rest)

    for users, drawn in ((8, 64),) if small else ((128, 1024), (256, 1024), (256, 4096)):
        items = 20 * drawn
        rows = np.arange(users * 201) % items + 1
        histories = Histories.of(range(users), rows.reshape(users, 201).tolist())
        config = settings("sasrec", small, max_length=200, negatives=drawn)
        objective = Objective.of(config, [WeightedTerm(histories)], items, device)
        model = make_model(config, items).to(device)
        with on(device), mock.patch.object(sampled_softmax, "log_partition", noting):
            if device.type == "cuda":
                torch.cuda.reset_peak_memory_stats()
                before = torch.cuda.memory_allocated()
            torch.autograd.backward(objective(model, torch.arange(users, device=device), 16))
        least = users * 200 * compared[-1] * 4
        peak = torch.cuda.max_memory_allocated() - before if device.type == "cuda" else None
        passed = None if peak is None else peak < 2 * least
        what = f"P {users * 200:,} K {compared[-1]:,}, {drawn:,} drawn"
        found.append(said(what, passed, scores_bytes=least, peak_bytes=peak,
                          times=None if peak is None else peak / least))  # fmt: skip
    return found


def speed(device: torch.device, small: bool) -> Rows:
    """Users per second of an epoch and of ranking, the default's settings, and how near SASRec is to its floor."""
    users = items = 300 if small else 100_000
    histories = walks(users, items, 9, seed=17, most=200)
    found = _rates(device, small)
    rate = found[0]["multiply_adds_per_s"]
    for backbone in BACKBONES:
        config = settings(backbone, small, epochs=3, averaging=0.0)
        with tempfile.TemporaryDirectory() as folder, on(device):
            times = [time.perf_counter()]
            train(config, [WeightedTerm(histories)], items, 18, Path(folder), watch=NOBODY, device=device.type,
                  progress=lambda *_, times=times: times.append(time.perf_counter()))  # fmt: skip
            epoch = float(np.median(np.diff(times)[1:]))
            model = load(Path(folder), device=device.type)
            watch = watch_of(histories, items)
            started = time.perf_counter()
            ranks(model, watch.contexts, watch.targets, watch.exclude)
            ranked = time.perf_counter()
            top_k(model, watch.contexts, 10, watch.exclude)
            listed = time.perf_counter()
        figures: dict[str, Any] = {"epoch_s": epoch, "trained_per_s": users / epoch}
        figures |= {"ranked_per_s": len(watch.contexts) / (ranked - started)}
        figures |= {"top10_per_s": len(watch.contexts) / (listed - ranked), "dtype": str(model.table.dtype)}
        if backbone == "sasrec" and not small:
            least = floor.multiply_adds(histories.lengths, items, config.loss, config.max_length) / rate
            figures |= {"floor_s": least, "share_of_floor": least / epoch}
        found.append(said(f"{backbone} {users:,} × {items:,}", None, **figures))
    return found


def _rates(device: torch.device, small: bool) -> Rows:
    """Multiply-adds per second of large products: float32 as the code has it, TF32 and bf16 as it might."""
    size = 256 if small else 8192
    before = torch.get_float32_matmul_precision()
    found = []
    for name, precision, kind in (
        ("float32", before, torch.float32), ("TF32", "high", torch.float32), ("bf16", before, torch.bfloat16)
    ):  # fmt: skip
        torch.set_float32_matmul_precision(precision)
        left = torch.rand(size, size, device=device).to(kind)
        best = 0.0
        for _ in range(5):
            _wait(device)
            started = time.perf_counter()
            torch.mm(left, left)
            _wait(device)
            best = max(best, size**3 / (time.perf_counter() - started))
        found.append(said(f"products {size}³ {name}", None, multiply_adds_per_s=best))
    torch.set_float32_matmul_precision(before)
    return found


def _wait(device: torch.device) -> None:
    if device.type == "cuda":
        torch.cuda.synchronize()


# Several processes, and another device -------------------------------------------------------------------------------


def several(device: torch.device, small: bool) -> Rows:
    """Two processes: what the product says where they share one GPU, and whether gloo could train them there."""
    found = []
    with tempfile.TemporaryDirectory() as folder, mock.patch.dict(os.environ, LLMSER_TRAINING_PROCESSES="2"):
        given = _shared(small, device, folder)
        try:
            train(
                given.config, given.terms, given.items, given.seed, given.folder, watch=given.watch, device=device.type
            )
            found.append(said("LLMSER_TRAINING_PROCESSES=2", True, told="trained"))
        except InputError as refused:
            found.append(said("LLMSER_TRAINING_PROCESSES=2", torch.cuda.device_count() < 2, told=str(refused)))
    with tempfile.TemporaryDirectory() as alone, tempfile.TemporaryDirectory() as pair:
        started = time.perf_counter()
        with on(device):
            training.run(_shared(small, device, alone), device, ALONE, lambda *_: None)
        one = time.perf_counter() - started
        started = time.perf_counter()
        name = "two ranks on one device, gloo"
        try:
            processes.spawn(_member, (device.type, small, pair), nprocs=2)
            both = {"seconds_alone": one, "seconds_both": time.perf_counter() - started}
            found.append(_alike(name, Path(alone), Path(pair), 0.01) | both)
        except processes.ProcessRaisedException as error:  # nothing that the product does: a question about torch
            found.append(said(name, None, told=str(error).strip().splitlines()[-1]))
    with tempfile.TemporaryDirectory() as first, tempfile.TemporaryDirectory() as second:
        started = time.perf_counter()
        context = processes.get_context("spawn")
        trainings = [
            context.Process(target=_train, args=("sasrec", device.type, small, f, None)) for f in (first, second)
        ]
        for process in trainings:
            process.start()
        for process in trainings:
            process.join()
        passed = all(process.exitcode == 0 for process in trainings)
        found.append(said("two trainings side by side", passed, seconds=time.perf_counter() - started))
    return found


def _shared(small: bool, device: torch.device, folder: str) -> TrainingInputs:
    users, items = (96, 60) if small else (4000, 3000)
    histories = walks(users, items, 6, seed=19)
    config = settings("sasrec", small, epochs=2, dropout=0.0)
    terms = [WeightedTerm(histories)]
    return TrainingInputs(config, terms, items, 20, Path(folder), device.type, watch_of(histories, items))


def _member(rank: int, kind: str, small: bool, folder: str) -> None:
    device = torch.device(kind, 0) if kind == "cuda" else torch.device(kind)
    os.environ["GLOO_SOCKET_IFNAME"] = "lo"
    store = dist.FileStore(str(Path(folder, "peers")), 2)
    dist.init_process_group("gloo", store=store, rank=rank, world_size=2)
    with on(device):
        training.run(_shared(small, device, folder), device, ProcessGroup(rank, 2), lambda *_: None)
    dist.destroy_process_group()


def elsewhere(device: torch.device, small: bool) -> Rows:
    """A model trained here and loaded on a CPU ranks as it does here."""
    users, items = (96, 60) if small else (4000, 3000)
    histories = walks(users, items, 6, seed=14)
    watch = watch_of(histories, items)
    found = []
    for backbone in BACKBONES:
        with tempfile.TemporaryDirectory() as folder:
            _train(backbone, device.type, small, folder, None)
            with on(device):
                here = ranks(load(Path(folder), device.type), watch.contexts, watch.targets, watch.exclude)
            there = ranks(load(Path(folder), "cpu"), watch.contexts, watch.targets, watch.exclude)
        equal = float((here == there).mean())
        found.append(said(backbone, equal >= RANKS_EQUAL, equal=equal, worst=int(np.abs(here - there).max())))
    return found


PARTS: dict[str, tuple[Callable[[torch.device, bool], Rows], int]] = {  # and its seconds on an H100, at most
    "branches": (branches, 90),
    "attention": (attention, 45),
    "dropout": (dropout, 75),
    "speed": (speed, 120),
    "memory": (memory, 40),
    "elsewhere": (elsewhere, 50),
    "resume": (resume, 90),
    "twice": (twice, 60),
    "several": (several, 90),
}
