"""Prometheus, which runs here, and the configuration of Grafana and compose."""

import itertools
import json
import math
import re
import shutil
import subprocess
import threading
import urllib.error
import urllib.parse
import urllib.request
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.parser import text_string_to_metric_families

from tests.baking import BACKENDS, EXTREMES, ROUTES, Answers, each
from tests.servers import find
from tests.serving import PASSWORD, free_port, get, make_serve, redis_env, redis_server, wait_until

#: Metrics of Prometheus itself or of a rule of ours, not of an app.
MADE_ELSEWHERE = {"up", "ALERTS"}
#: Stands for the variable that Grafana sets to at least four scrapes; here there is one a second.
RATE_INTERVAL = "20s"
#: Found, 404, and in traffic(), with a query that is always new, sure to be computed.
PAGES = ["/", "/user/1", "/user/2", "/recent_posts", "/daily_stats", "/user/99"]


@pytest.fixture
def ops(project: Callable[[Answers], Path]) -> Path:
    """Return the folder `ops` of a project; it is the same in all of them."""
    return project(Answers("redis", tuple(ROUTES))) / "ops"


def program(name: str) -> str:
    """Return the path of the program `name` of NEEDED in tests/servers.py."""
    path = find(name)
    assert path, f"{name} is missing: python -m tests.servers"
    return path


def promtool(*arguments: object, stdin: str | None = None) -> str:
    """Run promtool, which must succeed; return its output."""
    done = subprocess.run(
        [program("promtool"), *map(str, arguments)],
        input=stdin,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout + done.stderr


def load(path: Path) -> Any:
    """Return the contents of a YAML or JSON file."""
    return yaml.safe_load(path.read_text())


def panels(ops: Path) -> list[dict[str, Any]]:
    """Return the panels of the dashboard."""
    found: list[dict[str, Any]] = load(ops / "grafana/dashboards/cache.json")["panels"]
    return found


def queries(ops: Path) -> list[str]:
    """Return the queries of the dashboard."""
    found = [target["expr"] for panel in panels(ops) for target in panel["targets"]]
    return [query.replace("$__rate_interval", RATE_INTERVAL) for query in found]


def rules(ops: Path) -> list[dict[str, Any]]:
    """Return the rules of Prometheus."""
    (group,) = load(ops / "prometheus/rules.yml")["groups"]
    found: list[dict[str, Any]] = group["rules"]
    return found


# --- the files ---------------------------------------------------------------------------------


def test_ops_is_the_same_in_every_project(project: Callable[[Answers], Path], ops: Path) -> None:
    for backend in BACKENDS:
        other = project(Answers(backend, ())) / "ops"
        for path in filter(Path.is_file, ops.rglob("*")):
            assert path.read_bytes() == (other / path.relative_to(ops)).read_bytes(), path


def test_the_configuration_and_the_rules_are_valid_and_pass_their_tests(ops: Path) -> None:
    # The password is not read by this check, so it does not have to be there.
    promtool("check", "config", "--syntax-only", ops / "prometheus/prometheus.yml")
    assert f"{len(rules(ops))} rules" in promtool("check", "rules", ops / "prometheus/rules.yml")
    promtool("test", "rules", ops / "prometheus/rules_test.yml")


def test_every_alert_has_a_test_and_says_what_to_do(ops: Path) -> None:
    tested = {test["name"] for test in load(ops / "prometheus/rules_test.yml")["tests"]}
    alerts = {rule["alert"]: rule for rule in rules(ops) if "alert" in rule}
    assert alerts.keys() == tested
    for alert in alerts.values():
        assert alert["labels"]["severity"] in {"critical", "warning"}
        assert alert["for"]
        assert alert["annotations"].keys() == {"summary", "description"}


def test_the_dashboard_is_well_formed(ops: Path) -> None:
    (source,) = load(ops / "grafana/datasources/prometheus.yml")["datasources"]
    board = load(ops / "grafana/dashboards/cache.json")
    assert {"uid", "title", "schemaVersion", "time", "refresh"} <= board.keys()
    found = panels(ops)
    assert len({panel["id"] for panel in found}) == len(found)
    taken: set[tuple[int, int]] = set()
    for panel in found:
        assert panel["type"] in {"stat", "timeseries"}
        assert panel["title"]
        assert panel["description"]
        place = panel["gridPos"]
        assert place["x"] + place["w"] <= 24
        cells = set(
            itertools.product(
                range(place["x"], place["x"] + place["w"]),
                range(place["y"], place["y"] + place["h"]),
            )
        )
        assert not cells & taken, f"{panel['title']} covers another panel"
        taken |= cells
        targets = panel["targets"]
        assert len({target["refId"] for target in targets}) == len(targets) > 0
        # Its queries take it from the panel.
        assert panel["datasource"] == {"type": source["type"], "uid": source["uid"]}
    height = max(y for _, y in taken) + 1
    assert len(taken) == 24 * height, "there are gaps"
    scraped = load(ops / "prometheus/prometheus.yml")["global"]["scrape_interval"]
    assert source["jsonData"]["timeInterval"] == scraped


# --- compose -----------------------------------------------------------------------------------


def mounts(root: Path, service: dict[str, Any]) -> dict[str, Path]:
    """Return the files and folders of a project that a service sees, by where it sees them."""
    found = {}
    for mount in service["volumes"]:
        source, target, *mode = mount.split(":")
        if source.startswith("."):
            assert mode == ["ro"], f"{mount} could be changed in the container"
            assert (root / source).exists(), f"{source} is missing"
            found[target] = root / source
    return found


@each(EXTREMES)
def test_compose_starts_both_on_request_and_opens_nothing_to_others(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    root = project(answers)
    text = (root / "compose.yaml").read_text()
    compose = yaml.safe_load(text)
    services = compose["services"]
    on_request = {name for name, service in services.items() if "profiles" in service}
    assert on_request == {"prometheus", "grafana"}
    for name, service in services.items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), port
        for volume in service.get("volumes", []):
            named = volume.partition(":")[0]
            assert named.startswith("./") or named in compose["volumes"]
        if name in on_request:
            assert service["profiles"] == ["monitoring"]
            assert re.search(r":v?\d+\.\d+\.\d+$", service["image"])
            assert service["restart"] == "unless-stopped"
    # Compose evaluates the variables of all services, even of those that it does not start: with
    # `:?` the app would not start without a password. A secret is only read for its services.
    assert not re.search(r"FLASK_MONITORING_PASSWORD:?\?", text)
    assert services["app"]["environment"]["FLASK_MONITORING_PASSWORD"] == (
        "${FLASK_MONITORING_PASSWORD:-}"
    )
    assert compose["secrets"] == {
        "monitoring_password": {"environment": "FLASK_MONITORING_PASSWORD"}
    }
    for name in on_request:
        assert services[name]["secrets"] == ["monitoring_password"]


def test_compose_puts_everything_where_it_is_looked_for(ops: Path) -> None:
    root = ops.parent
    services = load(root / "compose.yaml")["services"]

    # The image of Prometheus starts it with this file.
    seen = mounts(root, services["prometheus"])
    assert (seen["/etc/prometheus"] / "prometheus.yml").is_file()
    config = load(ops / "prometheus/prometheus.yml")
    for name in config["rule_files"]:
        assert (ops / "prometheus" / name).is_file()
    (scrape,) = config["scrape_configs"]
    assert scrape["basic_auth"]["password_file"] == "/run/secrets/monitoring_password"
    assert scrape["static_configs"] == [{"targets": ["app:8000"]}]
    assert services["app"]["ports"] == ["127.0.0.1:8000:8000"]

    seen = mounts(root, services["grafana"])
    env = services["grafana"]["environment"]
    assert env["GF_SECURITY_ADMIN_PASSWORD__FILE"] == "/run/secrets/monitoring_password"
    (source,) = load(seen["/etc/grafana/provisioning/datasources"] / "prometheus.yml")[
        "datasources"
    ]
    (port,) = services["prometheus"]["ports"]
    assert source["url"] == f"http://prometheus:{port.rpartition(':')[2]}"
    (provider,) = load(seen["/etc/grafana/provisioning/dashboards"] / "provider.yml")["providers"]
    folder = provider["options"]["path"]
    assert (seen[folder] / "cache.json").is_file()
    assert env["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"] == f"{folder}/cache.json"


# --- what the app says -------------------------------------------------------------------------


@contextmanager
def served(backend: str, root: Path, folder: Path) -> Iterator[tuple[str, int, Any]]:
    """Serve a project by two workers; give its address, and Redis' port and process."""
    workers = 1 if backend == "memory" else 2
    with redis_server(folder) as (port, process):
        env = redis_env(port) | {"FLASK_CACHE_DISK_TIMEOUT": "30"}  # others do not look at it
        with make_serve(root, workers, **env) as address:
            yield address, port, process


@pytest.mark.parametrize("backend", BACKENDS)
def test_promtool_is_content_with_the_metrics_and_all_that_are_used_exist(
    backend: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(project(Answers(backend, tuple(ROUTES))), root)
    with served(backend, root, tmp_path) as (url, _, _):
        for page in PAGES * 4:  # so that each worker has seen some
            get(url + page, password=None)
        status, text = get(f"{url}/metrics")
    assert status == 200
    assert promtool("check", "metrics", stdin=text) == ""

    exist = {s.name for family in text_string_to_metric_families(text) for s in family.samples}
    recorded = {rule["record"] for rule in rules(root / "ops") if "record" in rule}
    for query in [*queries(root / "ops"), *(rule["expr"] for rule in rules(root / "ops"))]:
        bare = re.sub(r"\{[^}]*\}|\[[^]]*\]|by \([^)]*\)", "", query)
        used = set(re.findall(r"\bcache_\w+|\bjob\w*:[\w:]+|\bup\b|\bALERTS\b", bare))
        assert used, query
        assert used <= exist | recorded | MADE_ELSEWHERE, query


# --- a real Prometheus -------------------------------------------------------------------------


class Prometheus:
    """A Prometheus that runs, and what it knows."""

    def __init__(self, port: int) -> None:
        self.url = f"http://127.0.0.1:{port}"

    def _ask(self, path: str, **query: str) -> Any:
        url = f"{self.url}/api/v1/{path}?{urllib.parse.urlencode(query)}"
        with urllib.request.urlopen(url, timeout=30) as answer:
            return json.load(answer)["data"]

    def is_ready(self) -> bool:
        """Tell whether it answers queries."""
        try:
            urllib.request.urlopen(f"{self.url}/-/ready", timeout=5).close()
        except OSError:  # not yet
            return False
        return True

    def values(self, query: str) -> list[float]:
        """Return what a query finds now, without what is not a number."""
        found = self._ask("query", query=query)["result"]
        return [v for v in (float(one["value"][1]) for one in found) if not math.isnan(v)]

    def targets(self) -> dict[str, tuple[str, str]]:
        """Return how each job does: its health, and its last error."""
        found = self._ask("targets")["activeTargets"]
        return {one["labels"]["job"]: (one["health"], one["lastError"]) for one in found}

    def firing(self) -> dict[tuple[str, str], dict[str, str]]:
        """Return the annotations of the alerts that fire, by alert and job."""
        return {
            (alert["labels"]["alertname"], alert["labels"]["job"]): alert["annotations"]
            for alert in self._ask("alerts")["alerts"]
            if alert["state"] == "firing"
        }


@contextmanager
def prometheus(ops: Path, target: str, folder: Path) -> Iterator[Prometheus]:
    """Run Prometheus with the project's configuration, but to scrape `target`, and in seconds.

    In addition to the project's job it has one with a wrong password. Alerts fire as soon as what
    they tell of lasts for a second, each of which is a scrape and an evaluation.
    """
    folder.mkdir()
    config = load(ops / "prometheus/prometheus.yml")
    config["global"] = {"scrape_interval": "1s", "evaluation_interval": "1s"}
    (scrape,) = config["scrape_configs"]
    for name, password in ((scrape["job_name"], PASSWORD), ("wrong", "not the password")):
        (folder / name).write_text(f"{password}\n")
        own = {"job_name": name, "static_configs": [{"targets": [target]}]}
        auth = scrape["basic_auth"] | {"password_file": str(folder / name)}
        config["scrape_configs"].append({**scrape, **own, "basic_auth": auth})
    config["scrape_configs"].remove(scrape)
    (folder / "prometheus.yml").write_text(yaml.safe_dump(config))
    fast, changed = re.subn(r"\bfor: \w+", "for: 1s", (ops / "prometheus/rules.yml").read_text())
    assert changed == sum("alert" in rule for rule in rules(ops))
    (folder / "rules.yml").write_text(fast)

    port = free_port()
    with (folder / "log").open("w") as log:
        process = subprocess.Popen(
            [
                program("Prometheus"),
                f"--config.file={folder}/prometheus.yml",
                f"--storage.tsdb.path={folder}/data",
                f"--web.listen-address=127.0.0.1:{port}",
            ],
            stdout=log,
            stderr=log,
        )
    try:
        running = Prometheus(port)
        wait_until(running.is_ready, "Prometheus is ready")
        yield running
    finally:
        process.terminate()
        process.wait(30)


@contextmanager
def traffic(url: str) -> Iterator[None]:
    """Ask for pages, without a pause, until the end; no answer may be an error of the server."""
    end, errors = threading.Event(), []

    def visit() -> None:
        for number in itertools.count():
            for page in (*PAGES, f"/?{number}"):
                if end.is_set():
                    return
                status, _ = get(url + page, password=None)
                if status != (404 if page == "/user/99" else 200):
                    errors.append((page, status))

    client = threading.Thread(target=visit)
    client.start()
    try:
        yield
    finally:
        end.set()
        client.join()
    assert errors == []


def test_a_real_prometheus_scrapes_answers_the_dashboard_and_tells_of_an_open_breaker(
    ops: Path, tmp_path: Path
) -> None:
    root = tmp_path / "project"
    shutil.copytree(ops.parent, root)
    with (
        served("redis", root, tmp_path) as (url, port, redis),
        prometheus(ops, url.removeprefix("http://"), tmp_path / "prometheus") as server,
    ):
        breaker, scraping = ("CacheBreakerOpen", "app"), ("CacheNotScraped", "wrong")
        with traffic(url):
            wait_until(lambda: server.values('up{job="app"}') == [1], "the app is scraped")
            wait_until(lambda: scraping in server.firing(), "a wrong password is told")
            health, error = server.targets()["wrong"]
            assert health == "down"
            assert "401" in error

            empty = set(queries(ops))

            def all_have_data() -> bool:
                empty.difference_update([query for query in empty if server.values(query)])
                return not empty

            try:
                wait_until(all_have_data, "every query of the dashboard gives data")
            except AssertionError as slow:
                raise AssertionError(f"no data: {empty}") from slow
            assert server.values("max(cache_breaker_open)") == [0]
            wait_until(lambda: server.firing().keys() == {scraping}, "nothing else is told")

            redis.kill()
            wait_until(lambda: breaker in server.firing(), "the open breaker is told")
            annotations = server.firing()[breaker]
            assert url.removeprefix("http://") in annotations["summary"]
            assert server.values("max(cache_breaker_open)") == [1]
            firing = 'count(ALERTS{alertstate="firing"})'
            wait_until(lambda: server.values(firing) >= [2], "both alerts can be queried")

            with redis_server(tmp_path, port):
                wait_until(lambda: breaker not in server.firing(), "the alert is over")
