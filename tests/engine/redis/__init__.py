"""What holds for the `redis` backend."""
