"""Starting a project: by make, in a container, with bad input; and ending it."""

import json
import os
import re
import shutil
import signal
import socket
import stat
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import pytest

from tests.baking import EXTREMES, QUESTIONS, ROOT, ROUTES, SLUG, Answers, each
from tests.serving import free_port, get, listens, wait_until

ROUTE_TABLE: dict[str, dict[str, str]] = QUESTIONS["_routes"]
SHARED_BIN = Path(sys.executable).parent
ADDRESS = re.compile(r"http://127\.0\.0\.1:\d+[\w/]*")
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if not name.startswith(("FLASK_", "GRANIAN_", "MAKE", "PYTEST_"))
}


@pytest.fixture
def copy(project: Callable[[Answers], Path], tmp_path: Path) -> Callable[..., Path]:
    """Return a project of its own; make takes it for installed."""

    def copy(backend: str = "memory", routes: tuple[str, ...] = tuple(ROUTES)) -> Path:
        root = tmp_path / "a project"
        shutil.copytree(project(Answers(backend, routes)), root)
        (root / ".venv").mkdir()
        (root / ".venv/installed").touch()
        return root

    return copy


@contextmanager
def making(root: Path, *arguments: str) -> Iterator["subprocess.Popen[str]"]:
    """Run make in `root`, with this environment's packages; end all of it at the end."""
    process = subprocess.Popen(
        ["make", f"BIN={SHARED_BIN}", *arguments],
        cwd=root,
        env=CLEAN | {"PYTHONPATH": str(root / "src")},
        start_new_session=True,
        # Programs that are started in the background may ignore Ctrl-C, and so would this one.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    try:
        yield process
    finally:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def answers(port: int) -> bool:
    """Tell whether an app answers there."""
    try:
        return get(f"http://127.0.0.1:{port}/healthz", None)[0] == 200
    except OSError:
        return False


def is_over(process: "subprocess.Popen[str]") -> bool:
    """Tell whether a process has ended, and with it all that it started."""
    if process.poll() is None:
        return False
    try:
        os.killpg(process.pid, 0)
    except ProcessLookupError:
        return True
    return False


def make(root: Path, *arguments: str) -> "subprocess.CompletedProcess[str]":
    """Return how make ended in `root`."""
    return subprocess.run(
        ["make", f"BIN={SHARED_BIN}", *arguments],
        cwd=root,
        env=CLEAN | {"PYTHONPATH": str(root / "src")},
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )


# --- the addresses that are printed ------------------------------------------------------------


@pytest.mark.parametrize("routes", [(), *((route,) for route in ROUTES), tuple(ROUTES)])
def test_every_address_that_is_printed_answers(
    routes: tuple[str, ...],
    copy: Callable[..., Path],
    bake: Callable[..., Any],
    capfd: pytest.CaptureFixture[str],
) -> None:
    bake(**Answers("memory", routes).context)
    printed = capfd.readouterr().out
    root, port = copy(routes=routes), free_port()
    first_screen = (root / "README.md").read_text().partition("## Run it")[0]
    with making(root, "run", f"PORT={port}") as process:
        wait_until(lambda: answers(port), "the app answers")
        for address in {*ADDRESS.findall(printed), *ADDRESS.findall(first_screen)}:
            assert get(address.replace(":5000", f":{port}"))[0] == 200, address
        os.kill(process.pid, signal.SIGTERM)
        output = process.communicate()[0]
        # The last one is the development server's own line, which names the server only.
        of_make = ADDRESS.findall(output.partition("Serving Flask app")[0])
    assert f"http://127.0.0.1:{port}/cache/" in of_make
    assert len(of_make) == len(routes) + 1
    with making(root, "serve", f"PORT={port}") as process:
        wait_until(lambda: answers(port), "the app answers")
        for address in of_make:
            if not address.endswith("/cache/"):  # which needs a password here
                assert get(address)[0] == 200, address
        os.kill(process.pid, signal.SIGTERM)
        assert f"http://127.0.0.1:{port}/healthz" in process.communicate()[0]


def test_make_prints_no_address_of_an_example_that_was_deleted(copy: Callable[..., Path]) -> None:
    root, port = copy(routes=("hello", "stats")), free_port()
    (root / f"src/{SLUG}/routes/hello.py").unlink()
    printed = make(root, "-n", "run", f"PORT={port}").stdout
    assert "%s\\n' /stats '/cache/" in printed


# --- the end -----------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["SIGTERM to make", "Ctrl-C"])
@pytest.mark.parametrize("target", ["run", "serve"])
def test_the_end_of_make_is_the_end_of_the_server_and_its_workers(
    target: str, how: str, copy: Callable[..., Path]
) -> None:
    port = free_port()
    with making(copy("disk", ("hello",)), target, f"PORT={port}", "WORKERS=3") as process:
        # Werkzeug listens before it has its reloader's process in its care: wait for an answer.
        wait_until(lambda: answers(port), "the app answers")
        if how == "Ctrl-C":
            os.killpg(process.pid, signal.SIGINT)
        else:
            os.kill(process.pid, signal.SIGTERM)
        wait_until(lambda: is_over(process), "all processes have ended")
        assert not listens(port)


# --- the port ----------------------------------------------------------------------------------


@pytest.mark.parametrize("target", ["run", "serve"])
def test_a_port_that_cannot_be_used_is_named_with_one_that_can(
    target: str, copy: Callable[..., Path]
) -> None:
    root = copy(routes=("hello",))
    with socket.create_server(("127.0.0.1", 0)) as used:
        for port in (used.getsockname()[1], 99999, "none"):
            done = make(root, target, f"PORT={port}")
            assert done.returncode != 0
            assert "Traceback" not in done.stderr + done.stdout
            (free,) = re.findall(rf"Port {port} cannot .* A free one: PORT=(\d+)", done.stderr)
    with making(root, target, f"PORT={free}"):
        wait_until(lambda: answers(int(free)), "the app answers")


def test_the_server_logs_no_warning_that_nobody_explains(copy: Callable[..., Path]) -> None:
    port = free_port()
    # More workers than processors, and more threads: Granian warns of both.
    with making(copy("disk", ("hello",)), "serve", f"PORT={port}", "WORKERS=9") as process:
        wait_until(lambda: answers(port), "the app answers")
        os.kill(process.pid, signal.SIGTERM)
        assert "[WARN" not in process.communicate()[0]


# --- .env and the database ---------------------------------------------------------------------


def prepare(root: Path, **env: str) -> "subprocess.CompletedProcess[str]":
    """Run the command that makes a copy of the project ready, as a user without a mask."""
    return subprocess.run(
        [sys.executable, "-m", f"{SLUG}.prepare"],
        cwd=root,
        env=CLEAN | {"PYTHONPATH": str(root / "src"), **env},
        umask=0,
        capture_output=True,
        text=True,
        check=False,
    )


@pytest.mark.parametrize("routes", [(), tuple(ROUTES)])
def test_env_is_made_once_for_its_owner_alone(
    routes: tuple[str, ...], copy: Callable[..., Path]
) -> None:
    root = copy(routes=routes)
    assert prepare(root).returncode == 0
    env = root / ".env"
    assert stat.S_IMODE(env.stat().st_mode) == 0o600
    text = env.read_text()
    assert re.fullmatch(r"FLASK_SECRET_KEY=[0-9a-f]{64}\n", text)
    assert prepare(root).returncode == 0
    assert env.read_text() == text
    assert len(list(root.rglob("app.sqlite3"))) == bool(routes)


def test_an_env_that_is_there_is_left_alone_even_if_it_has_no_key(
    copy: Callable[..., Path],
) -> None:
    root = copy(routes=("hello",))
    (root / ".env").write_text("FLASK_CACHE_VERSION=7\n")
    done = prepare(root)
    assert done.returncode == 2
    assert "FLASK_SECRET_KEY: " in done.stderr
    assert "Traceback" not in done.stderr
    assert (root / ".env").read_text() == "FLASK_CACHE_VERSION=7\n"


@each(EXTREMES)
def test_no_file_tells_people_to_write_env_by_the_shell(
    answers: Answers, project: Callable[[Answers], Path]
) -> None:
    """The shell would make it readable for everybody."""
    for path in project(answers).rglob("*"):
        if path.is_file() and path.suffix != ".pyc":
            assert not re.search(r">>? *\.env\b|(cp|copy) \.env|[Cc]opy to \.env", path.read_text())


# --- Python ------------------------------------------------------------------------------------

#: Pythons that will not do: what each does before it runs the code of `-c`.
UNFIT = {
    "old": "import sys; sys.version_info = (3, 10, 14)",
    "very old": "raise SystemExit('SyntaxError: invalid syntax')",
    "without venv": "import sys; sys.modules['ensurepip'] = None",
}


@pytest.mark.parametrize("unfit", [*UNFIT, "missing"])
@pytest.mark.parametrize("whose", ["the project's", "the template's"])
def test_a_python_that_will_not_do_is_refused_at_once_and_leaves_nothing(
    whose: str, unfit: str, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    python = tmp_path / "python"
    if unfit in UNFIT:
        code = f"{UNFIT[unfit]}; exec(sys.argv[2])"
        python.write_text(f'#!/bin/sh\nexec {sys.executable} -c "{code}" "$@"\n')
        python.chmod(0o755)
    root = tmp_path / "root"
    root.mkdir()
    if whose == "the project's":
        shutil.copytree(project(Answers("memory", ())), root, dirs_exist_ok=True)
    else:
        for name in ("Makefile", "requirements.txt"):
            shutil.copy(ROOT / name, root)
    before = sorted(root.rglob("*"))
    target = "run" if whose == "the project's" else "demo"
    done = make(root, target, "BIN=.venv/bin", f"PYTHON={python}")
    assert done.returncode != 0
    lines = [line for line in done.stderr.splitlines() if not line.startswith("make: ")]
    assert len(lines) == 1
    assert f"{python} is not Python 3.11 or later with venv" in lines[0]
    assert f"make PYTHON=python3.13 {target}" in lines[0]
    assert sorted(root.rglob("*")) == before


# --- the folder of a new project ---------------------------------------------------------------


@pytest.mark.parametrize("out", ["~/src", "my projects", '{tmp}/it\'s new/and "deep"', "~", "a~b"])
def test_make_new_generates_where_it_is_told_and_prints_one_cd_that_works(
    out: str, tmp_path: Path
) -> None:
    """OUT is literal here: some shells do not replace the tilde, or it was quoted."""
    clone, home = tmp_path / "clone", tmp_path / "home"
    shutil.copytree(ROOT, clone, ignore=shutil.ignore_patterns(".git", ".venv", "build"))
    (clone / ".venv").symlink_to(SHARED_BIN.parent)
    home.mkdir()
    out = out.format(tmp=tmp_path)
    done = subprocess.run(
        ["make", "new", f"OUT={out}", "ARGS=--no-input project_slug=kiosk"],
        cwd=clone,
        env=CLEAN | {"HOME": str(home)},
        capture_output=True,
        text=True,
        check=True,
    )
    (cd,) = [line for line in done.stdout.splitlines() if line.strip().startswith("cd ")]
    shown = subprocess.run(
        ["sh", "-ec", f"{cd}; pwd"], cwd="/", capture_output=True, text=True, check=True
    )
    folder = home / out[2:] if out[:1] == "~" else clone / out
    assert Path(shown.stdout.strip()) == folder.resolve() / "kiosk"
    assert (folder / "kiosk/src/kiosk").is_dir()


# --- modules in routes/ ------------------------------------------------------------------------

GOOD = {
    "helper.py": "def double(n: int) -> int:\n    return 2 * n\n",
    "text.py": 'bp = "no blueprint"\n',
    "listed.py": "bp = [1]\n",
    "kind.py": "from flask import Blueprint as bp\n",
    "admin/__init__.py": (
        "from flask import Blueprint\n\nbp = Blueprint('admin', __name__)\n\nfrom . import pages\n"
    ),
    "admin/pages.py": "from . import bp\n\n\n@bp.get('/admin')\ndef admin(): return 'admin'\n",
    # One before and one after the module whose blueprint they import.
    "a_first.py": "from .hello import bp\n\n\n@bp.get('/first')\ndef first(): return 'first'\n",
    "z_last.py": "from .hello import bp\n\n\n@bp.get('/last')\ndef last(): return 'last'\n",
}


def routes_of(root: Path) -> "subprocess.CompletedProcess[str]":
    """Return what the command `flask routes` gives."""
    return subprocess.run(
        [sys.executable, "-m", "flask", "--app", SLUG, "routes"],
        cwd=root,
        env=CLEAN | {"PYTHONPATH": str(root / "src"), "FLASK_SECRET_KEY": "a key of the tests"},
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_module_without_a_blueprint_of_its_own_is_left_alone(copy: Callable[..., Path]) -> None:
    root = copy(routes=("hello",))
    for name, text in GOOD.items():
        path = root / f"src/{SLUG}/routes/{name}"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
    done = routes_of(root)
    assert done.returncode == 0, done.stderr
    for page in ("/admin", "/first", "/last"):
        assert len(re.findall(rf"{page}\s*$", done.stdout, re.MULTILINE)) == 1


@pytest.mark.parametrize("text", ["import no_such_module", "1 / 0", "def"])
def test_a_module_that_cannot_be_imported_is_named_with_its_own_error(
    text: str, copy: Callable[..., Path]
) -> None:
    root = copy(routes=("hello",))
    (root / f"src/{SLUG}/routes/broken.py").write_text(f"{text}\n")
    done = routes_of(root)
    assert done.returncode != 0
    assert "routes/broken.py" in done.stderr
    assert re.search("no_such_module|ZeroDivisionError|SyntaxError", done.stderr)


# --- the image ---------------------------------------------------------------------------------


class Image:
    """A folder in which the instructions of a Dockerfile have been carried out, without Docker."""

    def __init__(self, project: Path, root: Path) -> None:
        self.root, self.port = root, free_port()
        self.env: dict[str, str] = {}
        self.writable = [root / "tmp"]
        self.workdir = root
        (root / "tmp").mkdir(parents=True)
        text = re.sub(r"^#.*\n", "", (project / "Dockerfile").read_text(), flags=re.MULTILINE)
        for line in filter(None, re.sub(r"\\\n\s*", "", text).splitlines()):
            instruction, _, rest = line.partition(" ")
            match instruction:
                case "RUN":
                    for command in rest.split("&& "):
                        self._run(command.strip())
                case "WORKDIR":
                    self.workdir = Path(self._inside(rest))
                    self.workdir.mkdir()
                case "COPY":
                    self._copy(project, *rest.split())
                case "ENV":
                    name, _, value = rest.partition("=")
                    self.env[name] = self._inside(value)
                case "CMD":
                    self.command = json.loads(self._inside(rest))
                case "HEALTHCHECK":
                    self.check = json.loads(self._inside(rest.removeprefix("CMD ")))
                case _:
                    assert instruction in {"FROM", "USER", "VOLUME", "EXPOSE"}
        self.kept = [path for path in root.rglob("*") if path.is_dir()]

    def _inside(self, text: str) -> str:
        """Return a text with the paths, the address and the port as they are here."""
        moved = re.sub(r"(?<!\w)/(data|tmp|app)\b", rf"{self.root}/\1", text)
        return moved.replace("0.0.0.0", "127.0.0.1").replace("8000", str(self.port))

    def _run(self, command: str) -> None:
        if command.startswith("install --directory --owner app "):
            self.writable.append(Path(self._inside(command.split()[-1])))
            self.writable[-1].mkdir()
        elif command.startswith("pip install "):
            shutil.copytree(self.workdir / "src", self.root / "site")
        else:
            assert command == "useradd --create-home --uid 1000 app"

    def _copy(self, project: Path, *names: str) -> None:
        kept = (project / ".dockerignore").read_text().splitlines()
        for name in names[:-1]:
            assert f"!{name}" in kept, f"{name} is not sent to the builder"
            if (project / name).is_dir():
                shutil.copytree(project / name, self.workdir / names[-1])
            else:
                shutil.copy(project / name, self.workdir / names[-1])

    @contextmanager
    def running(self, **env: str) -> Iterator["subprocess.Popen[str]"]:
        """Run its command; only /tmp and the folders of the user `app` can be written."""
        outside = {
            "PATH": f"{SHARED_BIN}:/usr/bin:/bin",
            "PYTHONPATH": f"{self.root}/site",
            "PYTHONDONTWRITEBYTECODE": "1",
        }
        bound = ["setpriv", "--bounding-set=-dac_override,-fowner"] if os.getuid() == 0 else []
        for path in self.kept:
            path.chmod(0o755 if path in self.writable else 0o555)
        process = subprocess.Popen(
            [*bound, *self.command],
            cwd=self.workdir,
            env=outside | self.env | env,
            start_new_session=True,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )
        try:
            yield process
        finally:
            with suppress(ProcessLookupError):
                os.killpg(process.pid, signal.SIGKILL)
            process.wait()
            for path in self.kept:
                path.chmod(0o755)


@each([*EXTREMES[::2], EXTREMES[1]])
def test_the_image_starts_without_compose_and_starts_again(
    answers: Answers, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    image = Image(project(answers), tmp_path / "image")
    pages = [route["visit"] for name, route in ROUTE_TABLE.items() if name in answers.routes]
    for _ in range(2):
        with image.running(FLASK_SECRET_KEY="a secret key of the tests") as process:
            wait_until(lambda: listens(image.port) or process.poll() is not None, "it listens")
            assert process.poll() is None, process.communicate()[0]
            for page in ("/healthz", *pages):
                assert get(f"http://127.0.0.1:{image.port}{page}", None)[0] == 200, page
            subprocess.run([sys.executable, *image.check[1:]], check=True)
            process.terminate()
            wait_until(lambda: is_over(process), "all processes have ended")
    if answers.backend == "disk" and answers.routes:
        assert list((tmp_path / "image/data/cache").iterdir())


@each(EXTREMES)
def test_the_image_refuses_to_start_without_a_secret_key_and_says_so_once(
    answers: Answers, project: Callable[[Answers], Path], tmp_path: Path
) -> None:
    with Image(project(answers), tmp_path / "image").running() as process:
        output = process.communicate(timeout=60)[0]
    assert process.returncode != 0
    assert output.count("FLASK_SECRET_KEY: ") == 1
    assert "Traceback" not in output
