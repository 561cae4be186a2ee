"""Prepares a copy: `python -m {{ cookiecutter.project_slug }}.prepare`."""

import os
import secrets
from contextlib import suppress
from functools import partial

import click

from . import create_app


@click.command()
def prepare() -> None:
    """Make .env with a secret key, and run the app's init-... commands. Keep what is there."""
    # Readable by its owner only. If it cannot be made, the settings say that there is no key.
    with suppress(OSError), open(".env", "x", opener=partial(os.open, mode=0o600)) as env:
        env.write(f"FLASK_SECRET_KEY={secrets.token_hex(32)}\n")
    app = create_app()
    with app.app_context():
        for name, command in app.cli.commands.items():
            if name.startswith("init-"):
                click.get_current_context().invoke(command)


if __name__ == "__main__":
    prepare()
