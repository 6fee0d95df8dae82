"""Models as programs for other runtimes, with their card inside."""
