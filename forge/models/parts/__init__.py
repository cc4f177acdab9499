"""What architectures are composed of, one part a file."""
