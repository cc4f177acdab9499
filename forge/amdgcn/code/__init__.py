"""A code object as it is read: file, descriptor, listing, and its instructions decoded."""
