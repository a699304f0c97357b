"""Pretended machines: each has its own network, processes, mounts, name and /tmp, and an ssh server, as a real one has.

A machine is a set of Linux namespaces. Its first process waits at the end of a pipe that only we hold: when we end,
however that happens, the kernel ends it, with it all that runs on the machine, and then the network as well.
"""

from __future__ import annotations

import contextlib
import ipaddress
import itertools
import os
import random
import shlex
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

TOOLS = ("ip", "unshare", "nsenter", "bash", "ssh", "ssh-keygen", "rsync", "/usr/sbin/sshd")
NAMESPACES = ("--net", "--mount", "--pid", "--uts", "--ipc")
SHARED = "/mnt/shared"  # where a machine has the folder that all of them share
SECONDS = 30
NUMBERS = itertools.count()  # two sites of one process differ as well

# The project and the Python that runs it: a machine has them where we have them, also below /tmp, which is its own.
CODE = [shlex.quote(str(path)) for path in (Path(__file__).resolve().parents[2], sys.prefix, sys.base_prefix)]
KEEP = "".join(f"mkdir /mnt/code{n} && mount --bind -o ro {path} /mnt/code{n}\n" for n, path in enumerate(CODE))
SHOW = "".join(
    f"[ {path} -ef /mnt/code{n} ] || {{ mkdir -p {path}; mount --bind -o ro /mnt/code{n} {path}; }}\n"
    for n, path in enumerate(CODE)
)

# The first process. What is mounted here is seen on this machine only; of what it shares with us it can change nothing
# but the shared folder. /tmp comes last: our own files lie below it.
BOOT = f"""
set -e
mount -t tmpfs tmpfs /dev/shm -o size=1g
mount -t tmpfs tmpfs /run && mkdir /run/sshd
mount -t tmpfs tmpfs /mnt && mkdir /mnt/machine {SHARED}
mount --bind "$FOLDER" /mnt/machine
mount --bind "$SHARED" {SHARED}
{KEEP}mount --bind /mnt/machine/passwd /etc/passwd
mount --bind /mnt/machine/hosts /etc/hosts
mount --bind /mnt/machine/tmp /tmp
{SHOW}mount -o remount,bind,ro /
hostname "$NAME"
echo up
read -r go  # until its network is there
/usr/sbin/sshd -f /mnt/machine/sshd_config -E /mnt/machine/sshd.log
until (: < /dev/tcp/127.0.0.1/22) 2> /dev/null; do sleep 0.05; done  # it goes to the background before it listens
echo "ready $(readlink /proc/1/ns/pid)"
read -r the_end || true
"""

SSHD = """
HostKey /mnt/machine/host_key
AuthorizedKeysFile /mnt/machine/authorized_keys
PermitRootLogin prohibit-password
PasswordAuthentication no
StrictModes no
UsePAM no
UseDNS no
PrintMotd no
PidFile /run/sshd.pid
Subsystem sftp internal-sftp
"""


class NoMachines(Exception):
    """Machines cannot be pretended here; the message says why."""


def missing() -> str | None:
    """Why there can be no machines here; None when nothing is known to be in the way."""
    if os.uname().sysname != "Linux" or os.geteuid() != 0:
        return "machines are made of Linux namespaces, and that takes root"
    if absent := [tool for tool in TOOLS if shutil.which(tool) is None]:
        return f"{', '.join(absent)} not found: apt-get install openssh-server openssh-client rsync iproute2 util-linux"
    return None


def run(*command: str, inside: int | None = None) -> str:
    """What a command prints; ``inside``: a process in whose network it runs.

    Raises:
        NoMachines: it fails.
    """
    if inside is not None:
        command = ("nsenter", "--net", "--target", str(inside), *command)
    done = subprocess.run(command, capture_output=True, text=True, timeout=SECONDS)
    if done.returncode:
        raise NoMachines(f"{shlex.join(command)}: {done.stderr.strip()}")
    return done.stdout


class Waiting:
    """A process in namespaces of its own that ends with us."""

    def __init__(self, *command: str, environment: Mapping[str, str] | None = None) -> None:
        self.process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            env={**os.environ, **(environment or {})},
        )

    @property
    def pid(self) -> int:
        return self.process.pid

    def hear(self, word: str) -> list[str]:
        """Wait until it says a line that begins with this word; the line's words.

        Raises:
            NoMachines: it says something else.
        """
        line = self.process.stdout.readline()
        if not line.startswith(word):
            self.process.kill()
            raise NoMachines(f"namespaces cannot be made: {(line + self.process.stdout.read()).strip()}")
        return line.split()

    def tell(self) -> None:
        self.process.stdin.write("\n")
        self.process.stdin.flush()

    def end(self) -> None:
        """Close the pipe and wait; what does not end by itself is killed."""
        with contextlib.suppress(BrokenPipeError):
            self.process.stdin.close()
        try:
            self.process.wait(SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
        self.process.stdout.close()


class Machine:
    """One machine: on after ``start``, gone after ``kill``; its disk stays.

    Attributes:
        address: on the site's network.
        folder: its disk, as we see it: ``home``, ``tmp``.
    """

    def __init__(self, name: str, address: str, folder: Path, site: Site) -> None:
        self.name, self.address, self.folder = name, address, folder
        self._site, self._first = site, None

    def start(self) -> None:
        """Switch it on, connect it, and wait until it takes ssh.

        Raises:
            NoMachines: something that it takes is not allowed here.
        """
        places = {"FOLDER": str(self.folder), "SHARED": str(self._site.shared), "NAME": self.name}
        first = Waiting(
            "unshare", *NAMESPACES, "--fork", "--kill-child", "--mount-proc", "bash", "-c", BOOT, environment=places
        )
        self._first = first
        first.hear("up")
        switch = self._site.switch.pid
        with contextlib.suppress(NoMachines):  # after a kill the kernel takes the old cable away, a little later
            run("ip", "link", "delete", self.name, inside=switch)
        cable = ("ip", "link", "add", self.name, "type", "veth", "peer", "name", "eth0", "netns", str(first.pid))
        run(*cable, inside=switch)
        run("ip", "link", "set", self.name, "master", "bridge", "up", inside=switch)
        run("ip", "link", "set", "lo", "up", inside=first.pid)
        run("ip", "address", "add", f"{self.address}/24", "dev", "eth0", inside=first.pid)
        # The same after a restart, as on a real card: neighbours remember it for a minute.
        hardware = ipaddress.ip_address(self.address).packed.hex(":")
        run("ip", "link", "set", "eth0", "address", f"02:00:{hardware}", "up", inside=first.pid)
        first.tell()
        _, processes = first.hear("ready")
        if processes == os.readlink("/proc/self/ns/pid"):  # `ray up` begins with `ray stop`, which would end our own
            raise NoMachines(f"{self.name} sees our processes: it has no PID namespace of its own")

    @property
    def on(self) -> bool:
        return self._first is not None and self._first.process.poll() is None

    def kill(self) -> None:
        """The power goes: every process ends at once, and nobody on the network is told."""
        run("kill", "-9", *run("pgrep", "--parent", str(self._first.pid)).split())
        self._first.end()

    def cut(self) -> None:
        """Pull its network cable."""
        run("ip", "link", "set", self.name, "down", inside=self._site.switch.pid)

    def join(self) -> None:
        """Plug the cable in again."""
        run("ip", "link", "set", self.name, "up", inside=self._site.switch.pid)

    def shell(self, command: str) -> str:
        """What a command prints there, over ssh, in a login shell."""
        options = ("-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "LogLevel=ERROR")
        login = ("ssh", "-i", str(self._site.key), *options, f"root@{self.address}")
        return run(*login, "bash", "--login", "-c", shlex.quote(command))

    def end(self) -> None:
        if self._first is not None:
            self._first.end()
            self._first = None


class Site:
    """Machines on one network, with a folder that all of them see.

    Attributes:
        folder: everything of the site; short, for sockets.
        shared: the shared folder as we see it; the machines have it as ``SHARED``.
        key: a private key that opens every machine to root.
    """

    def __init__(self, folder: Path, names: Sequence[str], environment: Mapping[str, str]) -> None:
        self.folder, self.shared, self.key = folder, folder / "shared", folder / "key"
        self.shared.mkdir()
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(self.key))
        network = free_network()
        self.own_address, *addresses = map(str, itertools.islice(network.hosts(), len(names) + 1))
        self.machines = {
            name: Machine(name, address, folder / name, self) for name, address in zip(names, addresses, strict=True)
        }
        for machine in self.machines.values():
            self._furnish(machine, environment)
        self._cable = f"salt{os.getpid()}x{next(NUMBERS)}"  # between us and the switch; 15 characters at most
        self.switch = Waiting("unshare", "--net", "bash", "-c", "echo up; read -r the_end || true")

    def _furnish(self, machine: Machine, environment: Mapping[str, str]) -> None:
        """Lay out a machine's disk."""
        (machine.folder / "home").mkdir(parents=True)
        (machine.folder / "tmp").mkdir(mode=0o1777)
        run("ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(machine.folder / "host_key"))
        (machine.folder / "authorized_keys").write_text(self.key.with_suffix(".pub").read_text())
        (machine.folder / "sshd_config").write_text(SSHD)
        lines = [line.split(":") for line in Path("/etc/passwd").read_text().splitlines()]
        homes = [[*line[:5], "/mnt/machine/home", "/bin/bash"] if line[0] == "root" else line for line in lines]
        (machine.folder / "passwd").write_text("".join(":".join(line) + "\n" for line in homes))
        known = {"localhost": "127.0.0.1"} | {other.name: other.address for other in self.machines.values()}
        (machine.folder / "hosts").write_text("".join(f"{address} {name}\n" for name, address in known.items()))
        exports = "".join(f"export {name}={shlex.quote(value)}\n" for name, value in environment.items())
        (machine.folder / "home" / ".bashrc").write_text(exports)
        (machine.folder / "home" / ".profile").write_text(". ~/.bashrc\n")

    def start(self) -> None:
        """Lay the network and switch every machine on.

        Raises:
            NoMachines: something that it takes is not allowed here.
        """
        self.switch.hear("up")
        run("ip", "link", "add", "bridge", "type", "bridge", inside=self.switch.pid)
        run("ip", "link", "set", "bridge", "up", inside=self.switch.pid)
        run("ip", "link", "add", self._cable, "type", "veth", "peer", "name", "outside", "netns", str(self.switch.pid))
        run("ip", "link", "set", "outside", "master", "bridge", "up", inside=self.switch.pid)
        run("ip", "address", "add", f"{self.own_address}/24", "dev", self._cable)
        run("ip", "link", "set", self._cable, "up")
        for machine in self.machines.values():
            machine.start()

    def __getitem__(self, name: str) -> Machine:
        return self.machines[name]

    def end(self) -> None:
        """Switch everything off; the network goes with its last process."""
        for machine in self.machines.values():
            machine.end()
        self.switch.end()
        with contextlib.suppress(NoMachines):  # the kernel takes it away as well, a little later
            run("ip", "link", "delete", self._cable)


def free_network() -> ipaddress.IPv4Network:
    """A network of 254 addresses that no route of ours leads to."""
    routes = run("ip", "-4", "route", "show").split()
    taken = [ipaddress.ip_network(word, strict=False) for word in routes if word[0].isdigit() and "/" in word]
    while True:
        network = ipaddress.ip_network(f"10.{random.randrange(64, 250)}.{random.randrange(256)}.0/24")
        if not any(network.overlaps(other) for other in taken):
            return network


@contextlib.contextmanager
def running_machines(names: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[Site]:
    """Machines of these names, switched on, while the block lasts; the first gets the lowest address.

    Args:
        environment: what every login shell of every machine exports.

    Raises:
        NoMachines: there can be none here.
    """
    if reason := missing():
        raise NoMachines(reason)
    folder = Path(tempfile.mkdtemp(prefix="salt"))
    site = None
    try:
        site = Site(folder, names, environment or {})
        site.start()
        yield site
    finally:
        if site is not None:
            site.end()
        for _ in range(20):  # a process that was just killed may still have been writing
            shutil.rmtree(folder, ignore_errors=True)
            if not folder.exists():
                break
            time.sleep(0.1)
