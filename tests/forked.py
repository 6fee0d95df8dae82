"""``expedit`` in processes of its own that start at once: they are forked off a server that has imported everything."""

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys


class Server:
    """Starts runs and waits for them; closed with the ``with`` block."""

    def __enter__(self):
        self.process = subprocess.Popen([sys.executable, __file__], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        return self

    def __exit__(self, *_):
        self.process.communicate(timeout=20)

    def ask(self, **request):
        self.process.stdin.write(json.dumps(request).encode() + b"\n")
        self.process.stdin.flush()
        return json.loads(self.process.stdout.readline())

    def start(self, argv, log, world=1):
        """Process ids of one run, as torchrun starts it if there are several; ``log`` takes what they print."""
        with socket.create_server(("127.0.0.1", 0)) as free:
            port = str(free.getsockname()[1])
        several = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "WORLD_SIZE": str(world), "OMP_NUM_THREADS": "1"}
        argv = [str(word) for word in argv]
        return [
            self.ask(argv=argv, log=str(log), environment={**several, "RANK": str(rank), "LOCAL_RANK": str(rank)})
            for rank in range(world)
        ]

    def ended(self, pid):
        """Exit status of a process; ``None`` while it runs."""
        return self.ask(ended=pid)

    def wait(self, pids):
        """Exit statuses of processes that end by themselves."""
        return [self.ask(wait=pid) for pid in pids]

    def kill(self, pids):
        """End processes wherever they are."""
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        self.wait(pids)


def serve():
    """Answer requests, one line each, until there are no more."""
    from importlib import import_module

    for part in ("cli.evaluate", "cli.compare", "checkpoints.zoo", "evaluation.judges", "cost.benchmark"):
        import_module(f"expedit.{part}")
    with contextlib.suppress(ImportError):  # without it only its models are missing
        from transformers import Mask2FormerForUniversalSegmentation, SwinBackbone  # noqa: F401
    statuses = {}
    for line in sys.stdin:
        request = json.loads(line)
        if "argv" in request:
            answer = os.fork()
            if not answer:
                run(**request)
        else:
            pid = request.get("wait", request.get("ended"))
            if pid not in statuses:
                gone, status = os.waitpid(pid, 0 if "wait" in request else os.WNOHANG)
                statuses |= {pid: os.waitstatus_to_exitcode(status)} if gone else {}
            answer = statuses.get(pid)
        sys.stdout.write(json.dumps(answer) + "\n")
        sys.stdout.flush()


def run(argv, log, environment):
    """One verb in this process, which ends with it."""
    from expedit.cli import main

    os.environ.update(environment)
    with open(log, "ab", buffering=0) as file:
        os.dup2(file.fileno(), 1)
        os.dup2(file.fileno(), 2)
    try:
        os._exit(main(argv))
    finally:
        os._exit(99)


if __name__ == "__main__":
    serve()
