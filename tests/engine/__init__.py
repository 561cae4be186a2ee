"""The proof of `caching/` and `monitoring/`, run against a generated project of each backend."""
