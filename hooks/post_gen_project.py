"""Prints what to do next; touches no file."""

import json

ANSWERS = json.loads(r"""{{ cookiecutter | tojson }}""")
slug = ANSWERS["project_slug"]
backend = ANSWERS["_backends"][ANSWERS["cache_backend"]]

print(f"\n{slug} is ready. Its README.md has the rest; to start:\n\n    cd {slug}")
if backend["server"]:
    print(f"    {backend['server']}    # in a terminal of its own, unless it runs already")
print("    make run        # installs into .venv, then http://127.0.0.1:5000")
print(f"    make test       # {backend['test_note']}")
print("    make serve      # as in production\n")
