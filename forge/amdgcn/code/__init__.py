"""What a code object holds, checked: its kernels (`codeobject`, `descriptor`, over `wire`'s bytes) and, held against
the assembler's `listing`, their instructions (`decode`, from `tables` through `encodings`, `operands`, `constants`)."""
