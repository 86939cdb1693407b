"""Many slides: the loop, the watch, and what became of each."""
