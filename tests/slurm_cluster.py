"""A Slurm of one node on this machine, with accounting: python tests/slurm_cluster.py

Its files lie in a temporary folder, and its processes belong to the user who starts it. The command
prints the variables to set in another shell, and stops everything on Ctrl-C.
"""

import getpass
import os
import secrets
import shutil
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory

PROGRAMS = ("mariadbd", "mariadb-install-db", "munged", "slurmdbd", "slurmctld", "slurmd")
INSTALL = "apt-get install -y slurm-wlm slurmdbd munge mariadb-server"

SLURM_CONF = """\
ClusterName=testing
SlurmctldHost={host}(127.0.0.1)
SlurmUser={user}
SlurmdUser={user}
SlurmctldPort={ctld}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
CredType=cred/munge
StateSaveLocation={folder}/state
SlurmdSpoolDir={folder}/spool
SlurmctldPidFile={folder}/slurmctld.pid
SlurmdPidFile={folder}/slurmd.pid
SlurmctldLogFile={folder}/slurmctld.log
SlurmdLogFile={folder}/slurmd.log
MpiDefault=none
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SlurmdParameters=config_overrides
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/slurmdbd
AccountingStorageHost=127.0.0.1
AccountingStoragePort={dbd}
AccountingStoragePass={folder}/munge.socket
SchedulerParameters=sched_interval=1,batch_sched_delay=0,sched_min_interval=0
# No wait between the end of a job and the start of the next.
CompleteWait=0
KillWait=20
InactiveLimit=0
ReturnToService=0
PreemptType=preempt/partition_prio
PreemptMode=REQUEUE
NodeName={host} NodeAddr=127.0.0.1 Port={node} CPUs=4 State=UNKNOWN
PartitionName=low Nodes={host} Default=YES MaxTime=INFINITE PriorityTier=1
PartitionName=high Nodes={host} MaxTime=INFINITE PriorityTier=9 PreemptMode=OFF
"""

SLURMDBD_CONF = """\
DbdHost={host}
DbdAddr=127.0.0.1
DbdPort={dbd}
SlurmUser={user}
AuthType=auth/munge
AuthInfo=socket={folder}/munge.socket
LogFile={folder}/slurmdbd.log
PidFile={folder}/slurmdbd.pid
StorageType=accounting_storage/mysql
StorageHost=localhost
StorageUser=root
StorageLoc=slurm_acct
"""


def missing_programs() -> list[str]:
    """Return the programs that are not installed."""
    return [name for name in PROGRAMS if _find_program(name) is None]


@contextmanager
def slurm_cluster(folder: Path) -> Iterator[dict[str, str]]:
    """Start a Slurm with a node of 4 CPUs, and stop it at the end of the block.

    It has two partitions. A job in `high` preempts those in `low`.

    Yields:
        The environment variables by which Slurm's commands find it.

    Raises:
        RuntimeError: one of its daemons does not start.
    """
    ctld, dbd, node = _free_ports(3)
    names = {
        "folder": folder,
        "host": socket.gethostname().partition(".")[0],
        "user": getpass.getuser(),
        "ctld": ctld,
        "dbd": dbd,
        "node": node,
    }
    for name in ("state", "spool", "munge", "database"):
        (folder / name).mkdir()
    conf = folder / "slurm.conf"
    conf.write_text(SLURM_CONF.format(**names))
    _private(folder / "slurmdbd.conf", SLURMDBD_CONF.format(**names).encode())
    _private(folder / "munge" / "key", secrets.token_bytes(128))
    variables = {"SLURM_CONF": str(conf)}
    daemons = _Daemons(folder, os.environ | variables)
    try:
        _start(daemons, folder, names)
        try:
            yield variables
        finally:
            # Jobs outlive the daemons.
            daemons.succeeds("scancel", f"--user={names['user']}")
            daemons.wait_until(
                lambda: daemons.succeeds("squeue", "-h") and not daemons.output, "slurmctld"
            )
    finally:
        daemons.stop()


def _start(daemons: "_Daemons", folder: Path, names: dict[str, object]) -> None:
    munge = folder / "munge"
    daemons.start(
        "munged",
        "--foreground",
        f"--key-file={munge / 'key'}",
        f"--socket={folder / 'munge.socket'}",
        f"--pid-file={munge / 'pid'}",
        f"--log-file={munge / 'log'}",
        f"--seed-file={munge / 'seed'}",
        "--force",
    )
    # The root of this database needs no password, as no other user can reach it.
    daemons.run(
        "mariadb-install-db",
        "--no-defaults",
        "--auth-root-authentication-method=normal",
        f"--datadir={folder / 'database'}",
    )
    database = folder / "database.socket"
    daemons.start(
        "mariadbd",
        "--no-defaults",
        f"--user={names['user']}",
        f"--datadir={folder / 'database'}",
        f"--socket={database}",
        f"--pid-file={folder / 'mariadbd.pid'}",
        "--skip-networking",
        "--innodb-buffer-pool-size=64M",
    )
    # Slurm's client library looks for the database's socket where this says.
    daemons.environment["MYSQL_UNIX_PORT"] = str(database)
    daemons.wait_until(database.exists, "mariadbd")
    daemons.start("slurmdbd", "-D")
    list_clusters = ("sacctmgr", "--noheader", "list", "cluster")
    daemons.wait_until(lambda: daemons.succeeds(*list_clusters), "slurmdbd")
    daemons.start("slurmctld", "-D")
    daemons.wait_until(
        lambda: daemons.succeeds("scontrol", "ping") and "UP" in daemons.output, "slurmctld"
    )
    daemons.start("slurmd", "-D", "-N", str(names["host"]))
    list_states = ("sinfo", "-h", "-o", "%T")
    daemons.wait_until(
        lambda: daemons.succeeds(*list_states) and "idle" in daemons.output, "slurmd"
    )


class _Daemons:
    """The processes of Slurm. None of them goes into the background, so their ids are known."""

    def __init__(self, folder: Path, environment: dict[str, str]):
        self._folder = folder
        self.environment = environment
        self._running: dict[str, subprocess.Popen[bytes]] = {}
        self.output = ""

    def start(self, name: str, *arguments: str) -> None:
        """Start a daemon."""
        program = _find_program(name)
        assert program
        with (self._folder / f"{name}.out").open("ab") as out:
            self._running[name] = subprocess.Popen(
                [program, *arguments],
                stdout=out,
                stderr=out,
                env=self.environment,
                # Ctrl-C on a terminal goes to the whole group. These must end one after the other.
                start_new_session=True,
            )

    def run(self, name: str, *arguments: str) -> None:
        """Run a program to its end."""
        program = _find_program(name)
        assert program
        with (self._folder / f"{name}.out").open("ab") as out:
            subprocess.run([program, *arguments], stdout=out, stderr=out, check=True)

    def succeeds(self, *command: str) -> bool:
        """Run a command, keep its output, and return whether it succeeds."""
        done = subprocess.run(command, capture_output=True, text=True, env=self.environment)
        self.output = done.stdout
        return done.returncode == 0

    def wait_until(self, ready: Callable[[], object], name: str, seconds: float = 60) -> None:
        """Wait until a daemon is ready.

        Raises:
            RuntimeError: the daemon has ended, or is not ready in time.
        """
        deadline = time.monotonic() + seconds
        while not ready():
            if self._running[name].poll() is not None or time.monotonic() > deadline:
                logs = [self._folder / f"{name}.out", self._folder / f"{name}.log"]
                text = "\n".join(path.read_text()[-2000:] for path in logs if path.exists())
                raise RuntimeError(f"{name} does not answer:\n{text}")
            time.sleep(0.2)

    def stop(self) -> None:
        """Stop the daemons in the reverse order, because each needs those before it."""
        for process in reversed(self._running.values()):
            process.send_signal(signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                process.wait(20)
            process.kill()
            process.wait()


def _find_program(name: str) -> str | None:
    # The folders of daemons are not on every user's path.
    return shutil.which(name, path=os.environ.get("PATH", "") + ":/usr/sbin:/sbin")


def _private(path: Path, content: bytes) -> None:
    path.touch(0o600)
    path.write_bytes(content)


def _free_ports(count: int) -> list[int]:
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in sockets]
    for one in sockets:
        one.close()
    return ports


def main() -> None:
    """Run the cluster until Ctrl-C."""
    if names := missing_programs():
        raise SystemExit(f"not installed: {', '.join(names)}; {INSTALL}")
    with TemporaryDirectory() as folder, slurm_cluster(Path(folder)) as variables:
        print(*(f"export {name}={value}" for name, value in variables.items()), sep="\n")
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, signal.default_int_handler)
        with suppress(KeyboardInterrupt):
            signal.pause()


if __name__ == "__main__":
    main()
