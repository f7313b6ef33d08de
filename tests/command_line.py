"""What tests of the command line share: a child process and a tiny model."""

import json
import subprocess
import sys
from pathlib import Path

TINY = ["--model.width", "3", "--model.depth", "1", "--problem.n_pde", "16"]
CLOCKS = {"seconds", "cpu_seconds", "wall_seconds"}


def child(*code: str) -> subprocess.CompletedProcess:
    return subprocess.run([sys.executable, "-c", "\n".join(code)], capture_output=True, text=True, timeout=120)


def rows_of(folder: Path) -> list[dict]:
    lines = (folder / "rows.jsonl").read_text(encoding="utf8").splitlines()
    return [{k: v for k, v in json.loads(text).items() if k not in CLOCKS} for text in lines]
