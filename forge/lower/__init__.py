"""From an op graph to something that runs: kernel selection, memory plan, executable; and eager calls."""
