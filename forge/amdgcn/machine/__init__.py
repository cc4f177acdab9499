"""How code runs: programs bound from instructions, waves in lockstep, workgroups dispatched."""
