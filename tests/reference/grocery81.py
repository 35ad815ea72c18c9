#!/usr/bin/env python3
"""What the classifier grocery81 says in plain Python: the reference for the agent's recogniser.

One JSON line a photo: {"photo", "label", "p"}. With --bench, one line with photos per second instead.
`deploy/setup.sh python` prints the path of a Python that has what is needed (requirements.txt beside this file).
"""

import argparse
import json
import time
from pathlib import Path

import numpy as np
import onnxruntime
from PIL import Image, ImageOps

HERE = Path(__file__).resolve().parent
RECOGNISER = HERE.parent.parent / "agent" / "recognisers" / "grocery81"
SHORTER_SIDE = 256
CUT = 224


def prepare(path: Path) -> np.ndarray:
    """The photo as the model was trained on."""
    with Image.open(path) as opened:
        photo = ImageOps.exif_transpose(opened).convert("RGB")
    width, height = photo.size
    if width <= height:
        size = (SHORTER_SIDE, SHORTER_SIDE * height // width)
    else:
        size = (SHORTER_SIDE * width // height, SHORTER_SIDE)
    photo = photo.resize(size, Image.BICUBIC)
    left, top = (size[0] - CUT) // 2, (size[1] - CUT) // 2
    photo = photo.crop((left, top, left + CUT, top + CUT))
    values = (np.asarray(photo, np.float32) - 127.0) / 128.0
    return np.ascontiguousarray(values.transpose(2, 0, 1)[None])


def load(recogniser: Path, threads: int):
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(
        str(recogniser / "grocery81_lite0.onnx"), options, providers=["CPUExecutionProvider"]
    )
    labels = (recogniser / "labels.txt").read_text(encoding="utf-8").split("\n")
    return session, [label.strip() for label in labels if label.strip()]


def photos(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in (".jpg", ".jpeg", ".png", ".webp"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the photos")
    parser.add_argument("--recogniser", type=Path, default=RECOGNISER)
    parser.add_argument("--threads", type=int, default=1, help="threads that work on one photo")
    parser.add_argument("--bench", action="store_true", help="print photos per second only")
    arguments = parser.parse_args()

    session, labels = load(arguments.recogniser, arguments.threads)
    files = photos(arguments.folder)
    if not files:
        parser.error(f"no photos in {arguments.folder}")
    if arguments.bench:
        session.run(["prob"], {"image": prepare(files[0])})
    begun = time.perf_counter()
    for path in files:
        probabilities = session.run(["prob"], {"image": prepare(path)})[0][0]
        if not arguments.bench:
            best = int(probabilities.argmax())
            print(json.dumps({"photo": path.name, "label": labels[best], "p": round(float(probabilities[best]), 4)}))
    seconds = time.perf_counter() - begun
    if arguments.bench:
        figures = {"photos": len(files), "threads": arguments.threads, "photos_per_s": round(len(files) / seconds, 2)}
        print(json.dumps(figures | {"onnxruntime": onnxruntime.__version__}))


if __name__ == "__main__":
    main()
