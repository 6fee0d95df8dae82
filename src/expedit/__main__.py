"""``python -m expedit``, which is also what torchrun starts."""

import os

from .cli import main

status = main()
if int(os.environ.get("WORLD_SIZE", "1")) > 1:
    # Threads of the process group now and then outlive the interpreter and abort a process that has done its work.
    os._exit(status)  # what was printed is out: main flushes
raise SystemExit(status)
