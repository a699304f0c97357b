"""Commands as Ray jobs: on a cluster the driver runs on the head node, and the dashboard's Jobs page shows its log.

The code travels with the job. Typed on the head node, a command keeps its working directory and its Python; from
elsewhere it runs in the unpacked code, with the Python that the cluster has.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import re
import secrets
import shlex
import socket
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from salt_ray.cluster import session  # isort: skip (sets Ray's environment)
import aiohttp
import ray.exceptions
import requests
from ray.dashboard.utils import ray_address_to_api_server_url
from ray.job_submission import JobStatus, JobSubmissionClient

from salt_ray.cluster import private
from salt_ray.cluster.command import CANNOT_START, Command, take_option
from salt_ray.cluster.package import PROJECT, copy_files
from salt_ray.cluster.session import ClusterError
from salt_ray.errors import Interrupted

BY_SIGNAL = 128  # a shell's exit codes count signals from here on
RETRY_SECONDS = (1, 2, 4, 8, 15)  # pauses between tries to reach the dashboard again
QUIET_SECONDS = 300.0  # after so long without a line the log is requested again: a dead connection may never say so
SECRET = re.compile(r"://[^/\s]*@|secret_key=")  # the two places for keys in a URI
LOST = (aiohttp.ClientError, requests.RequestException, RuntimeError, ray.exceptions.RayError)


def run_as_job(
    address: str | None, arguments: Sequence[str], say: Callable[[str], None], project: Path = PROJECT
) -> int | None:
    """Run the command line with ``arguments`` as a job of the cluster, and print its log until it ends.

    Ctrl-C, SIGTERM and a closed terminal end the printing only. On the cluster's head node the job goes on in this
    working directory, with this Python. From elsewhere the job runs ``python`` in the unpacked package of the project.

    Args:
        address: ``host:port`` of the cluster, ``http://host:port`` of its dashboard, "auto" or "local"; None: the
            cluster that this process runs on.
        arguments: the command line after the script's name; the dashboard shows it.
        project: the folder with the code.
        say: prints one line.

    Returns:
        The exit code for this process. None: go on in this process, because there is no cluster, or because it is the
        driver of a job already.

    Raises:
        ClusterError: the cluster or its dashboard cannot be reached, or does not take the job; an
            argument holds a secret, asks for JSON, or names tiles on this machine.
        Interrupted: a signal ended the printing.
    """
    if private.is_driver_of_a_job():
        return None
    named = address if address != "auto" else None
    cluster = named or session.own_cluster() or address  # "auto" stays only where there is none
    if cluster in (None, "local"):
        return None
    if "--json" in arguments:
        raise ClusterError(
            "a command that runs as a job cannot print JSON: omit --json, then run status RUN --json where the run is "
            "stored"
        )
    given_mode = os.environ.get("RAY_AUTH_MODE")
    if not named and os.environ.get("RAY_ADDRESS", "auto") in ("", "auto"):
        # Ray's own rule: on a cluster's node a token stored there is used; no other host is sent one unasked.
        logging.getLogger(private.AUTH_LOGGER).setLevel(logging.ERROR)
        private.use_token_of_this_node()
    if any(SECRET.search(word) for word in arguments):
        raise ClusterError(
            "the dashboard would show the keys in the URI: remove them, and configure them on the cluster"
        )
    arguments, _ = take_option(arguments, "--address")  # Ray tells its jobs where their cluster is, as seen from there
    origin = session.origin(address)
    dashboard = _dashboard(cluster, origin)
    token_mode = "RAY_AUTH_MODE=token " if os.environ.get("RAY_AUTH_MODE") != given_mode else ""
    job = Job(_client(dashboard, origin), dashboard, _new_id(arguments), say, f"{token_mode}ray job")
    command = Command.here(project, arguments) if _is_here(cluster) else Command.elsewhere(project, arguments, say)
    say(f"dashboard: {dashboard}/#/jobs/{job.id}")
    say(f"follow:    {job.follow_command}")
    say(f"stop:      {job.stop_command}")
    try:
        job.submit(command)
    except KeyboardInterrupt as error:  # mostly while the code travels; at worst just after the cluster took it
        raise Interrupted(
            f"job {job.id} was not submitted; should the dashboard list it, stop it with: {job.stop_command}"
        ) from error
    try:
        return job.follow()
    except KeyboardInterrupt as error:
        raise Interrupted(
            f"job {job.id} is still running; follow it again with: {job.follow_command}\nstop it with: "
            f"{job.stop_command}"
        ) from error


class Job:
    """One job as the submitting process sees it.

    Args:
        id: unique on the cluster, for all time; safe in a URL and as a file name.
        tool: how ``ray job`` is called in this shell.
    """

    def __init__(
        self, client: JobSubmissionClient, dashboard: str, id: str, say: Callable[[str], None], tool: str = "ray job"
    ) -> None:
        self.id = id
        self.follow_command = f"{tool} logs {id} --address {shlex.quote(dashboard)} --follow"
        self.stop_command = f"{tool} stop {id} --address {shlex.quote(dashboard)}"
        self._client, self._say, self._printed = client, say, 0

    def submit(self, command: Command) -> None:
        """Send the code to the cluster, and ask it to start the command.

        Raises:
            ClusterError: it does not take it.
        """
        try:
            with tempfile.TemporaryDirectory() as folder:
                copy_files(command.files, Path(folder))
                self._client.submit_job(
                    entrypoint=command.entrypoint,
                    submission_id=self.id,
                    runtime_env={"working_dir": folder, "env_vars": dict(command.environment)},
                    metadata={"command": shlex.join(command.arguments)},
                )
        except (*LOST, ValueError) as error:
            raise ClusterError(f"the cluster rejected the job ({session.first_line(error)})") from error

    def follow(self) -> int:
        """Print the log from its beginning until the job ends; returns the exit code that tells how it ended."""
        pauses: Iterator[int] = iter(RETRY_SECONDS)
        while True:
            before = self._printed
            try:
                asyncio.run(self._print_log())
                details = self._client.get_job_info(self.id)
            except LOST as error:
                if self._printed > before:  # there was a way back
                    pauses = iter(RETRY_SECONDS)
                pause = next(pauses, None)
                if pause is None:
                    self._say(f"cannot reconnect to the dashboard; the job may still be running: {self.follow_command}")
                    return 1
                self._say(f"lost the connection to the dashboard ({session.first_line(error)}); retrying in {pause} s")
            else:
                if details.status.is_terminal():
                    return self._exit_code(details)
                pauses, pause = iter(RETRY_SECONDS), 1  # it was quiet for long, or Ray's log server was restarted
            time.sleep(pause)

    async def _print_log(self) -> None:
        """Print what is new in the log, until it ends or is quiet for long. Ray sends it from its beginning."""
        position = 0
        async with contextlib.aclosing(self._client.tail_job_logs(self.id)) as log:
            while True:
                try:
                    text = await asyncio.wait_for(anext(log), QUIET_SECONDS)
                except (StopAsyncIteration, TimeoutError):
                    return
                print(text[max(0, self._printed - position) :], end="", flush=True)
                position += len(text)
                self._printed = max(self._printed, position)

    def _exit_code(self, details: Any) -> int:
        if details.status == JobStatus.SUCCEEDED:
            return 0
        if details.status == JobStatus.STOPPED:
            self._say(f"job {self.id} was stopped; run the same command again to resume")
            return 1
        code = details.driver_exit_code
        if code is None:
            self._say(f"job {self.id} failed before its command began: {details.message}")
            return 1
        code = BY_SIGNAL - code if code < 0 else code
        if code > BY_SIGNAL:  # killed by a signal, or ended in order after one
            self._say(f"job {self.id} was ended by signal {code - BY_SIGNAL}; run the same command again to resume")
            return code
        if code == CANNOT_START:
            self._say(
                f"the head node cannot start job {self.id} (its log says what is missing): `ray start` there needs the "
                "environment that has Ray on its PATH"
            )
        else:
            self._say(f"job {self.id} failed with exit code {code}")
        return code


def _dashboard(cluster: str, origin: str) -> str:
    """The URL of a cluster's dashboard, without a slash at its end.

    Args:
        origin: what to check where it does not answer.

    Raises:
        ClusterError: no response, or access is denied, or the cluster has no dashboard.
    """
    if cluster.startswith("ray://"):
        head = f"{urlsplit(cluster).hostname}:6379"
        raise ClusterError(f"commands run as jobs, without Ray's client: use --address {head} instead of {cluster}")
    if cluster.startswith(("http://", "https://")):
        return cluster.rstrip("/")
    if cluster == "auto":  # Ray would also look for processes, and try an address that is out of date for minutes
        raise ClusterError("no Ray is running on this machine: pass a cluster with --address HOST:PORT")
    if not session.somebody_answers(cluster):  # Ray would try for many minutes
        raise ClusterError(f"cannot connect to Ray at {cluster}: check {origin}")
    try:
        return ray_address_to_api_server_url(cluster)
    except ray.exceptions.AuthenticationError as error:
        raise _refused(cluster) from error
    except (ConnectionError, ValueError, RuntimeError, ray.exceptions.RayError) as error:  # after 40 s of asking
        raise _no_dashboard(f"the cluster at {cluster} has no dashboard", origin) from error


def _client(dashboard: str, origin: str) -> JobSubmissionClient:
    """A client of the Jobs API; ``origin`` as above.

    Raises:
        ClusterError: the dashboard does not answer or does not let us in.
    """
    for name in ("job.sdk", "dashboard_sdk"):  # they tell of every closed socket and of every upload
        logging.getLogger(f"ray.dashboard.modules.{name}").setLevel(logging.WARNING)
    logging.getLogger(private.PACKAGING_LOGGER).setLevel(logging.WARNING)
    overruling = ("RAY_API_SERVER_ADDRESS", "RAY_ADDRESS")  # the client would prefer them to what it is given
    hidden = {name: os.environ.pop(name) for name in overruling if name in os.environ}
    try:
        url = urlsplit(dashboard)
        if not session.somebody_answers(f"{url.hostname}:{url.port or (443 if url.scheme == 'https' else 80)}"):
            raise ConnectionError("it does not answer")  # behind a firewall the client would wait for minutes
        return JobSubmissionClient(dashboard)
    except ray.exceptions.AuthenticationError as error:
        raise _refused(dashboard) from error
    except (ConnectionError, ValueError, *LOST) as error:
        raise _no_dashboard(
            f"cannot connect to a dashboard at {dashboard} ({session.first_line(error)})", origin
        ) from error
    finally:
        os.environ.update(hidden)


def _refused(where: str) -> ClusterError:
    return ClusterError(
        f"{where} requires a token: set RAY_AUTH_MODE=token, and RAY_AUTH_TOKEN to the cluster's token "
        "(or RAY_AUTH_TOKEN_PATH to its file)"
    )


def _no_dashboard(what: str, origin: str) -> ClusterError:
    return ClusterError(
        f"{what}, and commands run as its jobs: check {origin}; start the head with "
        "`ray start --head --include-dashboard=true`, from other machines reach it with --dashboard-host=0.0.0.0 or "
        "--address http://HOST:PORT of a tunnel"
    )


def _is_here(cluster: str) -> bool:
    """Whether this machine is the head node of the cluster ``host:port``, so that a job finds the files here.

    Ray's own file must name it: a tunnel ends on this machine, too. A worker's file names a head on another machine.
    """
    node = private.own_address()
    if not node or cluster.startswith(("http://", "https://")):
        return False
    (host, _, port), (own_host, _, own_port) = cluster.rpartition(":"), node.rpartition(":")
    return port == own_port and _is_this_machine(host) and _is_this_machine(own_host)


def _is_this_machine(host: str) -> bool:
    try:
        with socket.create_server((host, 0)):  # another machine's address cannot be bound
            return True
    except OSError:
        return False


def _new_id(arguments: Sequence[str]) -> str:
    """``salt-ray-COMMAND-RUN-`` and a random end; RUN is where results go or the experiment's name, where given."""
    named = [
        "",
        *(name for option in ("--experiment", "--run-dir", "--to") for name in take_option(arguments, option)[1]),
    ]
    command = [word for word in arguments if word != "--debug"]
    words = ["salt-ray", *command[: 2 if command[:1] == ["volume"] else 1], Path(named[-1]).stem]
    words = [re.sub(r"[^A-Za-z0-9_]+", "-", word).strip("-")[:60] for word in words]
    return "-".join([word for word in words if word] + [secrets.token_hex(4)])
