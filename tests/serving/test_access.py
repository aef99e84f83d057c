"""Who may ask: tokens, names of the server, pages of other sites."""

import pytest

from tf_dicom_ce.errors import RequestError, UserError
from tf_dicom_ce.serving.access import OPEN_PATHS, require_access
from tf_dicom_ce.serving.settings import Settings, read_tokens


def ask(method="POST", path="/work", settings=None, **headers):
    """What `require_access` says: the token's name, or a status."""
    fields = [
        (name.replace("_", "-").encode(), value if isinstance(value, bytes) else value.encode())
        for name, value in headers.items()
    ]
    scope = {"type": "http", "method": method, "path": path, "headers": fields}
    try:
        return require_access(scope, settings or Settings())
    except RequestError as error:
        assert "s3cret" not in error.message
        return error.status


TWO = Settings(tokens={"ward": "s3cret", "lab": "0ther"})


@pytest.mark.parametrize(
    ("header", "found"),
    [
        ("Bearer s3cret", "ward"),
        ("bearer  s3cret ", "ward"),
        ("Bearer 0ther", "lab"),
        (None, 401),
        ("", 401),
        ("Bearer", 401),
        ("Bearer ", 401),
        ("Bearer s3cre", 401),
        ("Bearer s3crett", 401),
        ("Bearer s3creT", 401),
        ("Basic s3cret", 401),
        ("s3cret", 401),
        ("Bearer ward", 401),
        (b"Bearer \xff\xfe", 401),
    ],
)
def test_tokens(header, found):
    headers = {} if header is None else {"authorization": header}
    assert ask(settings=TWO, **headers) == found
    assert ask("GET", "/v1/models", TWO, **headers) == found
    for path in (*OPEN_PATHS, "/static/a.js"):
        assert ask("GET", path, TWO) == ""


LOCAL = ("localhost", "LOCALHOST:8501", "127.0.0.1:8501", "127.9.9.9", "[::1]:80")
FOREIGN = ("evil.example", "127.0.0.1.evil.example", "localhost.", "192.0.2.1:8501", "[::1", "a b")


@pytest.mark.parametrize("host", [*LOCAL, ""])
def test_names_of_this_machine(host):
    assert ask(host=host) == ask("GET", "/", host=host) == ""


@pytest.mark.parametrize("host", FOREIGN)
def test_other_names_are_refused_at_loopback(host):
    assert ask(host=host) == ask("GET", "/healthz", host=host) == 421
    everywhere = Settings(host="0.0.0.0", tokens={"ward": "s3cret"})
    assert ask(settings=everywhere, host=host, authorization="Bearer s3cret") == "ward"
    assert ask(settings=everywhere, host=host) == 401


def test_the_name_of_a_proxy():
    named = Settings(names=["models.example"])
    assert ask(settings=named, host="models.example:443") == ""
    assert ask(settings=named, host="x.models.example") == 421
    origin = "https://models.example"
    assert ask(settings=named, host="127.0.0.1:8501", origin=origin) == ""
    assert ask(host="127.0.0.1:8501", origin=origin) == 403


@pytest.mark.parametrize(
    ("origin", "found"),
    [
        ("http://localhost:8501", ""),
        ("https://LOCALHOST:8501", ""),  # a proxy may have ended TLS
        ("http://localhost:8502", 403),
        ("http://localhost", 403),
        ("http://evil.example", 403),
        ("null", 403),
        ("", 403),
    ],
)
def test_pages_of_other_sites(origin, found):
    for method in ("POST", "PUT", "OPTIONS"):
        assert ask(method, host="localhost:8501", origin=origin) == found
    for method in ("GET", "HEAD"):
        assert ask(method, host="localhost:8501", origin=origin) == ""


def test_a_length_that_is_told_twice():
    assert ask(content_length="3", transfer_encoding="chunked") == 400
    assert ask(content_length="3") == ask(transfer_encoding="chunked") == ""


@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.2", "::1", "localhost"])
def test_loopback_needs_no_token(host):
    assert Settings(host=host).tokens == {}


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "192.0.2.1", "example.org", "", "127.0.0.1.x"])
def test_any_other_host_needs_a_token(host):
    with pytest.raises(UserError, match="TF_DICOM_CE_SERVE_TOKEN"):
        Settings(host=host)
    assert "s3cret" not in repr(Settings(host=host, tokens={"ward": "s3cret"}))


@pytest.fixture(autouse=True)
def variable(monkeypatch):
    def put(value):
        monkeypatch.setenv("TF_DICOM_CE_SERVE_TOKEN", value)

    monkeypatch.delenv("TF_DICOM_CE_SERVE_TOKEN", raising=False)
    return put


@pytest.mark.parametrize(
    ("value", "token"), [("", None), ("  ", None), ("abc\n", "abc"), ("a-_~=", "a-_~=")]
)
def test_token_of_the_environment(variable, value, token):
    assert read_tokens() == {}
    variable(value)
    assert read_tokens() == ({"environment": token} if token else {})


@pytest.mark.parametrize("value", ["two words", "pässword", "a\tb"])
def test_a_token_that_no_header_can_hold(variable, value):
    variable(value)
    with pytest.raises(UserError, match="TF_DICOM_CE_SERVE_TOKEN") as caught:
        read_tokens()
    assert value not in str(caught.value)


@pytest.fixture
def file(tmp_path):
    def write(text, mode=0o600):
        path = tmp_path / "tokens"
        path.write_bytes(text.encode("latin-1"))
        path.chmod(mode)
        return path

    return write


def test_tokens_of_a_file(file, variable):
    path = file("# who has one\n\nward\ts3cret\n  lab   0ther  \n")
    assert read_tokens(path) == {"ward": "s3cret", "lab": "0ther"}
    variable("abc")
    assert read_tokens(path) == {"environment": "abc", "ward": "s3cret", "lab": "0ther"}


@pytest.mark.parametrize(
    ("text", "mode", "words"),
    [
        ("ward s3cret\n", 0o640, "others can read it. Run: chmod 600"),
        ("ward s3cret\n", 0o604, "others can read it"),
        ("ward s3cret\nward 0ther\n", 0o600, "line 2: write a name that no other line has"),
        ("ward\n", 0o600, "line 1"),
        ("ward s3cret more\n", 0o600, "line 1"),
        ("\nward s3cr\x01t\n", 0o600, "line 2"),
        ("# nobody\n", 0o600, "there is no token in it"),
        ("ward \xff\n", 0o600, "not UTF-8"),
    ],
)
def test_files_that_are_refused(file, text, mode, words):
    with pytest.raises(UserError, match="--tokens ") as caught:
        read_tokens(file(text, mode))
    assert words in str(caught.value)
    assert "s3cret" not in str(caught.value)


def test_a_file_that_is_not_there(tmp_path):
    with pytest.raises(UserError, match="No such file"):
        read_tokens(tmp_path / "nothing")
