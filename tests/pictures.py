"""Draws the pictures of the README, from what they show: `make pictures`.

The prompts are Cookiecutter's own, answered in a pseudo terminal. The picture of the live page is
a photograph, which tests/test_live_page.py takes in a real browser.
"""

import itertools
import os
import pty
import re
import subprocess
import sys
import tempfile
from html import escape
from pathlib import Path

import yaml
from rich.color import ColorType
from rich.style import Style
from rich.terminal_theme import MONOKAI
from rich.text import Text

from tests.baking import QUESTIONS, ROOT

DOCS = ROOT / "docs"
COLUMNS = 96
#: The answers typed into the prompts; the others are the defaults.
TYPED = {"project_name": "Shop", "cache_backend": "3", "route_user": "n"}

#: Viewers would drop spaces at the beginning of a text.
NBSP = "\u00a0"
#: Pixels: the size of a character, of a line, and of the margin.
CHAR, LINE, MARGIN = 8.4, 19, 16
TERMINAL = """\
<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img">
<title>{title}</title>
<rect width="100%" height="100%" rx="8" fill="#1e1e24"/>
<g font-family="ui-monospace, Menlo, Consolas, 'DejaVu Sans Mono', monospace" font-size="14"
 fill="#e8e8ec">
{lines}
</g>
</svg>
"""
BADGE = """\
<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="20" role="img">
<title>{label}: {text}</title>
<clipPath id="round"><rect width="{width}" height="20" rx="3"/></clipPath>
<g clip-path="url(#round)">
<rect width="{left}" height="20" fill="#555"/>
<rect x="{left}" width="{right}" height="20" fill="#2a6fb5"/>
</g>
<g fill="#fff" font-family="Verdana, 'DejaVu Sans', sans-serif" font-size="11">
<text x="6" y="14" textLength="{label_length}">{label}</text>
<text x="{text_x}" y="14" textLength="{text_length}">{text}</text>
</g>
</svg>
"""


def in_a_terminal(command: list[str], typed: list[str], env: dict[str, str]) -> str:
    """Return the output of a command, with its colours, that asks for lines at a terminal."""
    pid, terminal = pty.fork()
    if pid == 0:
        os.execvpe(command[0], command, env)
    output = b""
    while True:
        try:
            part = os.read(terminal, 4096)
        except OSError:  # Linux: the other side is closed
            break
        if not part:
            break
        output += part
        # A prompt ends with a colon and a space, and perhaps with the codes that end its colour.
        if typed and re.search(rb": (\x1b\[[0-9;?]*[a-z])*$", output):
            os.write(terminal, typed.pop(0).encode() + b"\n")
    os.waitpid(pid, 0)
    return output.decode()


def prompts() -> list[Text]:
    """Return the lines that Cookiecutter and the hooks show, as they are seen."""
    questions = [name for name in QUESTIONS if not name.startswith("_")]
    with tempfile.TemporaryDirectory() as folder:
        config = Path(folder) / "config.yaml"
        config.write_text(f"replay_dir: '{folder}'\ncookiecutters_dir: '{folder}'\n")
        env = os.environ | {
            "COOKIECUTTER_CONFIG": str(config),
            "COLUMNS": str(COLUMNS),
            "LINES": "50",
            "TERM": "xterm-256color",
            "COLORTERM": "truecolor",
        }
        env.pop("NO_COLOR", None)
        command = [sys.executable, "-m", "cookiecutter", "-o", folder, str(ROOT)]
        typed = [TYPED.get(name, "") for name in questions]
        output = in_a_terminal(command, typed, env)
    output = output.replace(os.path.realpath(folder), "/home/ada/src")
    # Other codes than colours move the cursor of an editor of lines.
    output = re.sub(r"\x1b\[[0-9;?]*[A-Za-ln-z]", "", output).replace("\r", "")
    return list(Text.from_ansi(f"$ cookiecutter flask-cache-template\n{output.rstrip()}").split())


def style_of(style: Style) -> str:
    """Return the attributes of a text in this style."""
    attributes = []
    if style.color and style.color.type is not ColorType.DEFAULT:
        attributes.append(f'fill="{style.color.get_truecolor(MONOKAI).hex}"')
    if style.bold:
        attributes.append('font-weight="bold"')
    if style.dim:
        attributes.append('opacity="0.6"')
    return " ".join(attributes)


def terminal(lines: list[Text], title: str) -> str:
    """Return a picture of a terminal with these lines, as SVG."""
    drawn = []
    for row, line in enumerate(lines):
        y = MARGIN + LINE * row + 14
        for start, end, style in parts(line):
            text = line.plain[start:end]
            if text.strip():
                x, length = MARGIN + CHAR * start, CHAR * len(text)
                drawn.append(
                    f'<text x="{x:.1f}" y="{y}" textLength="{length:.1f}" {style_of(style)}>'
                    f"{escape(text, quote=False).replace(' ', NBSP)}</text>"
                )
    return TERMINAL.format(
        title=title,
        width=2 * MARGIN + CHAR * COLUMNS,
        height=2 * MARGIN + LINE * len(lines),
        lines="\n".join(drawn),
    )


def parts(line: Text) -> list[tuple[int, int, Style]]:
    """Return where each stretch of one style begins and ends."""
    edges = sorted({0, len(line), *(edge for span in line.spans for edge in span[:2])})
    found = []
    for start, end in itertools.pairwise(edges):
        styles = [s.style for s in line.spans if s.start <= start and end <= s.end]
        known = [style for style in styles if isinstance(style, Style)]
        found.append((start, end, Style.combine([Style.null(), *known])))
    return found


def badge(label: str, text: str) -> str:
    """Return a badge, as SVG."""
    left, right = (round(6.6 * len(words)) + 12 for words in (label, text))
    return BADGE.format(
        label=label,
        text=text,
        left=left,
        right=right,
        width=left + right,
        label_length=left - 12,
        text_x=left + 6,
        text_length=right - 12,
    )


def badges() -> dict[str, str]:
    """Return the text of each badge by its label, from the files that say so."""
    jobs = yaml.safe_load((ROOT / ".github/workflows/ci.yml").read_text())["jobs"]
    pythons = jobs["test"]["strategy"]["matrix"]["python"]
    steps = [step["run"] for step in jobs["test"]["steps"] if "run" in step]
    license = (ROOT / "LICENSE").read_text()
    generated, own = re.findall(r"^- (?:MIT No Attribution \()?(MIT(?:-0)?)", license, re.MULTILINE)
    hook = (ROOT / "hooks/pre_gen_project.py").read_text()
    needed = re.findall(r"needs Cookiecutter (\S+) or later", hook)
    return {
        "Python": f"{pythons[0]} to {pythons[-1]}",
        "Cookiecutter": f"{needed[0]} or later",
        "CI": f"{', '.join(steps)} on each push",
        "license": f"{own}, generated code {generated}",
    }


def drawings() -> dict[Path, str]:
    """Return the contents of each picture that is drawn."""
    title = "Cookiecutter asks its questions and prints the next steps"
    pictures = {DOCS / "prompts.svg": terminal(prompts(), title)}
    for label, text in badges().items():
        pictures[DOCS / f"badge-{label.lower()}.svg"] = badge(label, text)
    return pictures


def main() -> int:
    """Draw them all, and take the photograph."""
    for path, picture in drawings().items():
        path.write_text(picture)
        print(path.relative_to(ROOT))
    command = [
        sys.executable,
        "-m",
        "pytest",
        "-q",
        "tests/test_live_page.py",
        "-k",
        "picture_of_it",
    ]
    env = os.environ | {"SCREENSHOT": str(DOCS / "live-page.png")}
    return subprocess.run(command, cwd=ROOT, env=env, check=False).returncode


if __name__ == "__main__":
    sys.exit(main())
