"""The page's files as they are served."""

import re
from pathlib import Path

import anyio
import httpx
import pytest
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving import pages
from tf_dicom_ce.serving.settings import Settings

STATIC = Path(pages.__file__).with_name("static")


def get(path):
    def refuse(request, error):
        return PlainTextResponse(error.message, error.status)

    async def ask():
        app = Starlette(routes=pages.routes(Settings()), exception_handlers={RequestError: refuse})
        async with httpx.AsyncClient(transport=httpx.ASGITransport(app)) as client:
            return await client.get(f"http://server{path}")

    return anyio.run(ask)


@pytest.mark.parametrize("path", ["/", *(f"/static/{file.name}" for file in STATIC.iterdir())])
def test_files(path):
    response = get(path)
    assert response.text == (STATIC / (path.rpartition("/")[2] or "index.html")).read_text()
    kind = {".js": "text/javascript", ".css": "text/css"}.get(Path(path).suffix, "text/html")
    assert response.headers["content-type"] == f"{kind}; charset=utf-8"
    policy = response.headers["content-security-policy"]
    assert policy.startswith("default-src 'none'; ")
    assert "unsafe" not in policy and "http" not in policy
    assert response.headers["x-content-type-options"] == "nosniff"


@pytest.mark.parametrize("name", ["nothing.js", "..%2fapp.py", "%2e%2e%2fapp.py", ""])
def test_nothing_else(name):
    assert get(f"/static/{name}").status_code == 404


def test_everything_is_here():
    """No file names another host, and all that one names exists."""
    ids = set(re.findall(r'id="([^"]+)"', (STATIC / "index.html").read_text()))
    for file in STATIC.iterdir():
        text = file.read_text()
        assert "//" not in text.replace("// ", "").replace("https://", "<host>//"), file
        assert set(re.findall(r'\$\("([^"]+)"\)', text)) <= ids
        for name in re.findall(r'"(?:static|\.)/([^"]+)"', text):
            assert (STATIC / name).is_file()
