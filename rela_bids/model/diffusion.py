"""The forward process of diffusion and its reverse step (Ho et al. 2020, arXiv 2006.11239)."""

from functools import cache

import torch
import torch.nn.functional as F  # noqa: N812  torch's own convention
from monai.networks.schedulers.scheduler import NoiseSchedules
from torch import Tensor

from rela_bids.exceptions import UsageError
from rela_bids.model.presets import DiffusionConfig


@cache
def _variance_after_upsampling(doublings: int) -> float:
    """The variance that is left of white noise of variance 1, away from the borders, in 3-D."""
    impulses = torch.eye(8).unsqueeze(0)
    for _ in range(doublings):
        impulses = F.interpolate(impulses, scale_factor=2, mode="linear")
    inner = impulses[..., impulses.shape[-1] // 4 : -impulses.shape[-1] // 4]
    return float(inner.square().sum(1).mean()) ** 3


def draw_noise(
    shape: tuple[int, ...], octaves: int = 1, generator: torch.Generator | None = None
) -> Tensor:
    """Normal noise of unit variance, `shape` = (B, 1, X, Y, Z), float32, drawn on the CPU.

    It is a sum over octaves, each of equal variance on a grid half as fine as the one before. White
    noise alone (one octave) hardly touches what is smooth: averaged over a lobe it is next to
    nothing. The first clean prediction, a mean over all that is possible, would then fix the level
    of uptake for good, and the samples of one session would differ in their grain only.
    """
    margin = 2  # Voxels of the coarser grid on each side, where interpolation is at its border.
    shapes = [shape]
    for _ in range(octaves - 1):
        shapes.append((*shape[:2], *(-(-n // 2) + 2 * margin for n in shapes[-1][2:])))
    total = torch.zeros(())
    for doublings, octave in reversed(list(enumerate(shapes))):
        if total.ndim:
            # Doubling again and again makes a smooth spline; one large step would leave a lattice.
            total = F.interpolate(total, scale_factor=2, mode="trilinear")
            x, y, z = (slice(2 * margin, 2 * margin + n) for n in octave[2:])
            total = total[..., x, y, z]
        white = torch.randn(octave, generator=generator)
        total = total + white / (octaves * _variance_after_upsampling(doublings)) ** 0.5
    return total


class Schedule:
    """ᾱ of every timestep, and what follows from it.

    Timesteps t run from 0, nearly clean, to T - 1. x0, noise and x_t are (B, 1, X, Y, Z); x0 is in
    the network's range, [-1, 1]; t is an int or (B,) int64.

    Attributes
    ----------
    config : the DiffusionConfig it was built from.
    alphas_cumprod : ᾱ, (T,), float32.
    """

    def __init__(self, config: DiffusionConfig) -> None:
        """Compute ᾱ; the betas are MONAI's."""
        self.config = config
        betas = NoiseSchedules["scaled_linear_beta"](
            config.timesteps, beta_start=config.beta_start, beta_end=config.beta_end
        )
        self.alphas_cumprod = torch.cumprod(1.0 - betas, dim=0)
        if config.zero_terminal_snr:
            root = self.alphas_cumprod.sqrt()
            root = (root - root[-1]) * (root[0] / (root[0] - root[-1]))
            self.alphas_cumprod = root.square()

    def draw_timesteps(self, n: int, generator: torch.Generator | None = None) -> Tensor:
        """`n` of the timesteps that are trained on, with replacement, (n,) int64 on the CPU."""
        trained = torch.tensor(self.config.trained_timesteps or range(self.config.timesteps))
        return trained[torch.randint(len(trained), (n,), generator=generator)]

    def draw_noise(
        self, shape: tuple[int, ...], generator: torch.Generator | None = None
    ) -> Tensor:
        """`draw_noise` with the octaves of the configuration."""
        return draw_noise(shape, self.config.noise_octaves, generator)

    def _signal_and_noise(self, t: Tensor | int, like: Tensor) -> tuple[Tensor, Tensor]:
        """√ᾱ_t and √(1 - ᾱ_t), shaped to multiply (B, 1, X, Y, Z)."""
        t = torch.as_tensor(t, device="cpu")
        a = self.alphas_cumprod[t].to(like.device, like.dtype).reshape(-1, 1, 1, 1, 1)
        return a.sqrt(), (1.0 - a).sqrt()

    def add_noise(self, x0: Tensor, noise: Tensor, t: Tensor | int) -> Tensor:
        """x_t = √ᾱ_t x0 + √(1 - ᾱ_t) ε, Ho et al., equation 4."""
        signal, sigma = self._signal_and_noise(t, x0)
        return signal * x0 + sigma * noise

    def target(self, x0: Tensor, noise: Tensor) -> Tensor:
        """What the network is to predict: the noise, or the clean image."""
        return noise if self.config.prediction == "epsilon" else x0

    def clean_prediction(
        self, output: Tensor, x_t: Tensor, t: Tensor | int, *, clip: bool = True
    ) -> Tensor:
        """x̂0 from the network's output, clipped to [-1, 1]; Ho et al., equation 15."""
        if self.config.prediction == "epsilon":
            signal, sigma = self._signal_and_noise(t, x_t)
            output = (x_t - sigma * output) / signal
        return output.clamp(-1.0, 1.0) if clip else output

    def sampling_timesteps(self, steps: int) -> tuple[int, ...]:
        """The timesteps, descending, that `steps` passes of the network go through.

        Raises
        ------
        UsageError
            If the model was not trained on that many timesteps.
        """
        trained = self.config.trained_timesteps
        available = len(trained) or self.config.timesteps
        if not 1 <= steps <= available:
            raise UsageError(
                f"--sampling-steps {steps}: this model takes from 1 to {available} steps"
            )
        if trained:
            return tuple(trained[i * available // steps] for i in range(steps))
        return tuple(torch.linspace(available - 1, 0, steps).round().int().tolist())

    def ancestral_step(self, x0: Tensor, x_t: Tensor, t: int, s: int, noise: Tensor) -> Tensor:
        """A draw from q(x_s | x_t, x0), s < t; Ho et al., equations 6 and 7, for any stride t - s.

        The published code uses ᾱ[t - 1] whatever the stride; with s = t - 1 the two agree.
        """
        a_t, a_s = float(self.alphas_cumprod[t]), float(self.alphas_cumprod[s])
        alpha = a_t / a_s
        beta = 1.0 - alpha
        mean = (a_s**0.5 * beta * x0 + alpha**0.5 * (1.0 - a_s) * x_t) / (1.0 - a_t)
        return mean + (beta * (1.0 - a_s) / (1.0 - a_t)) ** 0.5 * noise
