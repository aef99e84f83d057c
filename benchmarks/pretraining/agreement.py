"""Checks that both sides compute the same losses, gradients and updates from equal weights.

This project saves its weights and data and runs some steps; PyTorch runs the same steps from the
file. Losses and gradient norms of the first step have to agree. The losses of the last step check
the updates as well, but loosely: Adam's first update is little more than the signs of the
gradients, so rounding counts, and PyTorch's own two memory formats differ by 0.001 after two
updates. At the first step losses agree to 1e-6; the norm of F's gradient, through 17 BatchNorms, to
some 1e-3.
"""

from pathlib import Path

import numpy as np

from benchmarks.sizes import LABELS, as_json, from_json
from benchmarks.turns import Contender
from tf_dicom_ce.config import PretrainConfig

LOSSES = ("rec", "adv", "disc", "joint")
MEASURES = (*LOSSES, "g_norm", "d_norm")
STEPS = 3
MOST = (2e-3, 1e-2)  # relative difference: of all measures at first, of losses at last


def differences(config: PretrainConfig, file: Path) -> tuple[float, float]:
    """The largest relative difference of a measure at the first step, and of a loss at the last.

    Args:
        config: Settings of the step.
        file: File to write weights and data to.

    Raises:
        RuntimeError: A difference is above `MOST`, or the numbers of parameters differ.
    """
    found = []
    for side in ("ours", "theirs"):
        function = f"benchmarks.pretraining.agreement:{side}"
        with Contender(function, preset=as_json(config), file=str(file)) as contender:
            found += contender.ask("steps")
    ours, theirs = found
    if ours["parameters"] != theirs["parameters"]:
        raise RuntimeError(f"Parameters: {ours['parameters']} and {theirs['parameters']}.")
    apart = {name: abs(theirs[name] / ours[name] - 1) for name in ours if name[-1].isdigit()}
    first = max(apart[f"{name} 0"] for name in MEASURES)
    last = max(apart[f"{name} {STEPS - 1}"] for name in LOSSES)
    if not (first <= MOST[0] and last <= MOST[1]):
        raise RuntimeError(f"The sides do not agree: {apart}.")
    return first, last


def ours(preset: dict, file: str) -> dict:
    """The contender of this project: `steps` writes the file first."""
    import tensorflow as tf

    from benchmarks.pretraining.ours import batch, compiled

    config = from_json(preset)
    tf.keras.utils.set_random_seed(0)
    model, (x, tags) = compiled(config, LABELS), batch(config, LABELS)
    variables = [*model.variables_of("g"), *model.variables_of("d")]
    train_step = tf.function(model.train_step, autograph=False)

    def take_step():
        model.reset_metrics()
        return train_step((x, tags))

    def steps():
        weights = [variable.numpy() for variable in variables]
        np.savez(file, *weights, x=x, y=tags["tags"])
        return _told([take_step() for _ in range(STEPS)], weights)

    return {"steps": steps}


def theirs(preset: dict, file: str) -> dict:
    """The contender in PyTorch: `steps` starts from the file's weights."""
    import torch

    from benchmarks.pretraining.pytorch import Step

    step, content = Step(from_json(preset), LABELS), np.load(file)
    parameters = [*step.f.parameters(), *step.d.parameters()]
    x = torch.from_numpy(_turned(content["x"].transpose(0, 3, 1, 2)))
    y = torch.from_numpy(content["y"])

    def take_step():
        losses = step(x, y)
        return losses | {"g_norm": norm(step.f), "d_norm": norm(step.d)}

    def norm(network):
        return torch.stack([p.grad.square().sum() for p in network.parameters()]).sum().sqrt()

    def steps():
        with torch.no_grad():
            for k, parameter in enumerate(parameters):
                parameter.copy_(torch.from_numpy(_as_in_pytorch(content[f"arr_{k}"])))
        return _told([take_step() for _ in range(STEPS)], parameters)

    return {"steps": steps}


def _told(steps: list[dict], weights: list) -> dict[str, float]:
    found = {f"{name} {k}": float(step[name]) for k, step in enumerate(steps) for name in MEASURES}
    return {**found, "parameters": sum(int(np.prod(weight.shape)) for weight in weights)}


def _as_in_pytorch(weight: np.ndarray) -> np.ndarray:
    """A kernel [k, k, c, d] as [d, c, k, k], turned by 180°; a matrix transposed."""
    if weight.ndim == 4:
        return _turned(weight.transpose(3, 2, 0, 1))
    return weight.T.copy()


def _turned(images: np.ndarray) -> np.ndarray:
    """Turns images [..., h, w] by 180°."""
    return images[..., ::-1, ::-1].copy()
