"""What a wave sees and changes: registers, memory, LDS and scratch."""
