"""Prints the next steps; touches no file."""

import os
import shlex

# The slug has passed the checks of the other hook; the rest comes from the template.
slug = "{{ cookiecutter.project_slug }}"
server = "{{ cookiecutter._backends[cookiecutter.cache_backend].server }}"
page = "{{ cookiecutter.__page or '/cache/' }}"

print(f"\n{slug} is ready. Its README.md has the details. To start:\n")
print(f"    cd {shlex.quote(os.getcwd())}")
if server:
    print(f"    {server}    # in another terminal, unless it is running")
print(f"    make run        # installs into .venv, then serves http://127.0.0.1:5000{page}")
print("    make test       # {{ cookiecutter._backends[cookiecutter.cache_backend].test_note }}")
print("    make serve      # as in production\n")
