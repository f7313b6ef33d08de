"""The ladder: gradient descent, Adam, SOAP, L-BFGS, SSBroyden and LM at equal time, on networks of three sizes.

    python benchmarks/ladder.py [--parts soap,small,medium,large] [--seeds N]

Each part is one `ravine compare` at defaults, gone on with where it was left (runs of an earlier commit count), in
runs/ladder-PART; its records and tables are copied to results/ladder/. Pin it to one core: taskset -c 1.

    soap     SOAP against Adam on Burgers and Allen-Cahn, network 4 x 64, 60 s: ten times the error was asked for
    small    network 2 x 16 (about 340 parameters), 10 s, all problems with a network
    medium   network 4 x 64 (about 12,700), 30 s
    large    network 4 x 576 (about a million), 20 s: methods without a matrix of n x n numbers only

SSBroyden and LM are left out of `large`, where the driver refuses a dense matrix for want of memory.
"""

from __future__ import annotations

import argparse
import shutil
import subprocess
import sys
from pathlib import Path

RESULTS = Path(__file__).parent / "results" / "ladder"
PDES = "poisson1d,poisson2d,poisson5d,convection1d,deepritz2d,burgers1d,allencahn1d,inverseburgers1d,regression1d"
LADDER = "gd,adam,soap,lbfgs,ssbroyden,lm"
PARTS = {  # problems, methods, depth, width, budget, seeds
    "soap": ("burgers1d,allencahn1d", "adam,soap", 4, 64, "60s", 3),
    "small": (PDES, LADDER, 2, 16, "10s", 2),
    "medium": (PDES, LADDER, 4, 64, "30s", 2),
    "large": (PDES, "gd,adam,soap,lbfgs", 4, 576, "20s", 2),
}


def run(part: str, seeds: int | None) -> None:
    problems, methods, depth, width, budget, usual = PARTS[part]
    folder = Path("runs") / f"ladder-{part}"
    words = [sys.executable, "-m", "ravine", "compare", problems, "--methods", methods, "--budget", budget]
    words += ["--model.depth", str(depth), "--model.width", str(width), "--seeds", str(seeds or usual)]
    words += ["--continue", "--any-version", "--out", str(folder)]
    code = subprocess.run(words, check=False).returncode
    if code not in (0, 1):  # 1: some run failed, which is a result
        sys.exit(code)
    RESULTS.mkdir(parents=True, exist_ok=True)
    shutil.copy(folder / "results.jsonl", RESULTS / f"{part}.jsonl")
    shutil.copy(folder / "tables" / "summary.txt", RESULTS / f"{part}.txt")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--parts", default=",".join(PARTS), help="separated by commas (all)")
    parser.add_argument("--seeds", type=int, help="instead of the part's own number")
    request = parser.parse_args()
    for part in request.parts.split(","):
        run(part, request.seeds)


if __name__ == "__main__":
    main()
