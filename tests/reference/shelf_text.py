#!/usr/bin/env python3
"""What rapidocr-onnxruntime reads off shelves: the reference for the agent's recogniser shelf-text (same models).

One JSON line a photo: {"photo", "words": [{"text", "confidence", "box"}], "seconds"}.
`deploy/setup.sh python --ocr` prints the path of a Python that has what is needed.
"""

import argparse
import json
import time
from pathlib import Path

from rapidocr_onnxruntime import RapidOCR

from grocery81 import photos


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="the folder with the photos")
    parser.add_argument("--threads", type=int, default=1, help="threads that work on one photo")
    parser.add_argument("--longer-side", type=int, default=1280, help="the detector's picture, in pixels")
    parser.add_argument("--no-turned", action="store_true", help="without the model for lines on their head")
    arguments = parser.parse_args()

    reader = RapidOCR(
        intra_op_num_threads=arguments.threads,
        inter_op_num_threads=1,
        max_side_len=arguments.longer_side,
        use_cls=not arguments.no_turned,
    )
    for path in photos(arguments.folder):
        begun = time.perf_counter()
        found, _ = reader(str(path))
        seconds = time.perf_counter() - begun
        words = [
            {"text": text, "confidence": round(float(confidence), 4), "box": [[round(x), round(y)] for x, y in box]}
            for box, text, confidence in found or []
        ]
        print(json.dumps({"photo": path.name, "words": words, "seconds": round(seconds, 3)}, ensure_ascii=False))


if __name__ == "__main__":
    main()
