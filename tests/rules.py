"""Break rules of the README in a project, one at a time: one of its own tests must notice each.

    python -m tests.rules           all of them
    python -m tests.rules lru 3     those whose module or number is given

Each rule is broken by one edit in a project that is baked for it. Prints the rule, the edit and the
test that failed first. Ends with 1 if an edit does not fit, if no test noticed one, or if a test
fails in a project without an edit.
"""

import os
import re
import shutil
import subprocess
import sys
import tempfile
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import NamedTuple

from tests.baking import BACKENDS, ROUTES, SLUG, Answers, bake_into


class Rule(NamedTuple):
    """A rule of the README, and an edit in `module` that breaks it in a project with `backend`."""

    text: str
    module: str
    old: str
    new: str
    backend: str = "memory"


RULES = [
    Rule(
        "Arguments are told apart by their contents",
        "caching/functions.py",
        "return keys.pickled(values, self.name)",
        "return repr(values).encode()",
    ),
    Rule(
        "Equal sets are one argument",
        "caching/keys.py",
        "if type(value) in (set, frozenset):",
        "if False:",
    ),
    Rule(
        "The script root is in the key of a page, like scheme, host and path",
        "caching/pages.py",
        'get("HTTP_HOST"), get("SCRIPT_NAME")',
        'get("HTTP_HOST"), None',
    ),
    Rule(
        "A page that sets a cookie is not kept",
        "caching/rules.py",
        'if "Set-Cookie" in headers:',
        "if False:",
    ),
    Rule(
        "A private request goes past the cache",
        "caching/pages.py",
        "elif asked.owner is None and not request._private.isdisjoint(environ):",
        "elif False:",
    ),
    Rule(
        "A header that a page reads is in its key, or keeps it out",
        "caching/parts.py",
        "watch.note(request(), key)",
        "request()",
    ),
    Rule(
        "Decorators above a page are given what the view returned",
        "caching/rules.py",
        "app.make_response(value) if asked.direct else value",
        "app.make_response(value)",
    ),
    Rule(
        "A result that depends on the session is not kept",
        "caching/functions.py",
        'look.store(value, short or ("response_filter" if keep and not keep(value) else None))',
        "look.store(value)",
    ),
    Rule(
        "An entry expires",
        "caching/look.py",
        "now < one.expires + stale",
        "True",
    ),
    Rule(
        "A negative timeout is an error",
        "caching/look.py",
        "if not 0 <= value < math.inf:",
        "if False:",
    ),
    Rule(
        "A dropped tag never becomes valid again",
        "caching/look.py",
        "Entry(secrets.token_hex(8), self.clock(), expires)",
        'Entry("token", self.clock(), expires)',
    ),
    Rule(
        "`invalidate` makes every entry with one of the tags a miss",
        "caching/cache.py",
        "return bool(self.cache.delete_many(*tag_keys) == tag_keys)",
        "return True",
    ),
    Rule(
        "One caller computes, and the others wait",
        "caching/leases.py",
        "if held is not None:",
        "if False:",
    ),
    Rule(
        "A value that was dropped while it was computed is not stored",
        "caching/leases.py",
        "return self._leases.get(key) == lease and bool(self.set(key, value, timeout))",
        "return bool(self.set(key, value, timeout))",
    ),
    Rule(
        "A value is copied, so that changes to it do not reach the cache",
        "caching/codec.py",
        "return all(map(_immutable, value))",
        "return True",
    ),
    Rule(
        "A value that was not signed by this app is a miss",
        "caching/codec.py",
        "if hmac.compare_digest(signature, _signature(pickled, key=secret).digest()):",
        "if True:",
        "disk",
    ),
    Rule(
        "An undelivered drop clears the cache before its next use",
        "caching/failsafe.py",
        "if undelivered:",
        "if False:",
    ),
    Rule(
        "The cache keeps at most CACHE_THRESHOLD entries in memory",
        "caching/backend.py",
        "LRUCache.__init__(self, threshold, clock",
        "LRUCache.__init__(self, 1_000_000, clock",
    ),
    Rule(
        "The cache keeps at most CACHE_THRESHOLD entries on disk",
        "caching/backend.py",
        "if size <= self._threshold:",
        "if True:",
        "disk",
    ),
    Rule(
        "`clear` drops the entries of this app alone",
        "caching/backend.py",
        'for pattern in (f"{escaped}:*~lease:*", f"{escaped}:*"):',
        'for pattern in ("*",):',
        "redis",
    ),
    Rule(
        "The least recently used entry of an `LRUCache` makes room",
        "caching/lru.py",
        "self._entries.popitem(last=False)",
        "self._entries.popitem(last=True)",
    ),
    Rule(
        "A subscriber that raises does no harm",
        "caching/events.py",
        "except Exception:",
        "except ZeroDivisionError:",
    ),
    Rule(
        "An open breaker is in the metrics",
        "monitoring/metrics.py",
        'BREAKER.set(state == "open")',
        "BREAKER.set(0)",
    ),
    Rule(
        "The size of the cache is in the metrics",
        "monitoring/usage.py",
        "size.set(entries)",
        "size.set(0)",
    ),
    Rule(
        "The metrics are right over all worker processes",
        "monitoring/workers.py",
        'os.environ.get("PROMETHEUS_MULTIPROC_DIR")',
        "False",
    ),
    Rule(
        "Stale values count as hits for the time that hits save",
        "monitoring/report.py",
        "found * max(0.0, load - hit)",
        "hits * max(0.0, load - hit)",
    ),
    Rule(
        "In production monitoring is closed until a password is set",
        "monitoring/views.py",
        "abort(404)",
        "return None",
    ),
    Rule(
        "A command that cannot reach the memory of the server ends with 3",
        "monitoring/commands.py",
        "exit_code = 3",
        "exit_code = 0",
    ),
    Rule(
        "Production without a secret key refuses to start",
        "settings.py",
        'if not value and not info.data.get("DEBUG"):',
        "if False:",
    ),
]


def first_failure(project: Path) -> str:
    """Run the project's own tests; return the first that fails, or "" if none does."""
    environ = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "FLASK_"))}
    temporary = project / "tmp"  # not a shared folder, which a run at the same time would clean up
    temporary.mkdir()
    environ["PYTEST_DEBUG_TEMPROOT"] = str(temporary)
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-x", "-q", "-p", "no:cacheprovider", "-p", "no:xdist"],
        cwd=project,
        env=environ | {"PYTHONPATH": str(project / "src")},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode == 0:
        return ""
    found = re.search(r"^(?:FAILED|ERROR) (.+?)(?: - .*)?$", done.stdout, re.MULTILINE)
    return found[1] if found else done.stdout[-1000:] + done.stderr[-1000:]


def broken(rule: Rule, project: Path, folder: Path) -> str:
    """Break `rule` in a copy of `project`; return the test that noticed, or "" if none did."""
    with tempfile.TemporaryDirectory(dir=folder) as copy:
        shutil.copytree(project, copy, ignore=shutil.ignore_patterns("tmp"), dirs_exist_ok=True)
        path = Path(copy, "src", SLUG, rule.module)
        path.write_text(path.read_text().replace(rule.old, rule.new))
        return first_failure(Path(copy))


def chosen(arguments: list[str]) -> list[tuple[int, Rule]]:
    """Return the rules that the command names, with their numbers; all of them if it names none."""
    return [
        (number, rule)
        for number, rule in enumerate(RULES, 1)
        if not arguments or {str(number), Path(rule.module).stem} & {*arguments}
    ]


def misfit(number: int, rule: Rule, project: Path) -> str:
    """Return why the edit cannot be made, or "" if its text is in its module exactly once."""
    path = project / "src" / SLUG / rule.module
    found = path.read_text().count(rule.old) if path.exists() else 0
    return "" if found == 1 else f"rule {number}: {rule.module} has {rule.old!r} {found} times"


def main() -> int:
    """Break the rules that the command names, two at a time; return the exit code."""
    rules = chosen(sys.argv[1:])
    if not rules:
        print(f"No rule is called {sys.argv[1:]}: give numbers or names of modules, such as lru")
        return 2
    used = [one for one in BACKENDS if one in {rule.backend for _, rule in rules}]
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        projects = {one: bake_into(folder / one, Answers(one, tuple(ROUTES))) for one in used}
        wrong = [misfit(number, rule, projects[rule.backend]) for number, rule in rules]
        if any(wrong):
            print("\n".join(filter(None, wrong)))
            return 1
        as_baked = pool.map(first_failure, projects.values())
        noticed = pool.map(lambda one: broken(one[1], projects[one[1].backend], folder), rules)
        for backend, test in zip(used, as_baked, strict=True):
            wrong += [f"{backend}: {test} fails without an edit"] if test else []
        for (number, rule), test in zip(rules, noticed, strict=True):
            print(f"{number:2} {rule.text}")
            print(f"   {rule.module} ({rule.backend}): {rule.old} -> {rule.new}")
            print(f"   {test or 'NO TEST NOTICED'}", flush=True)
            wrong += [] if test else [f"no test noticed rule {number}"]
    print("\n".join(filter(None, wrong)) or f"{len(rules)} rules broken, and each was noticed")
    return 1 if any(wrong) else 0


if __name__ == "__main__":
    sys.exit(main())
