"""What holds for the `memory` backend."""
