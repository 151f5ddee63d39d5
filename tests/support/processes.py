"""The command as several processes on this machine, talking over loopback."""

import socket
import subprocess
import sys
import time

from tests.support import toy
from tests.support.waiting import CEILING_S


def free_port() -> int:
    """A port of this machine that nobody listens at."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def start_processes(
    flags: list[str],
    *,
    num_processes: int,
    devices: int,
    env: dict[str, str] | None = None,
) -> list[subprocess.Popen]:
    """Starts `exits_jax.main` as processes with so many virtual devices each.

    stdout and stderr of each go to one pipe. A process alone joins no one.
    """
    port = free_port()
    environment = toy.environment(devices) | (env or {})

    def start(number: int) -> subprocess.Popen:
        joining = [
            "--distributed",
            f"--coordinator_address=127.0.0.1:{port}",
            f"--num_processes={num_processes}",
            f"--process_id={number}",
            "--heartbeat_s=600",  # so long may a busy machine keep one from running
        ]
        return subprocess.Popen(
            [
                sys.executable,
                "-m",
                "exits_jax.main",
                *(joining if num_processes > 1 else []),
                *flags,
            ],
            cwd=toy.ROOT,
            env=environment,
            text=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )

    return [start(number) for number in range(num_processes)]


def finish_all(processes: list[subprocess.Popen]) -> list[tuple[int, str]]:
    """Exit status and output of each; kills all of them if one hangs."""
    deadline = time.monotonic() + CEILING_S
    try:
        return [
            (process.returncode, said)
            for process in processes
            for said, _ in [
                process.communicate(timeout=max(0.1, deadline - time.monotonic()))
            ]
        ]
    finally:
        for process in processes:
            if process.poll() is None:
                process.kill()
