"""What a run of cargo-mutants came to, also one that was stopped: killed, survived, and the survivors by name."""

import pathlib
import sys


def lines(folder: pathlib.Path, name: str) -> list[str]:
    """The changes with one outcome; none while there is no such file."""
    path = folder / f"{name}.txt"
    return path.read_text().splitlines() if path.exists() else []


def main() -> None:
    folder = pathlib.Path(sys.argv[1])
    caught, timed_out = lines(folder, "caught"), lines(folder, "timeout")
    missed, unviable = lines(folder, "missed"), lines(folder, "unviable")
    killed = len(caught) + len(timed_out)
    tried = killed + len(missed)
    share = f"{100 * killed / tried:.1f} %" if tried else "none tried"
    print(f"mutants: {killed} of {tried} killed ({share}), {len(timed_out)} of them by time; {len(unviable)} do not compile")
    for one in missed:
        print(f"  survived: {one}")


main()
