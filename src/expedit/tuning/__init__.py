"""Settings that the program finds by itself, from photographs without labels, and what it can promise of them."""
