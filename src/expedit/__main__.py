"""``python -m expedit``, which is also what torchrun starts."""

from .cli import main

raise SystemExit(main())
