"""Networks that misbehave, or that remember how many images they were given at once."""

from __future__ import annotations

from collections import defaultdict

import torch
from torch import Tensor, nn

from tests.support.worlds import SIZE, TinyClassifier, TinyConditional, TinyGenerator, TinyMapping

seen: dict[str, list[int]] = defaultdict(list)  # by the network's role, the batches that it was given


class Watched(nn.Module):
    """A network that notes the size of every batch."""

    def __init__(self, role: str, network: nn.Module) -> None:
        super().__init__()
        self.role, self.network = role, network

    def forward(self, *inputs: Tensor) -> Tensor:
        seen[self.role].append(len(inputs[0]))
        out: Tensor = self.network(*inputs)
        return out


class WatchedConditional(Watched):
    """The same with a class."""

    def forward(self, z: Tensor, label: Tensor) -> Tensor:  # type: ignore[override]
        return super().forward(z, label)


class Halves(nn.Module):
    """(n, 1, 8, 8) -> (n, 2, 8, 8): bright pixels and dark ones."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([x - 0.5, 0.5 - x], 1) * 20


def watched(role: str) -> nn.Module:
    """Builds a network for a role: a factory's target."""
    networks = {"mapping": TinyMapping, "segmenter": Halves, "generator": TinyGenerator}
    if role == "conditional":
        return WatchedConditional(role, TinyConditional())
    return Watched(role, networks.get(role, TinyClassifier)())


class Answers(nn.Module):
    """What another network answers, in another type."""

    def __init__(self, network: nn.Module, kind: torch.dtype, scale: float = 1) -> None:
        super().__init__()
        self.network, self.kind, self.scale = network, kind, scale

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x) * self.scale
        return y.to(self.kind)


class Noisy(nn.Module):
    """What another network answers, and noise of its own."""

    def __init__(self, network: nn.Module, noise: float = 0.01) -> None:
        super().__init__()
        self.network, self.noise = network, noise

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y + self.noise * torch.randn_like(y)


class OfItsBatch(nn.Module):
    """What another network answers, compared with the mean of the batch, as BatchNorm in training mode does."""

    def __init__(self, network: nn.Module, share: float = 0.1) -> None:
        super().__init__()
        self.network, self.share = network, share

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y - self.share * y.mean(0, keepdim=True)


class Rounds(nn.Module):
    """What another network answers, rounded as the order of a sum would, in a way that goes by the size of the batch."""

    def __init__(self, network: nn.Module) -> None:
        super().__init__()
        self.network = network

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y * (1 + 1e-6 * (x.shape[0] % 7))


class Frozen(nn.Module):
    """What another network answers, through a shape in which the batch was frozen, at two if not said."""

    def __init__(self, network: nn.Module, at: int = 2) -> None:
        super().__init__()
        self.network, self.at = network, at

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.network(x)
        return y.flatten(1).view(self.at, y[0].numel()).view(y.shape)


class Volume(nn.Module):
    """(n, 1, 8, 8) -> (n, 3) scores, by a convolution of three axes."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.conv = nn.Conv3d(1, 3, (1, SIZE, SIZE))
        self.flat = nn.Conv2d(1, 1, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.conv(self.flat(x)[:, :, None])
        return y.flatten(1)
