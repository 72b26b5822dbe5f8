"""One run by several processes, each on its rows of every batch."""
