"""Runs the tests of Flask-Caching and cachelib with our `Cache` and with each of our backends.

`python -m tests.stock_suites` gets both packages' sources, of the versions that are installed, and
compares each test's outcome with the tables below. It fails on a test that fails and is not listed,
and on one that is listed and passes or is gone.
"""

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

from tests.baking import BACKENDS, ROOT, Answers, bake_into
from tests.serving import redis_server

#: Tests of Flask-Caching that fail on purpose, by reason: each file with its tests.
DIFFERENCES = {
    "The backend that an app reaches is the front that signs, and lets a backend fail": """
        test_basic_app.py dict_config_initapp dict_config_both app_custom_cache_backend
            app_redis_cache_backend_url_default_db
        test_cachelib.py cachelib_class_as_cache_type cachelib_backend_gets_cache_args
        test_init.py init_nullcache""",
    "CACHE_KEY_PREFIX and CACHE_VERSION begin every key": """
        test_basic_app.py init_app_multi_apps""",
    "Keys have more in them than the path and the query, and are hashed as a whole": """
        test_hash_method.py default_hash_method_is_sha256 query_string_key_includes_key_prefix
            cached_uses_configured_hash_method decorator_argument_overrides_configured_hash_method
            hash_method_read_from_extension_config hash_method_resolved_after_decoration""",
    "The order of a repeated parameter's values counts": """
        test_view.py generate_cache_key_from_query_string_repeated_paramaters""",
    "`make_cache_key` of a page gives the key of the current request's page alone": """
        test_view.py generate_cache_key_from_different_view
            make_cache_key_outside_request_context""",
    "Under the key of a page is the finished response": """
        test_view.py cache_key_property""",
    "`make_cache_key` of a page cannot be replaced": """
        test_view.py set_make_cache_key_property""",
    "A tag drops pages, and `delete_cached` the result of a function": """
        test_view.py delete_cached_query_string delete_cached_view
            delete_cached_query_string_only_deletes_matching_arguments
            delete_cached_query_string_repeated_parameters
            delete_cached_view_builds_the_path_with_url_for""",
    "Only GET and HEAD are served": """
        test_view.py generate_cache_key_from_request_body""",
    "Errors are not kept, those of `abort` neither": """
        test_view.py cached_view_http_exception cached_view_http_exception_runs_error_handler
            cached_view_http_exception_expires
            cached_view_http_exception_response_filter_gets_response""",
    "`response_filter` of a page is given its response": """
        test_view.py cached_view_response_filter""",
    "`memoize` on a view does the same as `cached`": """
        test_view.py make_cache_key_function_property""",
    "None is a value like any other": """
        test_cache.py cached_doesnt_cache_none
        test_memoize.py memoize_never_accept_none""",
    "Arguments count by their pickles, and objects of a class within a function have none": """
        test_memoize.py memoize_classarg memoize_classfunc memoize_classfunc_delete
            memoize_classfunc_delete_via_attribute memoize_classfunc_delete_with_args
            memoize_classfunc_delete_with_explicit_instance
            memoize_classfunc_delete_with_kwargs_only
            memoize_classmethod_delete memoize_classmethod_delete_with_args""",
    "A function within a function counts by its code, too": """
        test_memoize.py memoize_with_source_check_disabled""",
    "A call that does not fit the function is an error on a hit, too": """
        test_memoize.py memoize_arg_kwarg_var_keyword""",
    "`delete_memoized` invalidates a tag: there is no version of a function to read": """
        test_memoize.py memoize_version_key_outlives_newest_entry memoize_verhash_delete
            memoize_version_key_expires_once_its_entries_have memoize_annotated_delete""",
    "A serializer is given the signed value": """
        test_serializer.py values_are_stored_in_the_configured_format""",
    "The decorators do not call the methods of a subclass": """
        test_subclassing.py cached_uses_public_methods cached_cache_none_uses_public_has
            memoize_uses_public_methods delete_memoized_uses_public_delete
            delete_memoized_without_args_uses_public_set_many
            delete_memoized_verhash_uses_public_delete_many""",
}
#: The same, where one of our backends takes the place of SimpleCache.
OF_OUR_BACKENDS = {
    "Our backends keep what they are given, and use no serializer": """
        test_serializer.py default_keeps_the_cachelib_serializer instance_is_used_as_is
            class_is_instantiated serializer_read_from_extension_config
            configured_serializer_is_used_for_get_and_set
        test_cachelib.py backend_uses_cachelib_serializer""",
}
#: Tests of cachelib that fail on purpose, and those that do so with our backends.
OF_CACHELIB = {
    "The face is of another class than the backend, which has the serializer": """
        test_simple_cache.py concurrent_inc_is_consistent
            concurrent_get_set_preserves_valid_shared_values""",
}
OF_CACHELIB_ON_OURS = {
    "They look into SimpleCache": """
        test_simple_cache.py threshold prune_old_entries threshold_zero_defaults_to_500
            concurrent_set_no_data_corruption""",
}
TABLES = {
    "Flask-Caching": (DIFFERENCES, OF_OUR_BACKENDS),
    "cachelib": (OF_CACHELIB, OF_CACHELIB_ON_OURS),
}
#: What runs of each package: not the tests of Flask-Caching's own backends, and of cachelib's those
#: of a backend, without a subclass of SimpleCache.
SUITES = {
    "Flask-Caching": ["--ignore=tests/test_backend_cache.py"],
    "cachelib": ["tests/test_simple_cache.py", "-k", "not CustomCache"],
}


class Run(NamedTuple):
    """The tests of one package with one backend; "stock" stands for those that the tests name."""

    package: str
    backend: str

    @property
    def reasons(self) -> dict[str, str]:
        """The reason of each test that fails on purpose."""
        of_all, of_ours = TABLES[self.package]
        listed, file = dict[str, str](), ""
        for reason, tests in (of_all if self.backend == "stock" else of_all | of_ours).items():
            for word in tests.split():
                file = word if word.endswith(".py") else file
                listed |= {} if word == file else {f"{file} {word}": reason}
        return listed


RUNS = [Run(package, backend) for package in SUITES for backend in ("stock", *BACKENDS)]


def download(folder: Path) -> dict[str, Path]:
    """Return the folder of the source of each package, as it is in the package registry."""
    command = [sys.executable, "-m", "pip", "download", "-qq", "--disable-pip-version-check"]
    command += ["--no-deps", "--no-binary", ",".join(SUITES), "-d", str(folder)]
    subprocess.run([*command, *(f"{name}=={version(name)}" for name in SUITES)], check=True)
    for archive in folder.glob("*.tar.gz"):
        shutil.unpack_archive(archive, folder, filter="data")
    names = {name: name.lower().replace("-", "_") for name in SUITES}
    return {name: next(folder.glob(f"{names[name]}-*/")) for name in SUITES}


def outcomes(run: Run, source: Path, project: Path, folder: Path) -> dict[str, Any]:
    """Return what each test did: its outcome, whether it made a `Cache`, and the error."""
    shutil.copytree(source, folder)
    with redis_server(folder) as (port, _):
        for path in folder.glob("tests/*.py"):  # they ask for a server of their own on this port
            path.write_text(path.read_text().replace("6360", str(port)))
        settings = {
            "disk": {"CACHE_DIR": "", "CACHE_DISK_TIMEOUT": 30.0},  # the plugin makes folders
            "redis": {
                "CACHE_REDIS_URL": f"redis://127.0.0.1:{port}/0",
                "CACHE_REDIS_TIMEOUT": 30.0,
            },
        }.get(run.backend, {})
        command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider"]
        command += ["-p", "tests.stock_plugin"]
        environ = {k: v for k, v in os.environ.items() if not k.startswith(("FLASK_", "PYTEST_"))}
        done = subprocess.run(
            [*command, *SUITES[run.package]],
            cwd=folder,
            env=environ
            | {
                "PYTHONPATH": os.pathsep.join([str(ROOT), str(project / "src")]),
                "STOCK_BACKEND": run.backend,
                "STOCK_SETTINGS": json.dumps(settings),
                "STOCK_OUTCOMES": str(folder / "outcomes.json"),
                "CI": "true",  # the suites then start no server
            },
            capture_output=True,
            text=True,
            check=False,
        )
    if done.returncode not in (0, 1):
        raise RuntimeError(done.stdout[-5000:] + done.stderr[-2000:])
    found: dict[str, Any] = json.loads((folder / "outcomes.json").read_text())
    return found


def judge(run: Run, found: dict[str, Any]) -> list[str]:
    """Print a summary; return what is not as the tables say."""
    wrong, counts, gone = list[str](), Counter[str](), run.reasons
    for test, (outcome, about_cache, error) in found.items():
        file, name = test.removeprefix("tests/").split("::")[0], test.split("::")[-1]
        reason = run.reasons.get(key := f"{file} {name.partition('[')[0].removeprefix('test_')}")
        gone.pop(key, None)
        if reason and outcome == "passed":
            wrong.append(f"{test} passes, and is listed: {reason}")
        elif outcome == "failed" and not reason:
            wrong.append(f"{test} fails: {error}")
        kind = "differ on purpose" if outcome == "failed" and reason else outcome
        counts[kind if about_cache or outcome != "passed" else "passed without a Cache"] += 1
    wrong += [f"{test} is listed, and gone" for test in gone]
    numbers = ", ".join(f"{number} {kind}" for kind, number in counts.items())
    print(f"{run.package} {version(run.package)} with {run.backend}: {numbers}", flush=True)
    return [f"{run.package} with {run.backend}: {one}" for one in wrong]


def main() -> int:
    """Run everything, two at a time; return 1 if something is not as the tables say."""
    with tempfile.TemporaryDirectory() as name, ThreadPoolExecutor(2) as pool:
        folder = Path(name)
        sources = download(folder)
        projects = {one: bake_into(folder / one, Answers(one, ())) for one in BACKENDS}
        projects["stock"] = projects["memory"]
        all_found = pool.map(
            lambda run: outcomes(
                run, sources[run.package], projects[run.backend], folder / "-".join(run)
            ),
            RUNS,
        )
        wrong = [
            one for run, found in zip(RUNS, all_found, strict=True) for one in judge(run, found)
        ]
    print(*wrong, sep="\n", end="\n" if wrong else "")
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
