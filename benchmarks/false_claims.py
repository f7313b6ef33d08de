"""How often `ravine.bench.claims.compare` says something false: simulated runs of methods that do not differ.

    python benchmarks/false_claims.py [--lists 1000]      # prints a Markdown table: results/false_claims.md

Three methods on three problems of different scale, three targets and the final error. Errors and times are lognormal,
with a luck that the methods share within a seed; a tenth of the runs fail; hard targets are often missed. In the last
row the third method is better by three decades, and only claims about the other two are counted. "Without the
correction" takes each p of the family by itself.
"""

from __future__ import annotations

import argparse
import math

import numpy as np

from ravine.bench.claims import TARGETS, compare
from ravine.bench.results import Result

METHODS = ("a", "b", "c")


def drawn(rng: np.random.Generator, seeds: int, better: str | None) -> list[Result]:
    """One set of runs."""
    found = []
    for p in range(3):
        for seed in range(seeds):
            luck = rng.normal()
            for method in METHODS:
                status = "failed" if rng.random() < 0.1 else "budget"
                edge = 3.0 if method == better else 0.0
                error = 10.0 ** (-p - 3 + luck + rng.normal() - edge)
                times = {
                    t: math.inf
                    if error > t
                    else 10.0 ** (p + 0.3 * luck + 0.3 * rng.normal() - edge / 3) * -math.log10(t)
                    for t in TARGETS
                }
                found.append(Result(f"p{p}", method, seed, status, error, {"seconds": times}))
    return found


def counted(lists: int, seeds: int, better: str | None) -> tuple[int, int]:
    """Lists with a false claim, and lists that would have one if each p were taken by itself."""
    rng, false, naive = np.random.default_rng(99), 0, 0
    for _ in range(lists):
        findings = [f for f in compare(drawn(rng, seeds, better)) if better not in f.methods]
        false += any(f.claim for f in findings)
        naive += any(f.p <= 0.05 for f in findings)
    return false, naive


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--lists", type=int, default=1000)
    lists = parser.parse_args().lists
    print("| seeds | better method | lists with a false claim | without the correction |\n|---|---|---|---|")
    for seeds, better in ((3, None), (8, None), (12, None), (12, "c")):
        false, naive = counted(lists, seeds, better)
        shares = (f"{n} of {lists} ({100 * n / lists:.1f} %)" for n in (false, naive))
        print(f"| {seeds} | {better or 'none'} | {' | '.join(shares)} |", flush=True)


if __name__ == "__main__":
    main()
