"""The description agrees with the routes, and the page with the description."""

import asyncio
import html.parser
import re

import httpx
import pytest

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.app import create_app
from tf_dicom_ce.serving.settings import Settings


class Nothing:
    """A repository without a model."""

    ready = False

    def newest(self):
        return {}

    def status(self, name, version=None):
        raise RequestError(404, "none")

    get = status


@pytest.fixture
def app():
    return create_app(Nothing(), Settings(max_body=12345))


def ask(app, path, method="GET", headers=None):
    async def answer():
        transport = httpx.ASGITransport(app)
        async with httpx.AsyncClient(transport=transport, base_url="http://localhost") as client:
            return await client.request(method, path, headers=headers)

    return asyncio.run(answer())


def described(app, **headers):
    return ask(app, "/openapi.json", headers=headers).json()


def test_every_route_is_described_and_there_are_no_others(app):
    document = described(app)
    assert re.fullmatch(r"3\.1\.\d", document["openapi"])
    found = {(path, method.upper()) for path, item in document["paths"].items() for method in item}
    routes = {
        (route.path_format, method) for route in app.routes for method in route.methods - {"HEAD"}
    }
    assert found == routes


def test_references_and_parameters_resolve(app):
    document = described(app)
    components = document["components"]
    used = set(re.findall(r"'#/components/(\w+/\w+)'", str(document)))
    assert used == {f"{kind}/{name}" for kind, of in components.items() for name in of}
    for status, response in components["responses"].items():
        assert response["content"]["application/json"]["schema"]["$ref"].endswith("/Error")
        assert 400 <= int(status) < 600
    for path, item in document["paths"].items():
        for operation in item.values():
            given = [components["parameters"][last(one)] for one in operation["parameters"]]
            named = {one["name"] for one in given if one["in"] == "path"}
            assert named == set(re.findall(r"{(\w+)}", path))
            assert operation["summary"] and "200" in operation["responses"]
            for status, response in operation["responses"].items():
                assert status == "200" or last(response) == status


def last(reference):
    return reference["$ref"].rpartition("/")[2]


def test_limits_and_token_are_told(app):
    document = described(app)
    assert "12345 bytes" in document["info"]["description"]
    assert "security" not in document
    protected = create_app(Nothing(), Settings(tokens={"reader": "s3cret"}))
    document = described(protected, Authorization="Bearer s3cret")
    assert document["security"] == [{"token": []}]
    assert document["components"]["securitySchemes"]["token"]["scheme"] == "bearer"
    open_paths = {
        path
        for path, item in document["paths"].items()
        if any(operation.get("security") == [] for operation in item.values())
    }
    assert "s3cret" not in str(document)
    for path, item in document["paths"].items():
        address = re.sub(r"{\w+}", "a", path.replace("{version}", "1"))
        status = ask(protected, address, next(iter(item))).status_code
        assert (status != 401) == (path in open_paths), path


class Page(html.parser.HTMLParser):
    def __init__(self, text):
        super().__init__()
        self.tags, self.ids, self.links, self.sources, self.text = [], [], [], [], ""
        self.feed(text)

    def handle_starttag(self, tag, attributes):
        attributes = dict(attributes)
        self.tags.append((tag, attributes))
        self.ids += [attributes["id"]] if "id" in attributes else []
        self.links += [attributes["href"]] if "href" in attributes else []
        self.sources += [attributes["src"]] if "src" in attributes else []

    def handle_data(self, data):
        self.text += data


def test_page(app):
    response = ask(app, "/docs")
    assert response.headers["content-type"].startswith("text/html")
    assert "default-src 'none'" in response.headers["content-security-policy"]
    page = Page(response.text)
    document = described(app)
    for path, item in document["paths"].items():
        for method, operation in item.items():
            assert f"{method.upper()} {path}" in page.text
            assert operation["summary"] in page.text
    assert set(document["components"]["schemas"]) <= set(page.ids)
    # Nothing is fetched from elsewhere, and every link leads somewhere.
    assert page.sources == []
    assert len(page.ids) == len(set(page.ids))
    assert {link for link in page.links if not link.startswith("#")} == {"/openapi.json"}
    assert {link[1:] for link in page.links if link.startswith("#")} <= set(page.ids)
    names = [tag for tag, _ in page.tags]
    assert names.count("h1") == names.count("main") == names.count("title") == 1
    assert ("html", {"lang": "en"}) in page.tags
    assert "script" not in names


def test_nothing_is_ready_without_a_model(app):
    assert ask(app, "/healthz").status_code == 200
    response = ask(app, "/readyz")
    assert (response.status_code, list(response.json())) == (503, ["error"])
