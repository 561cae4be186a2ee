"""Measures: generated projects beside stock Flask-Caching, in one run."""
