"""What runs a kernel: `program` binds its instructions and the `registers` they touch, `lockstep` runs waves through
it, `dispatch` starts them over a grid; `waits` looks for loads that were not waited for."""
