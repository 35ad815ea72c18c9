"""What cargo-mutants came to, also when it was stopped: killed, survived, and the survivors by name.

The first folder is of the core's own tests, the second of the simulator's on what those had missed.
"""

import pathlib
import sys


def lines(folder: pathlib.Path, name: str) -> list[str]:
    """The changes with one outcome; none while there is no such file."""
    path = folder / f"{name}.txt"
    return path.read_text().splitlines() if path.exists() else []


def killed(folder: pathlib.Path) -> tuple[int, int]:
    """How many were noticed, and how many of them because the tests took too long."""
    by_time = len(lines(folder, "timeout"))
    return len(lines(folder, "caught")) + by_time, by_time


def main() -> None:
    core, sim = pathlib.Path(sys.argv[1]), pathlib.Path(sys.argv[2])
    by_core, slow_core = killed(core)
    by_sim, slow_sim = killed(sim)
    judged = by_sim + len(lines(sim, "missed")) + len(lines(sim, "unviable"))
    unjudged = len(lines(core, "missed")) - judged
    tried = by_core + by_sim + len(lines(sim, "missed"))
    share = f"{100 * (by_core + by_sim) / tried:.1f} %" if tried else "none tried"
    print(f"mutants: {by_core + by_sim} of {tried} killed ({share}): {by_core} by the core's tests, {by_sim} by the simulator")
    print(f"  {slow_core + slow_sim} of them by time; {len(lines(core, 'unviable'))} do not compile; {unjudged} not shown to the simulator")
    for one in lines(sim, "missed"):
        print(f"  survived: {one}")


main()
