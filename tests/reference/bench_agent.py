#!/usr/bin/env python3
"""Photos per second of one agent in a cluster beside plain Python onnxruntime: same photos, model and threads, runs
that take turns. The agent's time runs from the first submit to the last result seen by the client, with the server
on the same machine; Python's from its first photo to its last. Prints one JSON object."""

import argparse
import json
import os
import statistics
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
ROOT = HERE.parent.parent


def agent(args) -> float:
    command = [args.rebound, "dev", "--servers", "1", "--workers", "1", "--slots", "1", "--photos", args.photos,
               "--recogniser", "grocery81", "--recognisers", ROOT / "agent/recognisers", "--burst", str(args.burst),
               "-o", "json"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"rebound dev failed: {done.stderr}")
    return json.loads(done.stdout)["photos_per_s"]


def python(args) -> float:
    command = [args.python, HERE / "grocery81.py", "--bench", "--threads", "1", args.photos]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    if done.returncode != 0:
        sys.exit(f"the reference failed: {done.stderr}")
    return json.loads(done.stdout)["photos_per_s"]


def main():
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "rebound"
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rebound", required=True)
    parser.add_argument("--photos", required=True)
    parser.add_argument("--python", default=str(cache / "python/bin/python"))
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--burst", type=int, default=193)
    args = parser.parse_args()
    if not Path(args.photos).is_dir():
        sys.exit(f"{args.photos} is no folder; name one of photos with PHOTOS=DIR")
    turns = [(agent(args), python(args)) for _ in range(args.runs)]
    agents, pythons = zip(*turns)
    ratios = [one / other for one, other in turns]
    print(json.dumps({
        "runs": args.runs,
        "agent_photos_per_s": {"median": statistics.median(agents), "all": agents},
        "python_photos_per_s": {"median": statistics.median(pythons), "all": pythons},
        "ratio": {"median": round(statistics.median(ratios), 3), "min": round(min(ratios), 3),
                  "max": round(max(ratios), 3)},
    }))


if __name__ == "__main__":
    main()
