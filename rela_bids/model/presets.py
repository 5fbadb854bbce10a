"""The method as data: one frozen dataclass for each part, and two presets made of them.

``paper`` is RelA-Diffusion as published (arXiv 2602.21345); ``fast``, the default, is ours.
"""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any, Literal, get_args, get_origin, get_type_hints

from rela_bids.exceptions import BadDataError
from rela_bids.volumes import TEMPLATE_BRAIN_CENTRE, Grid

Input = Literal["t1w", "flair"]

INPUTS: tuple[Input, ...] = ("t1w", "flair")


@dataclass(frozen=True)
class NetworkConfig:
    """The denoiser.

    Attributes
    ----------
    architecture : ``published`` is MONAI's `DiffusionModelUNet` with attention at the last level;
        ``factored`` has an encoder of its own for the MRI, see `factored.FactoredDenoiser`.
    channels : width of each level, finest first.
    res_blocks : residual blocks on each level.
    norm_groups : groups of each group normalisation; divides every width.
    min_classes : rows of the tracer embedding, even where there are fewer tracers.
    refined : ``factored`` works on volumes half as fine and refines the result.
    """

    architecture: Literal["published", "factored"]
    channels: tuple[int, ...]
    res_blocks: int
    norm_groups: int
    min_classes: int
    refined: bool

    @property
    def stride(self) -> int:
        """The number of voxels that the length of every axis of an input is a multiple of."""
        if self.architecture == "factored":  # Its noisy PET comes in by blocks of 4 x 4 x 4.
            return 8 if self.refined else 4
        return 1 << (len(self.channels) - 1)


@dataclass(frozen=True)
class DiscriminatorConfig:
    """The discriminator, on patches.

    Attributes
    ----------
    architecture : ``published`` sees the PET alone and uses batch normalisation; ``conditional``
        sees MRI and tracer too, has a space-to-depth front end and no normalisation.
    channels : width of the first layer, doubled by each that follows.
    layers : layers between the first and the last.
    """

    architecture: Literal["published", "conditional"]
    channels: int
    layers: int


@dataclass(frozen=True)
class DiffusionConfig:
    """The forward process, and what the network predicts.

    Attributes
    ----------
    timesteps : length T of the forward process.
    beta_start, beta_end : ends of the scaled-linear betas.
    zero_terminal_snr : rescale the betas so that nothing of the image is left at T - 1
        (Lin et al. 2024, arXiv 2305.08891, algorithm 1).
    prediction : ``epsilon``, the noise, or ``sample``, the clean PET.
    trained_timesteps : the only timesteps trained and sampled on, descending; empty for all.
    noise_octaves : scales that the noise is drawn at, each with an equal share of the variance;
        1 is white noise. See `diffusion.draw_noise`.
    antithetic : samples come in pairs, of which one has the other's noise with the opposite sign,
        so that their mean is nearer to that of all samples.
    """

    timesteps: int
    beta_start: float
    beta_end: float
    zero_terminal_snr: bool
    prediction: Literal["epsilon", "sample"]
    trained_timesteps: tuple[int, ...]
    noise_octaves: int
    antithetic: bool


@dataclass(frozen=True)
class LossConfig:
    """The parts of the loss, each with its own switch.

    Attributes
    ----------
    adversarial : ``relativistic`` compares each synthetic with the real PET of the same session;
        ``standard`` is the non-saturating loss of Goodfellow et al. 2014; ``none`` leaves it out.
    gradient_penalty : R1 and R2 on the discriminator, or not.
    gamma : the penalty's weight is gamma / 2.
    penalty_sum : ``corrected`` sums the squared gradient over all non-batch axes, as the paper
        writes; ``published`` sums over three of the four and averages over the last, as the
        authors' code does.
    denoising_weight : of MSE between the network's output and its target.
    l1_weight : of the L1 distance between clean prediction and PET.
    energy_weight : of the energy score of two clean predictions from different noise, see
        `losses.energy_score`; 0 denoises one.
    adversarial_weight : of the generator's adversarial loss.
    warmup_fraction : share of the training before the adversarial loss sets in; with the energy
        score, the denoiser learns the mean of all samples in it, by MSE and L1 without noise.
    """

    adversarial: Literal["relativistic", "standard", "none"]
    gradient_penalty: bool
    gamma: float
    penalty_sum: Literal["published", "corrected"]
    denoising_weight: float
    l1_weight: float
    energy_weight: float
    adversarial_weight: float
    warmup_fraction: float


@dataclass(frozen=True)
class OptimiserConfig:
    """Adam for both networks.

    Attributes
    ----------
    generator_lr, discriminator_lr : learning rates.
    schedule : ``constant`` learning rates, or ``cosine``: a short rise, then down to nothing at the
        end of the training.
    betas : of Adam.
    batch_size : volumes a step.
    epochs : passes over the training data.
    ema_decay : of the averaged weights that are saved; 0 saves the last ones.
    gradient_clip : largest norm of the denoiser's gradient; 0 does not clip.
    """

    generator_lr: float
    discriminator_lr: float
    schedule: Literal["constant", "cosine"]
    betas: tuple[float, float]
    batch_size: int
    epochs: int
    ema_decay: float
    gradient_clip: float


@dataclass(frozen=True)
class ModelConfig:
    """Everything that a model is, but its weights and its tracers.

    Attributes
    ----------
    preset : name of the preset that it came from.
    grid : the grid of all its volumes, RAS+ mm in template space.
    intensity : ``suvr`` keeps SUVR by a constant per tracer; ``minmax`` scales every image by its
        own range, as published.
    inputs : MRI modalities that it is given; the channel of any other is zero.
    sampling_steps, n_samples : defaults for synthesis.
    modality_dropout : share of training examples whose FLAIR is withheld.
    augmentation : whether training flips volumes and varies the intensity of their MRI.
    """

    preset: str
    grid: Grid
    intensity: Literal["suvr", "minmax"]
    inputs: tuple[Input, ...]
    network: NetworkConfig
    discriminator: DiscriminatorConfig
    diffusion: DiffusionConfig
    loss: LossConfig
    optimiser: OptimiserConfig
    sampling_steps: int
    n_samples: int
    modality_dropout: float
    augmentation: bool

    def __post_init__(self) -> None:
        """Raise BadDataError where two settings contradict each other."""
        stride = self.network.stride
        if any(n % stride for n in self.grid.shape):
            raise BadDataError(
                f"the model's grid {self.grid.shape} does not suit its network: "
                f"make every axis a multiple of {stride} voxels"
            )
        if not self.inputs:
            raise BadDataError("the model has no inputs: name t1w, flair or both")


_BRAIN_1MM = Grid.about(TEMPLATE_BRAIN_CENTRE, (160, 180, 160), 1.0)
_BRAIN_2MM = Grid.about(TEMPLATE_BRAIN_CENTRE, (80, 96, 80), 2.0)

PRESETS: dict[str, ModelConfig] = {
    "paper": ModelConfig(
        preset="paper",
        grid=_BRAIN_1MM,
        intensity="minmax",
        inputs=INPUTS,
        network=NetworkConfig(
            architecture="published",
            channels=(16, 32, 64),
            res_blocks=2,
            norm_groups=8,
            min_classes=4,
            refined=False,
        ),
        discriminator=DiscriminatorConfig(architecture="published", channels=4, layers=2),
        diffusion=DiffusionConfig(
            timesteps=1000,
            beta_start=0.0005,
            beta_end=0.0195,
            zero_terminal_snr=False,
            prediction="epsilon",
            trained_timesteps=(),
            noise_octaves=1,
            antithetic=False,
        ),
        loss=LossConfig(
            adversarial="relativistic",
            gradient_penalty=True,
            gamma=0.001,
            penalty_sum="corrected",  # "published" is a slip of the code, see `LossConfig`
            denoising_weight=1.0,
            l1_weight=1.0,
            energy_weight=0.0,
            adversarial_weight=1.0,  # 0.1 in the authors' notebook
            warmup_fraction=0.2,
        ),
        optimiser=OptimiserConfig(
            generator_lr=5e-5,
            discriminator_lr=5e-6,
            schedule="constant",
            betas=(0.9, 0.999),
            batch_size=1,
            epochs=100,
            ema_decay=0.0,
            gradient_clip=0.0,
        ),
        sampling_steps=1000,
        n_samples=5,
        modality_dropout=0.0,
        augmentation=False,
    ),
    "fast": ModelConfig(
        preset="fast",
        grid=_BRAIN_2MM,
        intensity="suvr",
        inputs=INPUTS,
        network=NetworkConfig(
            architecture="factored",
            channels=(16, 48, 56),
            res_blocks=1,
            norm_groups=8,
            min_classes=1,
            refined=True,
        ),
        discriminator=DiscriminatorConfig(architecture="conditional", channels=24, layers=2),
        diffusion=DiffusionConfig(
            timesteps=1000,
            beta_start=0.0005,
            beta_end=0.0195,
            zero_terminal_snr=True,
            prediction="sample",
            trained_timesteps=(999,),
            noise_octaves=7,
            antithetic=True,
        ),
        loss=LossConfig(
            adversarial="relativistic",
            gradient_penalty=True,
            gamma=0.002,
            penalty_sum="corrected",
            denoising_weight=0.0,
            l1_weight=0.0,
            energy_weight=1.0,
            adversarial_weight=0.03,
            warmup_fraction=0.5,
        ),
        optimiser=OptimiserConfig(
            generator_lr=1e-3,
            discriminator_lr=1e-3,
            schedule="cosine",
            betas=(0.9, 0.99),
            batch_size=2,
            epochs=100,
            ema_decay=0.995,
            gradient_clip=1.0,
        ),
        sampling_steps=1,
        n_samples=16,
        modality_dropout=0.25,
        augmentation=True,
    ),
}
DEFAULT_PRESET = "fast"


def to_dict(config: ModelConfig) -> dict[str, Any]:
    """`config` as nested dictionaries of what JSON and TOML can hold."""
    return asdict(config)


def from_dict(values: Mapping[str, Any]) -> ModelConfig:
    """The inverse of `to_dict`.

    Raises
    ------
    BadDataError
        If a key is unknown or missing, or a value is not of its kind: a model never silently runs
        with this version's defaults.
    """
    config: ModelConfig = _read(ModelConfig, values, "")
    return config


def override(config: ModelConfig, changes: Mapping[str, Any]) -> ModelConfig:
    """`config` with some values replaced, nested as in `to_dict`.

    >>> override(PRESETS["fast"], {"loss": {"adversarial": "none"}}).loss.adversarial
    'none'

    Raises
    ------
    BadDataError
        As `from_dict`.
    """
    return from_dict(_merge(to_dict(config), changes))


def _merge(values: Mapping[str, Any], changes: Mapping[str, Any]) -> dict[str, Any]:
    nested = {
        key: _merge(values[key], change)
        for key, change in changes.items()
        if isinstance(change, Mapping) and isinstance(values.get(key), Mapping)
    }
    return {**values, **changes, **nested}


def _read(kind: Any, value: Any, where: str) -> Any:
    """`value` as `kind`, a type hint of one of the dataclasses above; `where` names it."""
    if is_dataclass(kind):
        return _read_dataclass(kind, value, where)
    if get_origin(kind) is tuple:
        return _read_tuple(get_args(kind), value, where)
    if get_origin(kind) is Literal:
        choices = get_args(kind)
        if value not in choices:
            raise BadDataError(f"{where} is {value!r}: choose one of {', '.join(choices)}")
        return value
    accepted = (int, float) if kind is float else kind
    if not isinstance(value, accepted) or (isinstance(value, bool) and kind is not bool):
        raise BadDataError(f"{where} is {value!r}: give a value of type {kind.__name__}")
    return kind(value)


def _read_dataclass(kind: Any, values: Any, where: str) -> Any:
    names = [field.name for field in fields(kind)]
    if not isinstance(values, Mapping):
        raise BadDataError(f"{where or 'the configuration'} is not a table of {', '.join(names)}")
    prefix = f"{where}." if where else ""
    for key in values:
        if key not in names:
            raise BadDataError(f"unknown setting {prefix}{key}: choose among {', '.join(names)}")
    for name in names:
        if name not in values:
            raise BadDataError(f"the setting {prefix}{name} is missing")
    hints = get_type_hints(kind)
    return kind(**{name: _read(hints[name], values[name], prefix + name) for name in names})


def _read_tuple(kinds: tuple[Any, ...], values: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(values, list | tuple):
        raise BadDataError(f"{where} is {values!r}: give a list")
    if kinds[-1] is Ellipsis:
        kinds = (kinds[0],) * len(values)
    if len(values) != len(kinds):
        raise BadDataError(f"{where} has {len(values)} values: give {len(kinds)}")
    return tuple(_read(k, v, where) for k, v in zip(kinds, values, strict=True))
