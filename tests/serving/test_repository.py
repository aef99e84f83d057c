"""The repository while it changes: what arrives, what is broken, what is overwritten or removed."""

import shutil
import threading
import time

import numpy as np
import pytest

from tf_dicom_ce.errors import RequestError
from tf_dicom_ce.serving.repository import Repository

IMAGE = np.random.default_rng(3).integers(0, 256, (1, 40, 50, 1)).astype(np.float32)


def until(condition, seconds=60):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end, "nothing happened"
        time.sleep(0.02)


@pytest.fixture
def root(repository_folder, tmp_path):
    """A repository with classification/1 alone, to change."""
    root = tmp_path / "models"
    shutil.copytree(repository_folder / "classification", root / "classification")
    return root


@pytest.fixture
def serve():
    """Function (root) -> a repository that is ready."""
    opened = []

    def open_repository(root):
        repository = Repository(root, poll_seconds=0.1)
        opened.append(repository)
        repository.start()
        until(lambda: repository.ready)
        return repository

    yield open_repository
    for repository in opened:
        repository.close()


def ask(repository, version=None):
    servable = repository.get("classification", version)
    answer = servable.predict("serving_image", {"image": IMAGE})
    return servable.version, answer["probabilities"][0]


def state(repository, version):
    (status,) = repository.status("classification", version)["model_version_status"]
    return status["state"]


def refused(function, *arguments):
    with pytest.raises(RequestError) as caught:
        function(*arguments)
    return caught.value.status, caught.value.message


def test_names_status_and_versions(root, repository_folder, second_classifier, serve):
    shutil.copytree(second_classifier, root / "classification" / "10")
    shutil.copytree(repository_folder / "segmentation", root / "segmentation")
    repository = serve(root)
    assert list(repository.newest()) == ["classification", "segmentation"]
    fine = {"error_code": "OK", "error_message": ""}
    assert repository.status("classification") == {
        "model_version_status": [
            {"version": "10", "state": "AVAILABLE", "status": fine},
            {"version": "1", "state": "AVAILABLE", "status": fine},
        ]
    }
    assert repository.status("classification", 1) == {
        "model_version_status": [{"version": "1", "state": "AVAILABLE", "status": fine}]
    }
    newest, one = ask(repository), ask(repository, 1)
    assert (newest[0], one[0], ask(repository, 10)[0]) == (10, 1, 10)
    assert np.abs(newest[1] - one[1]).max() > 1e-4
    segmentation = repository.get("segmentation")
    assert segmentation.content["classes"] == ["background", "liver", "kidney"]


def test_unknown_ones_are_404(root, serve):
    repository = serve(root)
    for name in ("half", "..", "../models/classification", "", "a" * 300):
        message = f"There is no model {name} that can be asked."
        assert refused(repository.status, name) == (404, message)
        assert refused(repository.get, name) == (404, message)
    message = "There is no version 7 of a model classification that can be asked."
    assert refused(repository.status, "classification", 7) == (404, message)
    assert refused(repository.get, "classification", 7) == (404, message)


def test_nothing_to_serve_is_not_ready(tmp_path):
    repository = Repository(tmp_path / "none", poll_seconds=0.05)
    repository.start()
    time.sleep(0.2)
    assert not repository.ready
    assert list(repository.newest()) == []
    repository.close()
    Repository(tmp_path).close()


def test_a_folder_that_appears_later(root, tmp_path):
    repository = Repository(tmp_path / "later", poll_seconds=0.05)
    repository.start()
    time.sleep(0.2)
    root.rename(tmp_path / "later")
    until(lambda: repository.ready)
    assert ask(repository)[0] == 1
    repository.close()
    assert not repository.ready
    assert refused(repository.get, "classification")[0] == 404


def test_what_is_no_version_is_left_alone(root, serve):
    for name in ("notes", "classification/.5.part", "classification/x", "classification/3", ".a/1"):
        (root / name).mkdir(parents=True)
    (root / "file").write_text("")
    (root / "classification" / "4").write_text("")
    (root / ".a" / "1" / "saved_model.pb").write_text("")
    (root / "classification" / ".5.part" / "saved_model.pb").write_text("")
    repository = serve(root)
    assert list(repository.newest()) == ["classification"]
    assert len(repository.status("classification")["model_version_status"]) == 1


def test_a_new_version_takes_over_and_a_broken_one_does_not(root, second_classifier, serve):
    repository = serve(root)
    assert ask(repository)[0] == 1
    shutil.copytree(second_classifier, root / "classification" / "2")
    until(lambda: ask(repository)[0] == 2)
    shutil.copytree(second_classifier, root / "classification" / "3")
    (root / "classification" / "3" / "saved_model.pb").write_bytes(b"broken")
    (root / "classification" / "4").mkdir()
    shutil.copy(second_classifier / "saved_model.pb", root / "classification" / "4")
    until(lambda: len(repository.status("classification")["model_version_status"]) == 4)
    until(lambda: state(repository, 3) == state(repository, 4) == "END")
    assert ask(repository)[0] == 2
    assert repository.ready
    (three,) = repository.status("classification", 3)["model_version_status"]
    assert three["status"]["error_code"] == "UNKNOWN"
    assert "Error parsing message" in three["status"]["error_message"]
    (four,) = repository.status("classification", 4)["model_version_status"]
    assert "variables" in four["status"]["error_message"]
    shutil.rmtree(root / "classification" / "3")  # mended
    shutil.copytree(second_classifier, root / "classification" / "3")
    until(lambda: ask(repository)[0] == 3)


def test_a_removed_version_ends_with_its_last_request(root, second_classifier, serve):
    shutil.copytree(second_classifier, root / "classification" / "2")
    repository = serve(root)
    expected = ask(repository)[1]
    servable = repository.get("classification")
    shutil.rmtree(root / "classification" / "2")
    until(lambda: state(repository, 2) == "UNLOADING")
    assert ask(repository)[0] == 1
    assert refused(repository.get, "classification", 2)[0] == 404
    answer = servable.predict("serving_image", {"image": IMAGE})
    np.testing.assert_array_equal(answer["probabilities"][0], expected)
    del servable
    assert state(repository, 2) == "END"


def test_a_broken_overwrite_leaves_the_version_before(root, serve):
    repository = serve(root)
    expected = ask(repository)[1]
    (root / "classification" / "1" / "saved_model.pb").write_bytes(b"broken")

    def error():
        (status,) = repository.status("classification", 1)["model_version_status"]
        return status["status"]["error_message"]

    until(error)
    assert state(repository, 1) == "AVAILABLE"
    np.testing.assert_array_equal(ask(repository)[1], expected)


def test_weights_of_another_model_are_not_served(root, second_classifier, serve):
    """The variables of one export beside the JSON of another."""
    version = shutil.copytree(root / "classification" / "1", root / "classification" / "2")
    shutil.rmtree(version / "variables")
    shutil.copytree(second_classifier / "variables", version / "variables")
    repository = serve(root)
    assert (state(repository, 2), state(repository, 1)) == ("END", "AVAILABLE")
    (status,) = repository.status("classification", 2)["model_version_status"]
    assert "UserError: " in status["status"]["error_message"]
    assert "classification/2: the weights are not those" in status["status"]["error_message"]


@pytest.mark.parametrize("how", ["renamed", "copied"])
def test_overwriting_while_8_threads_ask_loses_no_request(root, second_classifier, serve, how):
    repository = serve(root)
    before, answers, errors, stop = ask(repository)[1], [], [], threading.Event()

    def keep_asking():
        while not stop.is_set():
            try:
                answers.append(ask(repository)[1])
            except Exception as error:
                errors.append(error)

    threads = [threading.Thread(target=keep_asking) for _ in range(8)]
    for thread in threads:
        thread.start()
    until(lambda: len(answers) > 20)
    version = root / "classification" / "1"
    if how == "renamed":
        shutil.copytree(second_classifier, root / ".new")
        version.rename(root / ".old")
        (root / ".new").rename(version)
    else:
        shutil.rmtree(version)
        shutil.copytree(second_classifier, version)
    until(lambda: not np.allclose(answers[-1], before, atol=1e-5))
    count = len(answers)
    until(lambda: len(answers) > count + 20)
    stop.set()
    for thread in threads:
        thread.join()
    assert errors == []
    after = ask(repository)[1]
    assert np.abs(after - before).max() > 1e-4
    old = [np.allclose(answer, before, atol=1e-5) for answer in answers]
    new = [np.allclose(answer, after, atol=1e-5) for answer in answers]
    assert all(a != b for a, b in zip(old, new, strict=True))
    assert any(old)
    assert any(new)
