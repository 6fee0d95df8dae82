"""What a forward pass costs: multiply-adds, milliseconds, and where they go."""
