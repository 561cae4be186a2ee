"""The routes: every module here that has a blueprint called `bp` is registered."""

from flask import Flask
from werkzeug.utils import find_modules, import_string


def init_app(app: Flask) -> None:
    """Register the blueprint of each module."""
    for name in find_modules(__name__):
        app.register_blueprint(import_string(f"{name}:bp"))
