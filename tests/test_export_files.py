"""The files for deploying name what the code has."""

import argparse
import configparser
import json
import re
from pathlib import Path

import pytest

from tf_dicom_ce.cli import serve
from tf_dicom_ce.config import FINETUNE_PRESETS
from tf_dicom_ce.serving.access import OPEN_PATHS
from tf_dicom_ce.serving.settings import TOKEN_VARIABLE, Settings

ROOT = Path(__file__).parents[1]
EXPORT = ROOT / "export"


def parse_protobuf_text(text):
    """Name -> list of values of a message in text format; anything unexpected is an error."""
    text = re.sub(r"#.*", "", text)
    tokens = re.findall(r'"[^"]*"|\w+|[{}:]|\S', text)

    def message(end):
        fields = {}
        while tokens[0] != end:
            name = tokens.pop(0)
            assert re.fullmatch(r"[a-z_]+", name), name
            opening = tokens.pop(0)
            if opening == ":":
                value = tokens.pop(0)
                assert value.startswith('"'), value
                fields.setdefault(name, []).append(value.strip('"'))
            else:
                assert opening == "{", opening
                fields.setdefault(name, []).append(message("}"))
        tokens.pop(0)
        return fields

    tokens.append("end")
    return message("end")


def test_models_config_has_every_model_that_is_exported():
    (models,) = parse_protobuf_text((EXPORT / "models.config").read_text())["model_config_list"]
    found = {}
    for config in models.pop("config"):
        (name,) = config.pop("name")
        found[name] = config
    assert models == {}
    assert set(found) == {"encoder", *(task for _, task in FINETUNE_PRESETS)}
    for name, config in found.items():
        assert config == {
            "base_path": [f"/models/{name}"],
            "model_platform": ["tensorflow"],
            "model_version_policy": [{"all": [{}]}],
        }


def test_models_config_is_what_tensorflow_serving_reads():
    text_format = pytest.importorskip("google.protobuf.text_format")
    pb2 = pytest.importorskip("tensorflow_serving.config.model_server_config_pb2")
    config = text_format.Parse((EXPORT / "models.config").read_text(), pb2.ModelServerConfig())
    assert len(config.model_config_list.config) == 3
    for model in config.model_config_list.config:
        assert model.model_version_policy.WhichOneof("policy_choice") == "all"


def settings_of(words):
    """Settings and folder of a command `tf-dicom-ce serve …`, with a token at hand."""
    assert words[:2] == ["tf-dicom-ce", "serve"]
    parser = argparse.ArgumentParser()
    serve.add_arguments(parser)
    options = parser.parse_args(words[2:])
    return Settings(host=options.host, port=options.port, tokens={"reader": "x"}), str(options.root)


def test_the_image_serves_what_is_mounted():
    text = (EXPORT / "Dockerfile").read_text()
    settings, root = settings_of(json.loads(re.search(r"^CMD (\[.*\])$", text, re.M)[1]))
    assert (settings.host, root) == ("0.0.0.0", "/models")
    assert re.search(r"^EXPOSE (\d+)$", text, re.M)[1] == str(settings.port)
    port, path = re.search(r"http://127\.0\.0\.1:(\d+)(/\w+)", text).groups()
    assert (int(port), path in OPEN_PATHS) == (settings.port, True)
    setup = configparser.ConfigParser()
    setup.read(ROOT / "setup.cfg")
    extra = re.search(r"pip install .*'\.\[(\w+)\]'", text)[1]
    assert extra in setup["options.extras_require"]
    for copied in re.findall(r"^COPY (.*) \S+$", text, re.M):
        assert all((ROOT / name).exists() for name in copied.split())
    assert re.search(r"^USER \d+$", text, re.M)  # not root
    python = re.search(r"^FROM python:3\.(\d+)", text, re.M)[1]
    assert int(python) >= int(re.search(r"3\.(\d+)", setup["options"]["python_requires"])[1])


def test_compose_opens_ports_to_this_machine_only():
    text = (EXPORT / "compose.yaml").read_text()
    services = dict(re.findall(r"^  ([\w-]+):\n((?:(?:    .*)?\n)+)", text, re.M))
    assert set(services) == {"tensorflow-serving", "tf-dicom-ce"}
    published = []
    for body in services.values():
        assert 'volumes: [".:/models:ro"]' in body
        (ports,) = re.findall(r"ports: (\[.*\])", body)
        (mapping,) = json.loads(ports)
        host, outside, inside = mapping.split(":")
        assert (host, int(inside)) == ("127.0.0.1", Settings.port)
        published.append(outside)
        assert f"127.0.0.1:{outside}" in text.split("services:")[0]
    assert len(set(published)) == 2
    theirs, ours = services["tensorflow-serving"], services["tf-dicom-ce"]
    assert "--model_config_file=/models/models.config\n" in theirs
    assert f"--rest_api_port={Settings.port}\n" in theirs
    assert f"{TOKEN_VARIABLE}: ${{{TOKEN_VARIABLE}-}}" in ours
    dockerfile = EXPORT / re.search(r"context: (\S+)", ours)[1]
    assert (dockerfile / re.search(r"dockerfile: (\S+)", ours)[1]).is_file()


def test_kserve_starts_the_server_and_asks_what_needs_no_token():
    theirs, ours = (EXPORT / "kserve.yaml").read_text().split("\n---\n")
    assert re.findall(r"^kind: (.*)$", theirs + "\n" + ours, re.M) == ["InferenceService"] * 2
    name, uri = re.search(r"^  name: (\S+)\n(?:.*\n)*?.*storageUri: (\S+)$", theirs, re.M).groups()
    assert name in {task for _, task in FINETUNE_PRESETS}
    assert uri.endswith(f"/{name}")
    settings, root = settings_of(json.loads(re.search(r"args: (\[.*\])", ours)[1]))
    assert (settings.host, root) == ("0.0.0.0", "/mnt/models")
    ports = re.findall(r"(?:containerPort|port): (\S+)", ours)
    assert ports == [str(settings.port)] * 3
    paths = re.findall(r"path: (\S+)", ours)
    assert paths == ["/readyz", "/healthz"]
    assert set(paths) <= set(OPEN_PATHS)
    assert f"name: {TOKEN_VARIABLE}\n" in ours


@pytest.mark.parametrize("name", ["compose.yaml", "kserve.yaml"])
def test_yaml_is_indented_by_two_without_tabs(name):
    for line in (EXPORT / name).read_text().splitlines():
        assert "\t" not in line
        assert (len(line) - len(line.lstrip())) % 2 == 0
        assert re.match(r"\s*(#.*|---|- .+|[\w./-]+:( .*)?|)$", line), line
