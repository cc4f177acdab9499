"""What instructions read and change: `waves` (registers and masks), `memory`, `lds`, and the byte `cells` and
`atomics` under both; `traffic` counts what goes in and out."""
