"""What methods are made of: clustering, reading back, lattices and windows. Imports torch and ``core`` only."""
