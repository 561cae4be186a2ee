"""How long Prometheus waits for the counts of eight worker processes, also after many restarts."""

import base64
import shutil
import time
from collections.abc import Iterator

from .measuring import Row
from .run import Run
from .servers import Server, fetch

WORKERS, RESTARTS, ASKED = 8, 50, 400
PASSWORD = "a password"
PATHS = ("/", "/recent_posts", "/daily_stats", "/user/1")


def measure(run: Run) -> Iterator[Row]:
    """Return the rows of a scrape, before and after restarts."""
    run.say(f"scrapes of {WORKERS} workers")
    server = Server("ours", "disk", WORKERS, 1)
    env = {"FLASK_CACHE_DIR": str(run.scratch()), "FLASK_MONITORING_PASSWORD": PASSWORD}
    with server.start(run, env) as process:
        process.wait()
        port, folder = process.port, run.project("disk") / ".metrics" / str(process.port)
        process.wait(lambda: len(list(folder.glob("counter_*.db"))) == WORKERS)
        for number in range(ASKED):
            fetch(port, PATHS[number % len(PATHS)])
        auth = base64.b64encode(f"monitoring:{PASSWORD}".encode()).decode()

        def scrape() -> float:
            start = time.perf_counter()
            found = fetch(port, "/metrics", f"Authorization: Basic {auth}")
            seconds = time.perf_counter() - start
            if found.status != 200 or b"cache_gets_total" not in found.body:
                raise AssertionError(found)
            return seconds

        before = [scrape() for _ in range(run.some(30, 5))]
        for path in [it for it in folder.glob("*_0.db") if "gauge" not in it.name]:
            for number in range(RESTARTS):  # as prometheus_client would leave them, by process id
                shutil.copy(path, path.with_name(path.name.replace("_0.", f"_{1000 + number}.")))
        by_id = [scrape() for _ in before]
    name = f"a scrape of {WORKERS} workers"
    yield Row(name, before, f"with files by id, {RESTARTS} restarts", by_id, "s", "<= 0.05", True)
