"""Monitoring: whether the cache works, and how much it saves.

Metrics for Prometheus at `/metrics`, a live page at `/cache/`, `/healthz` and `/readyz`, and the
commands `flask cache`. All of it reads what `metrics` counts, from the events of the cache.
"""

from flask import Flask

from . import commands, usage, views


def init_app(app: Flask) -> None:
    """Set up the monitoring of `app`: its blueprints and commands."""
    usage.init_app(app)
    app.register_blueprint(views.health)
    if app.debug or app.config["MONITORING_PASSWORD"]:
        app.register_blueprint(views.bp)
    app.cli.add_command(commands.cache_group)
