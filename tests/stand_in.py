"""In place of the process of a run: what a real worker does, without JAX, driven by the seed.

0 ends well, 1 dies with words, 2 is killed, 3 refuses, 4 runs until it is interrupted, 5 ignores interruption,
6 writes garbage and half a line, 7 takes 200 MiB and then runs until it is interrupted, 8 runs until it is interrupted
at its first attempt and ends well at its second, 10 dies before it has begun. Like a real one it ends when its stdin is
closed.
"""

import json
import os
import pathlib
import signal
import sys
import threading
import time

PLACE = pathlib.Path(__file__).parent


def say(**message):
    print(json.dumps(message), flush=True)


def finish(task, core, status):
    folder = pathlib.Path(task["folder"])
    (folder / "checkpoint").mkdir(parents=True, exist_ok=True)
    (folder / "checkpoint" / "step-000000000000.npz").write_bytes(bytes(range(256)))
    last = {"step": 0, "loss": 1.0, "seconds": 0.0, "status": "closing"}
    (folder / "rows.jsonl").write_text(json.dumps(last) + "\n")
    record = {"format": 1, "problem": task["problem"], "method": task["method"], "seed": task["seed"]}
    record |= {"status": status, "reason": "Stand-in."}
    record |= {"core": core, "threads": os.environ.get("OMP_NUM_THREADS")}
    record |= {"preallocate": os.environ.get("XLA_PYTHON_CLIENT_PREALLOCATE")}
    (folder / "run.json").write_text(json.dumps(record))
    say(event="done", status=status, peak_memory=50 * 2**20)


def end_when_orphaned():
    while sys.stdin.readline():
        pass
    os._exit(9)


def main():
    signal.signal(signal.SIGINT, signal.default_int_handler)
    envelope = json.loads(sys.stdin.readline())
    threading.Thread(target=end_when_orphaned, daemon=True).start()
    task, core = envelope["task"], envelope["core"]
    seed = task["seed"]
    if seed == 10:
        return "no module named ravine"
    say(event="begun")
    if seed == 5:
        signal.signal(signal.SIGINT, signal.SIG_IGN)
    kept = bytearray(200 * 2**20) if seed == 7 else b""
    first = not (PLACE / f"attempt-{seed}").exists()
    (PLACE / f"attempt-{seed}").write_text(str(os.getpid()))
    try:
        say(event="row", row={"step": 0, "loss": 1.0, "seconds": 0.0, "parent": os.getppid()})
        if seed in (4, 5, 7) or (seed == 8 and first):
            time.sleep(60)
    except KeyboardInterrupt:
        finish(task, core, "interrupted")
        return len(kept) and 0
    if seed == 1:
        return "out of coffee"
    if seed == 2:
        os.kill(os.getpid(), signal.SIGKILL)
    elif seed == 3:
        say(event="refused", reason="A needs B.")
        return 2
    elif seed == 6:
        print("noise")
        sys.stdout.write('{"event": "ro')
        sys.stdout.flush()
        os._exit(7)
    finish(task, core, "budget")
    return 0


if __name__ == "__main__":
    sys.exit(main())
