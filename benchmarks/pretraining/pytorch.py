"""The pretraining step in PyTorch: the same networks, losses and updates.

PyTorch's up-convolutions pad on the opposite side to TensorFlow's. So the networks are equal on
images turned by 180°, with all kernels turned; see `agreement`. ResNet50 and the teacher are
timm's, with the strides of Keras'; Keras' convolutions of ResNet50 have a bias, too.
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


def decoder(width: float, c: int) -> nn.Sequential:
    """As `Decoder`: [N, c, H/32, W/32] to [N, 1, H/2, W/2]."""
    layers = []
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


class Gray(nn.Module):
    """A network of timm: gray images [N, 1, H, W], z-scored, to its scales of stride 2 to 32."""

    def __init__(self, name: str, scale: float, offset: float):
        super().__init__()
        import timm

        self.network = timm.create_model(name, features_only=True)
        self.scale, self.offset = scale, offset
        if name == "resnet50":
            for layer in (self.network.layer2, self.network.layer3, self.network.layer4):
                layer[0].conv1.stride, layer[0].conv2.stride = (2, 2), (1, 1)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        return self.network((self.scale * x + self.offset).repeat(1, 3, 1, 1))


class Last(nn.Module):
    """The last scale of a network."""

    def __init__(self, network: nn.Module):
        super().__init__()
        self.network = network

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.network(x)[-1]


class _Settings:
    """What the variants set: memory format, autocast, compiled networks, and the device."""

    def __init__(self, config: PretrainConfig, variant: str, device: str):
        self.config, self.device = config, device
        self.format = torch.contiguous_format if variant == "eager" else torch.channels_last
        self.autocast = torch.autocast(device, torch.bfloat16, enabled=variant == "bfloat16")
        self.compile = torch.compile if variant == "compiled" else lambda network: network

    def place(self, network: nn.Module) -> nn.Module:
        return network.to(self.device, memory_format=self.format)

    def adam(self, parameters: list, learning_rate: float) -> torch.optim.Adam:
        return torch.optim.Adam(parameters, learning_rate, betas=(0.9, 0.999), eps=1e-7, fused=True)


class Step:
    """One update of F and D, both gradients at the same weights, from one forward pass of F.

    Args:
        config: Backbone, width, image size, λ and learning rates are used.
        labels: Length L of y.
        variant: `eager`, `channels-last`, `bfloat16` (autocast) or `compiled`; the last two are
            channels-last too. D's two losses need its graph twice, which a compiled one would run
            in full each time: it stays eager.
        device: `cpu` or `cuda`.
    """

    def __init__(
        self, config: PretrainConfig, labels: int, variant: str = "eager", device: str = "cpu"
    ):
        self.settings = _Settings(config, variant, device)
        if config.backbone == "resnet50":
            features = Last(Gray("resnet50", 255 * 0.226, 0.0)), 2048
        else:
            features = encoder(config.width), channels(ENCODER[-1][1], config.width)
        self.f = self.settings.place(nn.Sequential(features[0], decoder(config.width, features[1])))
        self.d = self.settings.place(Discriminator(labels, config.width))
        self._paint = self.settings.compile(self.f)
        self._f_parameters, self._d_parameters = [*self.f.parameters()], [*self.d.parameters()]
        self._g_adam = self.settings.adam(self._f_parameters, config.g_learning_rate)
        self._d_adam = self.settings.adam(self._d_parameters, config.d_learning_rate)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Updates on images [N, 1, H, W] in `format` and tags [N, L]; the losses before it."""
        config = self.settings.config
        height, width = config.image_size
        centre = (
            ...,
            slice(height // 4, height * 3 // 4),
            slice(width // 4, width * 3 // 4),
        )
        patch, x_hat = x[centre], x.clone()
        x_hat[centre] = 0
        with self.settings.autocast:
            predicted = self._paint(x_hat).float()
            real, fake = self.d(patch, y).float(), self.d(predicted, y).float()
        rec = functional.mse_loss(predicted, patch)
        adv = functional.softplus(-fake).mean()
        disc = (functional.softplus(-real) + functional.softplus(fake)).mean()
        joint = config.lambda_rec * rec + config.lambda_adv * adv
        d_gradients = torch.autograd.grad(disc, self._d_parameters, retain_graph=True)
        g_gradients = torch.autograd.grad(joint, self._f_parameters)
        _update(self._g_adam, self._f_parameters, g_gradients)
        _update(self._d_adam, self._d_parameters, d_gradients)
        return {"rec": rec, "adv": adv, "disc": disc, "joint": joint}


class Distillation:
    """One update of the encoder and of the 1×1 convolutions Q, as in `Distiller`.

    Arguments as in `Step`.
    """

    def __init__(self, config: PretrainConfig, labels: int, variant: str, device: str):
        self.settings = _Settings(config, variant, device)
        counts = [channels(count, config.width) for _, count in ENCODER]
        self.encoder = self.settings.place(Scales(config.width))
        teacher = Gray("tf_efficientnet_lite0", 255 * 0.226 / 128, (255 * 0.449 - 127) / 128)
        self._teach = self.settings.compile(self.settings.place(teacher.eval()))
        taught = teacher.network.feature_info.channels()
        self._q = nn.ModuleList(
            self.settings.place(nn.Conv2d(c, d, 1))
            for c, d in zip(counts[1:], taught[1:], strict=True)
        )
        self._see = self.settings.compile(self.encoder)
        self._parameters = [*self.encoder.parameters(), *self._q.parameters()]
        self._adam = self.settings.adam(self._parameters, config.g_learning_rate)

    def __call__(self, x: torch.Tensor, y: torch.Tensor) -> dict[str, torch.Tensor]:
        """Updates on images [N, 1, H, W]; the loss before it. y is not used."""
        with self.settings.autocast:
            with torch.no_grad():
                taught = self._teach(x)[1:]
            seen = self._see(x)[1:]
            pairs = zip(self._q, seen, taught, strict=True)
            losses = [functional.mse_loss(q(s).float(), t.float()) for q, s, t in pairs]
        loss = torch.stack(losses).mean()
        gradients = torch.autograd.grad(loss, self._parameters)
        _update(self._adam, self._parameters, gradients)
        return {"joint": loss}


class Scales(nn.Module):
    """`encoder` with all of its scales."""

    def __init__(self, width: float):
        super().__init__()
        self.layers = encoder(width)

    def forward(self, x: torch.Tensor) -> list[torch.Tensor]:
        scales = []
        for layer in self.layers:
            x = layer(x)
            if isinstance(layer, nn.MaxPool2d):
                scales.append(x)
        return scales


def _update(adam: torch.optim.Adam, parameters: list, gradients: tuple) -> None:
    for parameter, gradient in zip(parameters, gradients, strict=True):
        parameter.grad = gradient
    adam.step()


def tasks(preset: dict, labels: int, variant: str, device: str = "cpu") -> dict:
    """The contender: `step` on a prepared batch; on a GPU it measures the peak of its memory."""
    config = from_json(preset)
    torch.backends.cuda.matmul.allow_tf32 = True  # as TensorFlow does
    step = (Distillation if config.teacher else Step)(config, labels, variant, device)
    x = torch.randn(config.batch_size, 1, *config.image_size, device=device)
    x = x.contiguous(memory_format=step.settings.format)
    y = torch.randint(0, 2, (config.batch_size, labels), device=device).float()

    def run():
        losses = {name: loss.item() for name, loss in step(x, y).items()}
        return losses | ({"device": torch.cuda.max_memory_allocated()} if device == "cuda" else {})

    return {"step": run}
