"""Files and names to models: the zoo, our own format, official checkpoints, and the conversion of one to the other."""
