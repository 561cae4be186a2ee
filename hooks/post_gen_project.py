"""Prints what to do next; touches no file."""

# The slug passed the checks before generation, and the rest is the template's own.
slug = "{{ cookiecutter.project_slug }}"
server = "{{ cookiecutter._backends[cookiecutter.cache_backend].server }}"

print(f"\n{slug} is ready. Its README.md has the rest; to start:\n\n    cd {slug}")
if server:
    print(f"    {server}    # in a terminal of its own, unless it runs already")
print("    make run        # installs into .venv, then http://127.0.0.1:5000 and /cache/")
print("    make test       # {{ cookiecutter._backends[cookiecutter.cache_backend].test_note }}")
print("    make serve      # as in production\n")
