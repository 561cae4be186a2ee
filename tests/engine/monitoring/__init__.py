"""The proof of `monitoring/`."""
