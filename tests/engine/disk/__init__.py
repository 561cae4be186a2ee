"""What holds for the `disk` backend."""
