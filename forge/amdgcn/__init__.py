"""AMD code objects, read and executed on the CPU: what Triton ships, instruction by instruction, without the GPU.

`code` reads an object and decodes its instructions; `state` is what they change: registers, memory, LDS; `numbers`,
`pseudocode` and `matrix` say what arithmetic computes; `instructions` binds each instruction to the state; `machine`
runs a kernel. An import goes from a later one to an earlier. `emulate` runs a code object on a grid, and
`bridge`, the only file that knows anything of the rest of Forge, makes that one of its devices.
"""
