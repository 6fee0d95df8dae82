"""Ctrl-C and SIGTERM end a verb soon, whatever it is doing, and keep what is finished."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

SIGNALS = (signal.SIGINT, signal.SIGTERM)

PATIENCE = 1.5
"""Seconds in which a verb may come to its end after a signal. Python acts on signals between two of its instructions:
one that runs long, such as the product of two large matrices, is ended with the process."""


@contextmanager
def interruptible(complain: Callable[[], None]) -> Iterator[Callable[[], int | None]]:
    """Inside, the first of ``SIGNALS`` raises KeyboardInterrupt in the main thread, and all later ones do nothing.

    A verb that goes on for longer than ``PATIENCE`` is ended with its process, after ``complain()``. Outside of the
    main thread nothing is done: signals are not delivered there.

    Yields:
        A function that gives the exit status of the signal that came, ``None`` if none did.
    """
    received: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield lambda: None
        return

    def handle(number: int, frame: FrameType | None) -> None:
        if not received:
            received.append(number)
            raise KeyboardInterrupt

    ended = threading.Event()
    waiting, written = socket.socketpair()
    written.setblocking(False)
    watcher = threading.Thread(target=_watch, args=(waiting, ended, complain), daemon=True)
    watcher.start()
    before = signal.set_wakeup_fd(written.fileno(), warn_on_full_buffer=False)
    handlers = {number: signal.signal(number, handle) for number in SIGNALS}
    try:
        yield lambda: 128 + received[0] if received else None
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
        signal.set_wakeup_fd(before)
        ended.set()
        written.close()
        watcher.join()
        waiting.close()


def _watch(waiting: socket.socket, ended: threading.Event, complain: Callable[[], None]) -> None:
    """Wait for the number of a signal, which the system writes there at once, then for the end of the verb."""
    while numbers := waiting.recv(64):
        for number in numbers:
            if number in SIGNALS and not ended.wait(PATIENCE):
                with suppress(Exception):
                    complain()
                os._exit(128 + number)
