#!/usr/bin/env python3
"""Runs one of the agent's recognisers on a folder of photos, in one process, as the agent does.

One JSON line a photo: {"photo", "ok"} or {"photo", "error"}. With --bench, one line with photos per second instead.
With --against PYTHON it takes turns with grocery81.py under that Python and prints both medians and spreads.
Needs nothing but Python's own library.
"""

import argparse
import json
import statistics
import struct
import subprocess
import sys
import time
from pathlib import Path

HERE = Path(__file__).resolve().parent
HEADER = struct.Struct("<I")
MAX_PHOTO_BYTES = 20 * 1024 * 1024
MAX_PIXELS = 50_000_000


class Recogniser:
    """The process and its frames: a length of four bytes, then JSON."""

    def __init__(self, agent: Path, folder: Path, threads: int):
        command = [agent, "recognise", "--recogniser", folder, "--threads", str(threads)]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        said = self._read()
        if "ready" not in said:
            sys.exit(f"the recogniser cannot work: {said['fatal']['message']}")
        self.load_ms = said["ready"]["load_ms"]

    def _read(self) -> dict:
        header = self.process.stdout.read(HEADER.size)
        if len(header) < HEADER.size:
            sys.exit("the recogniser's process ended")
        return json.loads(self.process.stdout.read(HEADER.unpack(header)[0]))

    def ask(self, photo: Path) -> dict:
        request = {"id": 1, "path": str(photo), "max_photo_bytes": MAX_PHOTO_BYTES, "max_pixels": MAX_PIXELS}
        body = json.dumps(request).encode()
        self.process.stdin.write(HEADER.pack(len(body)) + body)
        self.process.stdin.flush()
        reply = self._read()["reply"]
        del reply["id"]
        return reply

    def close(self) -> None:
        self.process.stdin.close()
        self.process.wait()


def photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def speed(recogniser: Recogniser, files: list[Path]) -> float:
    recogniser.ask(files[0])
    begun = time.perf_counter()
    for path in files:
        recogniser.ask(path)
    return len(files) / (time.perf_counter() - begun)


def compare(arguments: argparse.Namespace, files: list[Path]) -> None:
    figures = {"agent": [], "python": []}
    for _ in range(arguments.runs):
        recogniser = Recogniser(arguments.agent, arguments.recogniser, arguments.threads)
        figures["agent"].append(speed(recogniser, files))
        recogniser.close()
        command = [arguments.against, HERE / "grocery81.py", arguments.folder, "--bench"]
        output = subprocess.run([*command, "--threads", str(arguments.threads)], capture_output=True, check=True)
        figures["python"].append(json.loads(output.stdout)["photos_per_s"])
    said = {"photos": len(files), "threads": arguments.threads, "runs": arguments.runs}
    for who, runs in figures.items():
        low, middle, high = min(runs), statistics.median(runs), max(runs)
        said[who] = {"median": round(middle, 2), "least": round(low, 2), "most": round(high, 2)}
    said["ratio"] = round(said["agent"]["median"] / said["python"]["median"], 3)
    print(json.dumps(said))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the photos")
    parser.add_argument("--agent", type=Path, required=True, help="the binary rebound-agent")
    parser.add_argument("--recogniser", type=Path, default=HERE.parent.parent / "agent" / "recognisers" / "grocery81")
    parser.add_argument("--threads", type=int, default=1, help="threads that work on one photo")
    parser.add_argument("--bench", action="store_true", help="print photos per second only")
    parser.add_argument("--against", type=Path, metavar="PYTHON", help="take turns with grocery81.py under this Python")
    parser.add_argument("--runs", type=int, default=5, help="turns, with --against")
    arguments = parser.parse_args()

    files = photos(arguments.folder)
    if not files:
        parser.error(f"no photos in {arguments.folder}")
    if arguments.against:
        return compare(arguments, files)
    recogniser = Recogniser(arguments.agent, arguments.recogniser, arguments.threads)
    if arguments.bench:
        figures = {"photos": len(files), "threads": arguments.threads, "load_ms": recogniser.load_ms}
        print(json.dumps(figures | {"photos_per_s": round(speed(recogniser, files), 2)}))
    else:
        for path in files:
            print(json.dumps({"photo": path.name, **recogniser.ask(path)}, ensure_ascii=False))
    recogniser.close()


if __name__ == "__main__":
    main()
