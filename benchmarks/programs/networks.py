"""The benchmark's models in PyTorch, with parameters that are given. Images are [B, C, H, W]."""

import math

import numpy as np
import torch
from torch import nn

from benchmarks.work import ARCHITECTURES, Parameters


def network(model: str, parameters: Parameters) -> nn.Module:
    """Returns a model of `ARCHITECTURES` with the parameters given."""
    built = nn.Sequential(*LAYERS[model]())
    layers = [part for part in built if isinstance(part, nn.Conv2d | nn.Linear | nn.BatchNorm2d)]
    channels = 1
    for part, layer in zip(layers, ARCHITECTURES[model], strict=True):
        weight = parameters[f"{layer.name}/{'kernel' if len(layer.kernel) > 1 else 'scale'}"]
        if weight.ndim == 4:
            channels = weight.shape[3]
            weight = weight.transpose(3, 2, 0, 1)
        elif weight.ndim == 2:
            weight = _channels_first(weight, channels).T
            channels = 1  # only the first dense layer is behind images
        _set(part.weight, weight)
        if part.bias is not None:
            _set(part.bias, parameters[f"{layer.name}/bias"])
    return built


def lenet() -> list[nn.Module]:
    return [
        *(nn.Conv2d(1, 6, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Conv2d(6, 16, 5), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(400, 120), nn.ReLU(), nn.Linear(120, 84), nn.ReLU()),
        nn.Linear(84, 10),
    ]


def cnn() -> list[nn.Module]:
    return [
        *(nn.Conv2d(3, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2)),
        *(nn.Flatten(), nn.Linear(12544, 128), nn.ReLU(), nn.Linear(128, 10)),
    ]


def bncnn() -> list[nn.Module]:
    parts: list[nn.Module] = []
    inputs = 3
    for outputs in (64, 128, 256):
        for _ in range(2):
            parts += [nn.Conv2d(inputs, outputs, 3, padding=1, bias=False)]
            parts += [nn.BatchNorm2d(outputs), nn.ReLU()]
            inputs = outputs
        parts.append(nn.MaxPool2d(2))
    return [*parts, nn.Flatten(), nn.Linear(4 * 4 * 256, 10)]


def mlp(inputs: int, hidden: int = 200) -> list[nn.Module]:
    return [nn.Flatten(), nn.Linear(inputs, hidden), nn.ReLU(), nn.Linear(hidden, 10)]


LAYERS = {
    "logistic": lambda: [nn.Flatten(), nn.Linear(60, 10)],
    "mlp": lambda: mlp(784),
    "mlp64": lambda: mlp(64),
    "digits": lambda: mlp(64, 64),
    "lenet": lenet,
    "cnn": cnn,
    "bncnn": bncnn,
}


def layout(channels_last: bool) -> torch.memory_format:
    """Returns how images lie in memory."""
    return torch.channels_last if channels_last else torch.contiguous_format


def tensors(
    inputs: np.ndarray, mean: np.ndarray, std: np.ndarray, channels_last: bool = False
) -> torch.Tensor:
    """Returns stored inputs normalised, float32, images as [N, C, H, W]."""
    images = torch.from_numpy(inputs).float().sub_(float(mean)).div_(float(std))
    if images.ndim < 4:
        return images
    return images.permute(0, 3, 1, 2).contiguous(memory_format=layout(channels_last))


def device() -> torch.device:
    """Returns the accelerator if there is one, set to round its products as JAX does there."""
    torch.set_float32_matmul_precision("high")
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def _channels_first(kernel: np.ndarray, channels: int) -> np.ndarray:
    """Orders the inputs [H·W·C, out] of a dense layer behind images as [C·H·W, out]."""
    side = math.isqrt(kernel.shape[0] // channels)
    if side * side * channels != kernel.shape[0]:
        return kernel
    return kernel.reshape(side, side, channels, -1).transpose(2, 0, 1, 3).reshape(kernel.shape)


@torch.no_grad()
def _set(parameter: nn.Parameter, value: np.ndarray) -> None:
    parameter.copy_(torch.from_numpy(np.ascontiguousarray(value)))
