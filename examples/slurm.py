"""`ravine compare` on a SLURM cluster: each run in a job of its own, with 8 cores.

python examples/slurm.py                      # prints the job script, and submits nothing
python examples/slurm.py poisson2d,burgers1d --methods adam,lbfgs,lm --seeds 8 --memory 12GiB --out runs/mine

Start it where `sbatch` works and which the nodes can reach. Interrupted, it keeps what there is; the same command with
--continue goes on. Needs: pip install '.[cluster]'.
"""

import sys

from dask_jobqueue import SLURMCluster

from ravine.cli import main

JOBS = 20  # at a time

# cores=1 is one thread of the Dask worker, so one run at a time in a job; job_cpu are the cores which that run has.
SETTINGS = {
    "cores": 1,
    "job_cpu": 8,
    "memory": "16GB",
    "walltime": "04:00:00",
    "job_script_prologue": ["export JAX_COMPILATION_CACHE_DIR=$HOME/.cache/ravine/jax"],
}

if __name__ == "__main__":
    with SLURMCluster(**SETTINGS) as cluster:
        if not sys.argv[1:]:
            print(cluster.job_script())
            sys.exit()
        cluster.scale(jobs=JOBS)
        sys.exit(main(["compare", *sys.argv[1:], "--scheduler", cluster.scheduler_address]))
