"""The picture of the terminal in the README: the real command in a terminal of its own.

    python benchmarks/recording.py docs/terminal.svg

What it prints while a bar is shown is left as the terminal has it in the end, without the bar.
"""

import argparse
import os
import pty
import re
import subprocess
import sys
import tempfile
from pathlib import Path

from rich.console import Console
from rich.text import Text

COLUMNS = 104
SHOWN_AS = "/home/me"  # in place of the folder that it ran in


def recorded(command: list[str], folder: str) -> str:
    """What a terminal receives of the command."""
    main, side = pty.openpty()
    environment = os.environ | {"TERM": "xterm-256color", "COLUMNS": str(COLUMNS)}
    environment |= {"PYTHONPATH": str(Path(__file__).parents[1])}
    environment["MLFLOW_TRACKING_URI"] = f"sqlite:///{folder}/mlflow.db"
    process = subprocess.Popen(
        command, cwd=folder, env=environment, stdout=side, stderr=subprocess.DEVNULL
    )
    os.close(side)
    received = b""
    try:
        while more := os.read(main, 4096):
            received += more
    except OSError:  # the other side is closed
        pass
    os.close(main)
    if process.wait():
        raise SystemExit(f"the command ended with {process.returncode}")
    return received.decode()


def screen(received: str) -> list[str]:
    """The lines that are there in the end, with their colours."""
    lines, row = [""], 0
    for part in re.findall(r"\x1b\[[0-9;?]*[A-Za-z]|\r|\n|[^\x1b\r\n]+", received):
        if part == "\n":
            row += 1
            lines += [""] * (row + 1 - len(lines))
        elif part == "\x1b[1A":
            row = max(0, row - 1)
        elif part == "\x1b[2K":
            lines[row] = ""
        elif part.endswith("m") or not part.startswith(("\x1b", "\r")):
            lines[row] += part
    return lines


def drawn(typed: str, lines: list[str]) -> str:
    """As SVG, in the reader's own font."""
    with open(os.devnull, "w") as nowhere:
        console = Console(record=True, width=COLUMNS, file=nowhere, force_terminal=True)
        console.print(Text(f"$ {typed}", style="bold"))
        console.print(Text.from_ansi("\n".join(lines).strip()))
        picture = console.export_svg(title="optimizer-search", unique_id="terminal")
    picture = re.sub(r"@font-face \{.*?\}\n", "", picture, flags=re.DOTALL)
    picture = re.sub("Fira ?Code", "ui-monospace, SFMono-Regular, Menlo, DejaVu Sans Mono", picture)
    return re.sub(r"[ \t]+$", "", picture, flags=re.MULTILINE)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--config", default="breast-cancer")
    arguments = parser.parse_args()
    typed = f"python -m pipeline run --config {arguments.config}"
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, *typed.split()[1:]]
        received = recorded(command, folder).replace(folder, SHOWN_AS)
    arguments.file.write_text(drawn(typed, screen(received)))
    print(f"{arguments.file}: {arguments.file.stat().st_size:,} bytes")


if __name__ == "__main__":
    main()
