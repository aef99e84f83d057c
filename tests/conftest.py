import os

# Three processes run the tests, for two cores, because tests wait for servers and processes. NumPy
# looks as it is imported; its threads burn what they wait for each other.
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("TF_NUM_INTRAOP_THREADS", "1")
os.environ.setdefault("TF_NUM_INTEROP_THREADS", "1")

import contextlib
import ctypes
import json
import multiprocessing
import shutil
import signal
import subprocess
import sys
import threading
from pathlib import Path

import numpy as np
import pytest
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian, generate_uid

from tf_dicom_ce import workers

# A shell that starts the tests in the background has them ignore it, and all their children too.
signal.signal(signal.SIGINT, signal.default_int_handler)

# All tests of a process have one server of workers, the first one's.
workers._PRELOADED += ["tf_dicom_ce.prediction.writing", "tf_dicom_ce.phantom.cohort"]
workers._PRELOADED += ["scipy.ndimage", "scipy.signal", "scipy.spatial"]

ULTRASOUND = "1.2.840.10008.5.1.4.1.1.6.1"


def pytest_collection_modifyitems(items):
    """Files with trainings come first, so that no process is left with one at the end."""
    slow = {item.path for item in items if item.get_closest_marker("slow")}
    items.sort(key=lambda item: item.path not in slow)


def build_dataset(pixels, syntax=ExplicitVRLittleEndian, **elements):
    """A data set around raw pixels (H, W) or (H, W, 3), or any bytes given as PixelData."""
    dataset = Dataset()
    dataset.file_meta = FileMetaDataset()
    dataset.file_meta.TransferSyntaxUID = syntax
    dataset.SOPClassUID = ULTRASOUND
    dataset.SOPInstanceUID = generate_uid()
    dataset.StudyInstanceUID = generate_uid()
    dataset.PatientID = "P1"
    dataset.Rows, dataset.Columns = pixels.shape[:2]
    dataset.SamplesPerPixel = 3 if pixels.ndim == 3 else 1
    dataset.PhotometricInterpretation = "RGB" if pixels.ndim == 3 else "MONOCHROME2"
    if pixels.ndim == 3:
        dataset.PlanarConfiguration = 0
    dataset.BitsAllocated = dataset.BitsStored = 8 * pixels.itemsize
    dataset.HighBit = dataset.BitsStored - 1
    dataset.PixelRepresentation = int(pixels.dtype.kind == "i")
    dataset.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    dataset["PixelData"].VR = "OB" if pixels.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        if value is None:
            delattr(dataset, keyword)
        else:
            setattr(dataset, keyword, value)
    return dataset


@pytest.fixture(autouse=True)
def own_folders(tmp_path_factory, monkeypatch):
    """Secret and caches of a user who runs this for the first time."""
    own = tmp_path_factory.mktemp("own")
    monkeypatch.setenv("XDG_CONFIG_HOME", str(own / "config"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(own / "cache"))


def lack(reason):
    """Leaves the test out, by name and reason; in CI nothing may be left out."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(reason)


@pytest.fixture(scope="session")
def program():
    """Finds a program or library that is not of Python: program("dciodvfy", "dicom3tools")."""

    def find(name, package):
        path = shutil.which(name, path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
        with contextlib.suppress(OSError):
            path = path or ctypes.CDLL(name)
        if path is None:
            lack(f"needs {name}: apt-get install {package}")
        return path

    return find


@pytest.fixture(scope="session")
def dcmtk():
    """Finds a program of DCMTK, not the one of pynetdicom that has its name."""

    def find(name):
        path = shutil.which(name, path="/usr/local/bin:/usr/bin")
        return path or lack(f"needs {name}: apt-get install dcmtk")

    return find


@pytest.fixture(scope="module")
def browser(program):
    """Debian's Chromium, without a window."""
    from playwright.sync_api import expect, sync_playwright

    chromium = program("chromium", "chromium")
    program("libatomic.so.1", "libatomic1")  # of Playwright's driver
    flags = ["--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage"]
    with (
        sync_playwright() as playwright,
        playwright.chromium.launch(executable_path=chromium, args=flags) as started,
    ):
        expect.set_options(timeout=20_000)
        yield started


@pytest.fixture(scope="session")
def as_root():
    """Of a test that makes a network of its own."""
    if os.geteuid() != 0:
        lack("needs root")


@pytest.fixture(scope="session")
def semaphores():
    """Of a test with a pool of processes, as TensorFlow's strategies have, or without warnings."""
    try:
        multiprocessing.Lock()
    except OSError:
        lack("needs semaphores: a /dev/shm that this user can write")


@pytest.fixture(scope="session")
def may_mount(as_root):
    """Of a test that mounts a disk for its own processes."""
    if subprocess.run(["unshare", "-m", "true"], capture_output=True).returncode:
        lack("needs a mount namespace of its own, which there is none of in a chroot")


@pytest.fixture(autouse=True)
def own_determinism():
    """What `--deterministic` sets holds for a process; XLA is not to be had beside it."""
    yield
    if "tensorflow" in sys.modules:
        from tensorflow.python.framework.config import disable_op_determinism

        disable_op_determinism()


@pytest.fixture
def eagerly():
    """Of a test that is not of the graph: a few steps cost less than to trace them."""
    import tensorflow as tf

    tf.config.run_functions_eagerly(True)
    yield
    tf.config.run_functions_eagerly(False)


@pytest.fixture(scope="session")
def build():
    """The function `build_dataset`."""
    return build_dataset


@pytest.fixture
def write(tmp_path):
    """Writes a built data set below tmp_path and returns its path."""

    def write_file(name, pixels, **elements):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        build_dataset(pixels, **elements).save_as(path, enforce_file_format=True)
        return path

    return write_file


@pytest.fixture
def in_background():
    """Lets a server of the standard library serve within a context: in_background(server)."""

    @contextlib.contextmanager
    def serving(server):
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        yield server
        server.shutdown()
        thread.join()
        server.server_close()

    return serving


@pytest.fixture
def ramp():
    """(20, 30) uint8 with every pixel different from its neighbours."""
    return (np.arange(600, dtype=np.uint32) * 7 % 251).astype(np.uint8).reshape(20, 30)


@pytest.fixture
def colours():
    """(20, 30, 3) uint8 random colours."""
    return np.random.default_rng(5).integers(0, 256, (20, 30, 3), np.uint8)


@pytest.fixture(scope="session")
def exported(tmp_path_factory):
    """An encoder of width 1/32 for images of 32 × 64, and the folder of its export: `…/encoder/1`.

    Only to be read.
    """
    import keras

    from tf_dicom_ce.models.encoder import VGG16Encoder

    keras.utils.set_random_seed(0)
    encoder = VGG16Encoder(1 / 32)
    encoder.build((None, 32, 64, 1))
    images = np.random.default_rng(9).normal(size=(8, 32, 64, 1))
    encoder(images, training=True)  # BatchNorm has moved
    return encoder, encoder.export(tmp_path_factory.mktemp("export") / "encoder")


@pytest.fixture(scope="session")
def heads(tmp_path_factory):
    """Exported heads of 32 × 64 whose answers can be told by hand; returns their root.

    `segmentation/1`: liver where a pixel is brighter than the image's mean. `classification/1`:
    "left" or "right", whichever half is brighter.
    """
    import keras

    from tf_dicom_ce.saved_model.writing import write_model

    size, root = (32, 64), tmp_path_factory.mktemp("heads")
    half = np.repeat([1.0, -1.0], 32)[None, :, None].repeat(32, axis=0).reshape(-1, 1)
    layers = {
        "segmentation": [keras.layers.Conv2D(2, 1)],
        "classification": [keras.layers.Flatten(), keras.layers.Dense(2)],
    }
    weights = {
        "segmentation": [np.array([[[[0.0, 1.0]]]]), np.zeros(2)],
        "classification": [np.hstack([half, -half]) / 2048, np.zeros(2)],
    }
    classes = {"segmentation": ["background", "liver"], "classification": ["left", "right"]}
    for task, own in layers.items():
        model = keras.Sequential([keras.Input((*size, 1)), *own])
        model.layers[-1].set_weights(weights[task])

        def answer(logits, task=task):
            found = {"probabilities": keras.ops.softmax(logits)}
            label = keras.ops.argmax(logits, axis=-1)
            if task == "segmentation":
                return {**found, "mask": keras.ops.cast(label, "uint8")}
            return {**found, "class_id": keras.ops.cast(label, "int32")}

        content = {"task": task, "classes": classes[task], "find_sector": False}
        content |= {"data_fingerprint": "f" * 64, "synthetic_data": True}
        write_model(model, root / task, task, size, content, answer)
    return root


PLUGIN = Path("/usr/share/orthanc/plugins/libOrthancDicomWeb.so")

UPLOAD = """
import sys, time, urllib.request
from pathlib import Path
passwords = urllib.request.HTTPPasswordMgrWithPriorAuth()
passwords.add_password(None, "http://127.0.0.1:8042/", "joe", "hunter2", is_authenticated=True)
opener = urllib.request.build_opener(urllib.request.HTTPBasicAuthHandler(passwords))
for _ in range(300):
    try:
        opener.open("http://127.0.0.1:8042/system").read()
        break
    except OSError:
        time.sleep(0.1)
else:
    sys.exit("Orthanc does not answer")
for path in Path(sys.argv[1]).iterdir() if sys.argv[1:] else ():
    opener.open("http://127.0.0.1:8042/instances", path.read_bytes()).read()
"""


class Network:
    """A network namespace of its own, until it is closed or this process ends."""

    def __init__(self):
        # `cat` holds the namespace.
        command = ["unshare", "-n", "sh", "-c", "ip link set lo up && echo ready && exec cat"]
        self.holder = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        assert self.holder.stdout.readline() == "ready\n"

    def close(self):
        self.holder.communicate()

    @contextlib.contextmanager
    def entered(self):
        """This thread, and threads and processes that it starts, are in the namespace."""
        enter = ctypes.CDLL(None, use_errno=True).setns
        with (
            Path("/proc/thread-self/ns/net").open() as ours,
            Path(f"/proc/{self.holder.pid}/ns/net").open() as its,
        ):
            assert enter(its.fileno(), 0) == 0, os.strerror(ctypes.get_errno())
            try:
                yield
            finally:
                assert enter(ours.fileno(), 0) == 0, os.strerror(ctypes.get_errno())

    def inside(self, *command):
        """A command as one that runs in the namespace."""
        return ["nsenter", f"--net=/proc/{self.holder.pid}/ns/net", *command]


class Orthanc:
    """One that can be killed and started again, in a network namespace of its own.

    It has a user "joe" with the password "hunter2".

    Attributes:
        url: Of its DICOMweb service, for processes that are started `inside`, and where it is
            `entered`.
        dimse: Its address as an application entity, which asks for no password.
    """

    url = "http://127.0.0.1:8042/dicom-web"
    dimse = "dicom://ORTHANC@127.0.0.1:4242"

    def __init__(self, executable, folder):
        self.executable = executable
        self.log = folder / "log"
        self.configuration = folder / "orthanc.json"
        storage = str(folder / "storage")
        self.configuration.write_text(
            json.dumps(
                {
                    "StorageDirectory": storage,
                    "IndexDirectory": storage,
                    "DicomAet": "ORTHANC",
                    "DicomPort": 4242,
                    "DicomCheckCalledAet": True,
                    "DicomAlwaysAllowStore": True,
                    "DicomAlwaysAllowFind": True,
                    "DicomAlwaysAllowGet": True,
                    "AuthenticationEnabled": True,
                    "RegisteredUsers": {"joe": "hunter2"},
                    "Plugins": [str(PLUGIN)],
                    "DicomWeb": {"Enable": True, "Root": "/dicom-web/"},
                }
            )
        )
        self.network = Network()
        self.server = None

    def start(self, *upload):
        """Starts it, and sends it the files of a folder."""
        with self.log.open("ab") as log:
            command = self.inside(self.executable, str(self.configuration))
            self.server = subprocess.Popen(command, stdout=log, stderr=log)
        subprocess.run(self.inside(sys.executable, "-c", UPLOAD, *upload), check=True)

    def kill(self):
        self.server.kill()
        self.server.wait()

    def close(self):
        self.kill()
        self.network.close()

    def entered(self):
        """See `Network`."""
        return self.network.entered()

    def inside(self, *command):
        """See `Network`."""
        return self.network.inside(*command)


@pytest.fixture(scope="module")
def network(program, as_root):
    """A `Network`."""
    program("ip", "iproute2")
    found = Network()
    yield found
    found.close()


@pytest.fixture(scope="module")
def start_orthanc(tmp_path_factory, program, as_root):
    """Starts an `Orthanc` that holds the files of a folder: start_orthanc(folder)."""
    servers = []
    executable = program("Orthanc", "orthanc")
    program("ip", "iproute2")
    if not PLUGIN.exists():
        lack(f"needs {PLUGIN}: apt-get install orthanc-dicomweb")

    def start(sent):
        servers.append(Orthanc(executable, tmp_path_factory.mktemp("orthanc")))
        servers[-1].start(str(sent))
        return servers[-1]

    yield start
    for server in servers:
        server.close()
