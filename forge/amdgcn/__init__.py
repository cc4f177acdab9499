"""AMD code objects, read and executed on the CPU: what Triton ships, instruction by instruction, without the GPU."""
