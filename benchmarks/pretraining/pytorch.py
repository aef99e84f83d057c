"""The pretraining step in PyTorch: the same networks, losses and updates.

PyTorch's up-convolutions pad on the opposite side to TensorFlow's. So the networks are equal on
images turned by 180°, with all kernels turned; see `agreement`.
"""

import torch
from torch import nn
from torch.nn import functional

from benchmarks.pretraining.networks import DECODER, DISCRIMINATOR, ENCODER, channels
from benchmarks.sizes import from_json
from tf_dicom_ce.config import PretrainConfig


def encoder(width: float) -> nn.Sequential:
    """As `VGG16Encoder`: [N, 1, H, W] to [N, C, H/32, W/32]."""
    layers, c = [], 1
    for convolutions, count in ENCODER:
        for _ in range(convolutions):
            before, c = c, channels(count, width)
            layers += [nn.Conv2d(before, c, 3, padding=1, bias=False), nn.BatchNorm2d(c)]
            layers.append(nn.ReLU(inplace=True))
        layers.append(nn.MaxPool2d(2))
    return nn.Sequential(*layers)


def decoder(width: float) -> nn.Sequential:
    """As `ContextEncoder.decoder`: [N, C, H/32, W/32] to [N, 1, H/2, W/2]."""
    layers, c = [], channels(ENCODER[-1][1], width)
    for count in DECODER:
        before, c = c, channels(count, width)
        up = nn.ConvTranspose2d(before, c, 3, 2, padding=1, output_padding=1, bias=False)
        layers += [up, nn.BatchNorm2d(c), nn.ReLU(inplace=True)]
    return nn.Sequential(*layers, nn.Conv2d(c, 1, 3, padding=1))


class Discriminator(nn.Module):
    """As `ProjectionDiscriminator`: patches [N, 1, h, w] and y [N, L] to logits [N]."""

    def __init__(self, labels: int, width: float):
        super().__init__()
        layers, c = [], 1
        for count in DISCRIMINATOR:
            before, c = c, channels(count, width)
            layers += [nn.Conv2d(before, c, 4, 2, padding=1), nn.LeakyReLU(0.2, inplace=True)]
        self.w = nn.Linear(c, labels, bias=False)
        self.representation = nn.Sequential(*layers)
        self.c_rf = nn.Linear(c, 1)

    def forward(self, x: torch.Tensor, y: torch.Tensor) -> torch.Tensor:
        d_tilde = self.representation(x).mean((2, 3))
        return self.c_rf(d_tilde)[:, 0] + (self.w(d_tilde) * y).sum(1)


class Step:
    """One update of F and D, both gradients at the same weights, from one forward pass of F.

    Args:
        config: Width, image size, λ and learning rates are used.
        labels: Length L of y.
        variant: `eager`, `channels-last`, `bfloat16` (autocast) or `compiled`; the last two are
            channels-last too. D's two losses need its graph twice, which a compiled one would run
            in full each time: it stays eager.
    """

    def __init__(self, config: PretrainConfig, labels: int, variant: str = "eager"):
        self._config = config
        self.f = nn.Sequential(encoder(config.width), decoder(config.width))
        self.d = Discriminator(labels, config.width)
        self.format = torch.contiguous_format if variant == "eager" else torch.channels_last
        for network in (self.f, self.d):
            network.to(memory_format=self.format)
        self._autocast = torch.autocast("cpu", torch.bfloat16, enabled=variant == "bfloat16")
        self._paint = torch.compile(self.f) if variant == "compiled" else self.f
        self._f_parameters, self._d_parameters = [*self.f.parameters()], [*self.d.parameters()]
        adam = {"betas": (0.9, 0.999), "eps": 1e-7, "fused": True}
        self._g_adam = torch.optim.Adam(self._f_parameters, config.g_learning_rate, **adam)
        self._d_adam = torch.optim.Adam(self._d_parameters, config.d_learning_rate, **adam)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Updates on images [N, 1, H, W] in `format` and tags [N, L]; the losses before it."""
        height, width = self._config.image_size
        centre = (
            ...,
            slice(height // 4, height * 3 // 4),
            slice(width // 4, width * 3 // 4),
        )
        patch, x_hat = x[centre], x.clone()
        x_hat[centre] = 0
        with self._autocast:
            predicted = self._paint(x_hat).float()
            real, fake = self.d(patch, y).float(), self.d(predicted, y).float()
        rec = functional.mse_loss(predicted, patch)
        adv = functional.softplus(-fake).mean()
        disc = (functional.softplus(-real) + functional.softplus(fake)).mean()
        joint = self._config.lambda_rec * rec + self._config.lambda_adv * adv
        d_gradients = torch.autograd.grad(disc, self._d_parameters, retain_graph=True)
        g_gradients = torch.autograd.grad(joint, self._f_parameters)
        _update(self._g_adam, self._f_parameters, g_gradients)
        _update(self._d_adam, self._d_parameters, d_gradients)
        return {"rec": rec, "adv": adv, "disc": disc, "joint": joint}


def _update(adam: torch.optim.Adam, parameters: list, gradients: tuple) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    adam.step()


def tasks(preset: dict, labels: int, variant: str) -> dict:
    """The contender: `step` on a prepared batch."""
    config = from_json(preset)
    step = Step(config, labels, variant)
    x = torch.randn(config.batch_size, 1, *config.image_size)
    x = x.contiguous(memory_format=step.format)
    y = torch.randint(0, 2, (config.batch_size, labels)).float()
    return {"step": lambda: {name: loss.item() for name, loss in step(x, y).items()}}
