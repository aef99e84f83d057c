#!/usr/bin/env python3
"""Ask a model server about PNG and JPEG files; works with TensorFlow Serving and tf-dicom-ce serve.

    python client.py segmentation image.png
    python client.py classification a.png b.jpg --url http://127.0.0.1:8501 --version 3
    python client.py segmentation image.png --mask mask.pgm
    python client.py segmentation --selftest segmentation/1

Needs Python's standard library only. TF_DICOM_CE_SERVE_TOKEN in the environment is sent as bearer
token.
"""

import argparse
import base64
import json
import math
import os
import sys
import urllib.error
import urllib.parse
import urllib.request
from pathlib import Path

TOLERANCE = 1e-4  # of --selftest
FAMILIAR = 0.5  # the threshold of every head that tells how familiar an image is


def main() -> int:
    """Runs the command; 0, 1 where a selftest fails, 2 where there is no answer."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("model", help="name of the model: classification, segmentation, encoder")
    add("files", nargs="*", type=Path, metavar="IMAGE", help="PNG or JPEG, 8 bits a sample")
    add("--url", default="http://127.0.0.1:8501", help="the server (default: %(default)s)")
    add("--version", type=int, metavar="N", help="of the model (default: the newest)")
    add("--timeout", type=float, default=60, metavar="SECONDS", help="default: %(default)s")
    add(
        "--mask",
        type=Path,
        metavar="PGM",
        help="write the mask of the only image at the model's size, one gray a class",
    )
    add(
        "--selftest",
        type=Path,
        metavar="DIR",
        help="folder of a version: are the server's answers to its golden inputs those at export?",
    )
    options = parser.parse_args()
    if bool(options.files) == bool(options.selftest):
        parser.error("give images, or --selftest DIR")
    if options.mask and len(options.files) != 1:
        parser.error("--mask: give one image")
    try:
        return selftest(options) if options.selftest else predict(options)
    except (OSError, RuntimeError, ValueError) as error:
        print(f"client.py: {error}", file=sys.stderr)
        return 2


def predict(options: argparse.Namespace) -> int:
    """Prints one line of JSON for each image, and a warning where it is not familiar."""
    instances = [
        {"image_bytes": {"b64": base64.b64encode(path.read_bytes()).decode()}}
        for path in options.files
    ]
    body = {"instances": instances}
    signatures = ask(options, "/metadata")["metadata"]["signature_def"]["signature_def"]
    if is_mask := "serving_mask" in signatures:  # which an older export lacks
        body["signature_name"] = "serving_mask"
    predictions = ask(options, ":predict", body)["predictions"]
    for path, answer in zip(options.files, predictions, strict=True):
        answer = {"mask": answer} if is_mask and isinstance(answer, list) else answer
        print(json.dumps({"file": str(path), **summary(answer)}))
        if answer.get("familiarity", 1) < FAMILIAR:
            words = "not like the images that the model was trained on; do not rely on the answer"
            print(f"client.py: {path}: {words}", file=sys.stderr)
        if options.mask:
            write_mask(options.mask, answer["mask"])
    return 0


def summary(answer: dict) -> dict:
    """A classifier's answer; of others the shapes, and of a mask the number of pixels by class."""
    if "class_id" in answer:
        return answer
    result = {
        name: {"shape": shape(value)} if isinstance(value, list) else value
        for name, value in sorted(answer.items())
    }
    if "mask" in answer:
        pixels = [pixel for row in answer["mask"] for pixel in row]
        result["pixels"] = {str(k): pixels.count(k) for k in sorted(set(pixels))}
    return result


def write_mask(path: Path, mask: list[list[int]]) -> None:
    """Writes a mask as PGM, classes spread over 0 to 255."""
    step = 255 // max(1, max(map(max, mask)))
    rows = "\n".join(" ".join(str(step * pixel) for pixel in row) for row in mask)
    path.write_text(f"P2 {len(mask[0])} {len(mask)} 255\n{rows}\n")


def selftest(options: argparse.Namespace) -> int:
    """Prints the largest difference from the answers at export; 1 if it is not the same model."""
    largest = 0.0
    for case in json.loads((options.selftest / "assets.extra" / "golden.json").read_text()):
        body = {"signature_name": case["signature"], "inputs": case["inputs"]}
        outputs = ask(options, ":predict", body)["outputs"]
        for name, golden in case["answers"].items():
            found = sample(outputs[name], case.get("samples", 256))  # 256 before files said so
            largest = max(largest, difference(golden, found))
    same = largest <= TOLERANCE
    print(f"{options.model}: largest difference {largest:.2g},", "ok" if same else "NOT the same")
    return 0 if same else 1


def ask(options: argparse.Namespace, what: str, body: dict | None = None) -> dict:
    """Sends one request about the model."""
    version = f"/versions/{options.version}" if options.version is not None else ""
    name = urllib.parse.quote(options.model, safe="")
    headers = {"Content-Type": "application/json"}
    if token := os.environ.get("TF_DICOM_CE_SERVE_TOKEN"):
        headers["Authorization"] = f"Bearer {token}"
    request = urllib.request.Request(
        f"{options.url.rstrip('/')}/v1/models/{name}{version}{what}",
        body and json.dumps(body).encode(),
        headers,
    )
    try:
        with urllib.request.urlopen(request, timeout=options.timeout) as response:
            return json.load(response)
    except urllib.error.HTTPError as error:
        text = error.read().decode(errors="replace")
        try:
            text = json.loads(text)["error"]
        except (ValueError, KeyError, TypeError):
            text = text[:500]
        raise RuntimeError(f"HTTP {error.code}: {text}") from None


def shape(value: object) -> list[int]:
    """The lengths of a nested list, outermost first."""
    return [len(value), *shape(value[0])] if isinstance(value, list) and value else []


def flatten(value: object) -> list:
    """The numbers of a nested list, in order."""
    if not isinstance(value, list):
        return [value]
    return [number for part in value for number in flatten(part)]


def sample(answer: list, most: int) -> list:
    """At most so many numbers, evenly spread, as golden.json has them."""
    flat = flatten(answer)
    count = min(len(flat), most)
    return [flat[k * len(flat) // count] for k in range(count)]


def difference(golden: list, found: list) -> float:
    """Of classes the share that differs; of numbers the largest distance, relative above 1."""
    if len(golden) != len(found) or not all(map(math.isfinite, found)):
        return math.inf
    if all(isinstance(number, int) for number in golden):
        return sum(a != b for a, b in zip(golden, found, strict=True)) / len(golden)
    largest = max(abs(a - b) for a, b in zip(golden, found, strict=True))
    return largest / max(1.0, *map(abs, golden))


if __name__ == "__main__":
    sys.exit(main())
