"""No update of a variable overtakes a read of it in the graph that TensorFlow makes of a step."""

import keras
import numpy as np
import pytest
import tensorflow as tf
from tensorflow.python.eager import context

from tf_dicom_ce.config import FinetuneConfig, PretrainConfig
from tf_dicom_ce.training.adam import FusedAdam
from tf_dicom_ce.training.loop import training_step
from tf_dicom_ce.training.networks import build_head, build_pretraining

SETTINGS = {"image_size": (32, 32), "width": 1 / 32, "batch_size": 4}
RNG = np.random.default_rng(0)
X = RNG.normal(size=(4, 32, 32, 1)).astype(np.float32)


def pretraining():
    tags = RNG.integers(0, 2, (4, 3)).astype(np.float32)
    return build_pretraining(PretrainConfig(**SETTINGS), 3), {"tags": tags}


def segmentation():
    head = build_head(FinetuneConfig(task="segmentation", **SETTINGS), None, 3)
    head.build((None, 32, 32, 1))
    head.compile(FusedAdam(1e-3, name="adam"), jit_compile=False)
    return head, RNG.integers(0, 3, (4, 32, 32))


def optimized(model, target):
    """The graph of a training step, after TensorFlow's optimizer."""
    batches = iter(tf.data.Dataset.from_tensors((X, target)).repeat())
    step = training_step(model, tf.distribute.get_strategy())
    context.enable_run_metadata()
    try:
        step(next(batches), batches)
        graphs = context.export_run_metadata().function_graphs
    finally:
        context.disable_run_metadata()
    is_step = lambda graph: any(node.op == "ResourceApplyAdam" for node in graph.node)  # noqa: E731
    (graph,) = (g.post_optimization_graph for g in graphs if is_step(g.post_optimization_graph))
    return {node.name: node for node in graph.node}


def before(name, nodes):
    """All ops that have to end before an op begins."""
    found, left = set(), [name]
    while left:
        inputs = {i.lstrip("^").split(":")[0] for i in nodes[left.pop()].input}
        left += inputs - found
        found |= inputs
    return found


@pytest.mark.parametrize("make", [pretraining, segmentation])
def test_no_update_overtakes_a_read(monkeypatch, make):
    """A race: on an idle machine no run shows it, on a busy one 1 step in 10,000."""
    monkeypatch.setattr(tf.config.threading, "get_intra_op_parallelism_threads", lambda: 1)
    keras.utils.set_random_seed(0)
    nodes = optimized(*make())
    reads = {}
    for name, node in nodes.items():
        if node.op == "ReadVariableOp":
            reads.setdefault(node.input[0], set()).add(name)
    updates = [name for name, node in nodes.items() if node.op == "ResourceApplyAdam"]
    assert len(updates) > 60
    for name in updates:
        assert reads.get(nodes[name].input[0], set()) <= before(name, nodes), name
