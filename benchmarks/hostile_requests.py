"""Requests that a server has to refuse or answer without failing, for `fuzz_server`.

Each is the bytes of a whole HTTP request, a function of seed and number.
"""

import base64
import gzip
import json
import random
import struct
import zlib
from collections.abc import Callable, Mapping

from benchmarks import fuzz_reader

MODELS = ("classification", "segmentation")


def http(method: str, path: str, body: bytes = b"", **headers: str) -> bytes:
    """The bytes of a request; underscores in names of headers become hyphens."""
    fields = {"Host": "localhost", "Connection": "close", "Content-Length": str(len(body))}
    fields |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = [f"{method} {path} HTTP/1.1", *(f"{k}: {v}" for k, v in fields.items()), "", ""]
    return "\r\n".join(lines).encode("utf-8", "surrogateescape") + body


def predict(model: str, body: bytes) -> bytes:
    return http("POST", f"/v1/models/{model}:predict", body, Content_Type="application/json")


def b64(contents: bytes) -> dict:
    return {"b64": base64.b64encode(contents).decode()}


def chunk(kind: bytes, content: bytes) -> bytes:
    crc = struct.pack(">I", zlib.crc32(kind + content))
    return struct.pack(">I", len(content)) + kind + content + crc


def png(height: int, width: int, depth: int = 8, content: bytes = b"") -> bytes:
    """A PNG that claims this size; its pixels are the zlib stream `content`."""
    header = struct.pack(">IIBBBBB", width, height, depth, 0, 0, 0, 0)
    parts = chunk(b"IHDR", header), chunk(b"IDAT", content), chunk(b"IEND", b"")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


class Hostile:
    """Makes requests.

    Args:
        seed: Seed of the requests.
        image: A good PNG to damage.
    """

    def __init__(self, seed: int, image: bytes):
        self._seed, self._image = seed, image
        self._files = fuzz_reader.seeds()
        self._bomb = gzip.compress(bytes(200 << 20), 1)
        self._zeros = zlib.compress(bytes(64 << 20), 9)
        self.kinds: Mapping[str, Callable[[random.Random], bytes]] = {
            "json": self._json,
            "values": self._values,
            "images": self._images,
            "paths": self._paths,
            "http": self._http,
            "dicom": self._dicom,
            "forms": self._forms,
            "gzip": self._gzip,
            "bombs": self._bombs,
        }

    def request(self, number: int) -> tuple[str, bytes]:
        """The kind and the bytes of a request; bombs are rare, because each is expensive."""
        rng = random.Random(f"{self._seed} {number}")
        weights = [1 if kind == "bombs" else 20 for kind in self.kinds]
        (kind,) = rng.choices(list(self.kinds), weights)
        return kind, self.kinds[kind](rng)

    def _json(self, rng: random.Random) -> bytes:
        """JSON that is damaged, deep, doubled, or none."""
        good = json.dumps({"instances": [{"image_bytes": b64(self._image[:300])}]}).encode()
        deep = rng.choice((100, 10_000, 1_000_000))
        body = rng.choice(
            (
                fuzz_reader.mutate(good, 0, len(good), good, rng),
                fuzz_reader.mutate(good, 0, 60, good, rng),
                b'{"instances": ' + b"[" * deep,
                b'{"instances": ' + b"[" * deep + b"]" * deep + b"}",
                b'{"a":' * deep + b"1" + b"}" * deep,
                b"\xef\xbb\xbf" + good,
                good.decode().encode("utf-16"),
                b'{"instances": [1], "instances": [2]}',
                b'{"instances": [' + b"9" * rng.choice((400, 5000)) + b"]}",
                b'{"instances": ["\\ud800"]}',
                b"\xff\xfe\x00",
                b"",
                b"null",
                b"[]",
                b'"instances"',
                rng.randbytes(200),
            )
        )
        return predict(rng.choice(MODELS), body)

    def _values(self, rng: random.Random) -> bytes:
        """JSON of a wrong form, dtype or shape."""
        value = rng.choice(
            (
                [[1.0, 2.0], [3.0]],
                [[[[1.0]], [[2.0], [3.0]]]],
                [[[["a"]]]],
                [[[[None]]]],
                [[[[True]]]],
                [[[[1e400]]]],
                [[[[10**30]]]],
                [[[[[1.0]]]]],
                [[[[1.0, 2.0]]]],
                [[[]]],
                [[]],
                [],
                {},
                1,
                "a",
                None,
                [[[[float("nan")]]]],
                [[[[0.0]] * rng.choice((1, 3000))]],
                b64(self._image),
                {"b64": "%%%"},
                {"b64": 1},
                {"b64": "", "more": 1},
                [b64(self._image), "text", b64(b"")],
            )
        )
        name = rng.choice(("image", "image_bytes", "image", "nothing", "", "__proto__"))
        form = rng.choice(
            (
                {"instances": [{name: value}]},
                {"instances": value},
                {"instances": [value, {name: value}]},
                {"inputs": {name: value}},
                {"inputs": value},
                {"inputs": value, "instances": value},
                {name: value},
                {"instances": [{name: value}] * 300},
            )
        )
        signature = rng.choice(
            (None, "serving_default", "serving_image", "serving_image", "none", 1, {}, "")
        )
        if signature is not None:
            form = {"signature_name": signature, **form}
        return predict(rng.choice(MODELS), json.dumps(form).encode())

    def _images(self, rng: random.Random) -> bytes:
        """Damaged images, among good ones in the same request or alone."""
        good = self._image
        bad = rng.choice(
            (
                fuzz_reader.mutate(good, 0, len(good), good, rng),
                fuzz_reader.mutate(good, 0, 40, good, rng),
                good[: rng.randrange(len(good))],
                png(8, 8, depth=16, content=zlib.compress(bytes(136))),
                png(rng.choice((0, 1, 60_000, 2**31 - 1)), rng.choice((0, 1, 60_000, 2**31 - 1))),
                b"\xff\xd8\xff" + rng.randbytes(rng.choice((0, 30, 3000))),
                b"GIF89a" + struct.pack("<HH", 65535, 65535) + bytes(20),
                b"BM" + bytes(60),
                b"RIFF\x10\0\0\0WEBPVP8 ",
                rng.randbytes(64),
                b"",
            )
        )
        instances = [{"image_bytes": b64(image)} for image in rng.choice(((bad,), (good, bad)))]
        return predict(rng.choice(MODELS), json.dumps({"instances": instances}).encode())

    def _paths(self, rng: random.Random) -> bytes:
        """Paths that lead out of the repository, to no version, or nowhere."""
        up = rng.choice(("..", "%2e%2e", "..%2f..", "%2e%2e%2fetc%2fpasswd", "..\\..", "%c0%ae"))
        name = rng.choice(
            (
                up,
                f"{up}/{up}/etc/passwd",
                f"{MODELS[0]}/{up}/{MODELS[1]}",
                "/etc/passwd",
                "%00",
                f"{MODELS[0]}%00",
                "a" * rng.choice((300, 5000, 60_000)),
                "%",
                "%zz",
                "é\udcff",
                " ",
                ".",
                "",
                "*",
                "$(id)",
                "%0d%0aSet-Cookie:a=b",
                MODELS[0],
            )
        )
        part = rng.choice(("", "/versions/", "/labels/", "/metadata", "/dicom", "//", "/versions"))
        if part in ("/versions/", "/labels/"):
            part += rng.choice(
                ("0", "-1", "9" * 25, "1e3", "..", "٣", "stable", "1/versions/1", "")
            )
        end = rng.choice((":predict", ":predict", ":classify", ":regress", ":", "::", "", "?a=b"))
        method = rng.choice(("GET", "POST", "POST", "PUT", "DELETE", "HEAD", "OPTIONS", "BREW"))
        root = rng.choice(("/v1/models/", "/v1/models/", "/v2/models/", "/static/", "//v1/models/"))
        return http(method, f"{root}{name}{part}{end}", b"{}" if method == "POST" else b"")

    def _http(self, rng: random.Random) -> bytes:
        """Malformed HTTP, or a false length of the body."""
        path, body = f"/v1/models/{rng.choice(MODELS)}:predict", b'{"instances": [1]}'
        good = http("POST", path, body)
        return rng.choice(
            (
                rng.randbytes(300),
                fuzz_reader.mutate(good, 0, len(good), good, rng),
                http("POST", path, body, Content_Length=rng.choice(("-1", "x", "", "9" * 30))),
                http("POST", path, body, Content_Length=str(2**40)),
                http("POST", path, body, Transfer_Encoding="chunked"),
                http(
                    "POST", path, b"fffffffff\r\n", Transfer_Encoding="chunked", Content_Length=""
                ),
                http("POST", path, body, Content_Encoding=rng.choice(("gzip", "br", "gzip, gzip"))),
                http("POST", path, body, Transfer_Encoding="chunked", Content_Length="3"),
                http("POST", path, body, Host=rng.choice(("evil.example", "[::1", "\udcff"))),
                http("POST", path, body, Origin=rng.choice(("http://evil.example", "null"))),
                http("POST", path, body, Content_Type="x" * 5000),
                http("POST", path, body, Expect="100-continue"),
                http("POST", path, body, Authorization="Bearer \udcff\udcfe"),
                http("GET", "/metrics", b"", Accept="\udcff"),
                http("GET", "/", b"", **{f"X-{k}": "y" * 900 for k in range(100)}),
                http("POST", path, body, Host=""),
                b"POST " + path.encode() + b"\r\n\r\n",
                b"\r\n" * 20,
                b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + rng.randbytes(100),
                b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
            )
        )

    def _gzip(self, rng: random.Random) -> bytes:
        """Compressed bodies: good, cut, damaged, with more behind, or too long."""
        good = json.dumps({"instances": [{"image_bytes": b64(self._image)}]}).encode()
        packed = gzip.compress(good)
        body = rng.choice(
            (
                packed,
                packed[: rng.randrange(len(packed))],
                fuzz_reader.mutate(packed, 0, len(packed), packed, rng),
                packed + packed,
                packed + b"more",
                gzip.compress(packed),
                self._bomb,
                b"",
            )
        )
        return http(
            "POST", f"/v1/models/{rng.choice(MODELS)}:predict", body, Content_Encoding="gzip"
        )

    def _dicom(self, rng: random.Random) -> bytes:
        """Mutations of DICOM files of every transfer syntax; odd frames, types, wishes."""
        _, content = fuzz_reader.mutation(rng.randrange(1 << 30), self._seed, self._files)
        frame = rng.choice(("", "", "", "?frame=0", "?frame=99999", "?frame=-1", "?frame=x"))
        types = ("application/dicom",) * 5 + ("image/png", "image/jpeg", "text/plain", "\udcff")
        accept = ("application/json", "application/dicom", "image/png", "*/*", "text/html", ";q=")
        return http(
            "POST",
            f"/v1/models/{rng.choice(MODELS)}/dicom{frame}",
            content,
            Content_Type=rng.choice(types),
            Accept=rng.choice(accept),
        )

    def _forms(self, rng: random.Random) -> bytes:
        """Forms with a file: damaged, twice, none, or with a boundary that never comes."""
        _, content = fuzz_reader.mutation(rng.randrange(1 << 30), self._seed, self._files)
        name = rng.choice(('"; filename="../../a"', '"; filename="\udcff"', "", '"; filename=""'))
        part = f'--x\r\nContent-Disposition: form-data; name="file{name}"\r\n\r\n'
        part = part.encode("utf-8", "surrogateescape") + content + b"\r\n"
        whole = part + b"--x--\r\n"
        body = rng.choice((whole, whole, whole, part, part * 2 + whole, b"--x--\r\n", b""))
        body = fuzz_reader.mutate(body, 0, 90, body, rng) if body and rng.random() < 0.3 else body
        kinds = ("multipart/form-data; boundary=x",) * 9 + (
            "multipart/form-data",
            "multipart/form-data; boundary=" + "x" * 3000,
            'multipart/form-data; boundary="',
        )
        path = f"/v1/models/{rng.choice(MODELS)}/dicom"
        return http("POST", path, body, Content_Type=rng.choice(kinds))

    def _bombs(self, rng: random.Random) -> bytes:
        """Small requests that would become large, and large ones."""
        head = next(f.content for f in self._files if f.syntax == "DeflatedExplicitVRLittleEndian")
        end = 144 + int.from_bytes(head[140:144], "little")
        deflated = zlib.compressobj(9, wbits=-15)
        packed = b"".join(deflated.compress(bytes(1 << 20)) for _ in range(200)) + deflated.flush()
        dicom = f"/v1/models/{rng.choice(MODELS)}/dicom"
        image = rng.choice((png(8191, 8191, 8, self._zeros), png(2048, 2048, 8, self._zeros)))
        return rng.choice(
            (
                http("POST", dicom, head[:end] + packed, Content_Type="application/dicom"),
                http("POST", dicom, image, Content_Type="image/png"),
                http("POST", dicom, bytes(65 << 20), Content_Type="application/dicom"),
                predict(MODELS[0], json.dumps({"instances": [b64(image)]}).encode()),
                predict(MODELS[0], b'{"instances": [' + b"0," * (4 << 20) + b"0]}"),
                predict(MODELS[0], b'{"instances": [' + b"[]," * (2 << 20) + b"0]}"),
                predict(MODELS[0], b" " * (70 << 20)),
                predict(MODELS[0], b'{"instances": ["' + b"a" * (50 << 20) + b'"]}'),
            )
        )
