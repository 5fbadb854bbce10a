"""Who the phantoms are: age, atrophy, lesions, and the disease that PET would show.

Each burden is a latent normal variable of which `MRI_SHARE` of the variance is what the MRI shows
(the person's atrophy and lesions) and the rest is chance, so that no model can predict the PET of
a phantom wholly from its MRI.
"""

from dataclasses import dataclass, replace

import numpy as np
from scipy.stats import norm

MRI_SHARE = 0.5

# rs6971: high-, mixed- and low-affinity binders, their share of people and their specific signal.
AFFINITY_SHARE = (0.5, 0.4, 0.1)
AFFINITY_SIGNAL = (1.3, 0.8, 0.3)


@dataclass(frozen=True)
class Person:
    """One simulated person.

    Attributes
    ----------
    age : years. sex : ``"F"`` or ``"M"``.
    atrophy, lesions : standard normal, more is worse.
    amyloid, tau, inflammation, hypometabolism : burdens in [0, 1].
    affinity : how much of the specific signal of a TSPO tracer is seen (rs6971).
    """

    age: float
    sex: str
    atrophy: float
    lesions: float
    amyloid: float
    tau: float
    inflammation: float
    hypometabolism: float
    affinity: float

    @property
    def group(self) -> str:
        """``patient`` where the amyloid burden is past its midpoint, else ``control``."""
        return "patient" if self.amyloid > 0.5 else "control"


def draw_person(rng: np.random.Generator) -> Person:
    """A person at random, 20 to 90 years old, two in three of them over 50."""
    age = rng.uniform(50, 90) if rng.random() < 2 / 3 else rng.uniform(20, 50)
    ageing = (age - 60) / 18
    atrophy = 0.75 * ageing + 0.65 * rng.standard_normal()
    lesions = 0.5 * ageing + 0.85 * rng.standard_normal()
    chance = rng.standard_normal(4)
    # Weights that give the part that is seen a variance of about 1, as chance has.
    seen = 0.65 * atrophy + 0.5 * lesions
    # Tau and metabolism share a part of amyloid's chance: the diseases go together.
    shared = 0.6 * chance[0] + 0.8 * chance
    amyloid = _bimodal(_latent(seen, chance[0]))
    return Person(
        age=round(age, 1),
        sex="F" if rng.random() < 0.5 else "M",
        atrophy=atrophy,
        lesions=lesions,
        amyloid=amyloid,
        tau=(0.3 + 0.7 * amyloid) * _uniform(_latent(atrophy, shared[1])),
        inflammation=_uniform(_latent(lesions, chance[2])),
        hypometabolism=_uniform(_latent(atrophy, shared[3])),
        affinity=float(rng.choice(AFFINITY_SIGNAL, p=AFFINITY_SHARE)),
    )


def _latent(seen: float, chance: float) -> float:
    return np.sqrt(MRI_SHARE) * seen + np.sqrt(1 - MRI_SHARE) * chance


def _uniform(latent: float) -> float:
    return float(norm.cdf(latent))


def _bimodal(latent: float) -> float:
    """Amyloid is mostly absent or abundant; about two people in five have it."""
    return float(1 / (1 + np.exp(-(latent - 0.25) / 0.25)))


def aged(person: Person, years: float) -> Person:
    """The same person later: more atrophy and lesions, and burdens that have grown."""

    def grown(burden: float) -> float:
        odds = burden / max(1 - burden, 1e-6) * np.exp(0.1 * years)
        return float(odds / (1 + odds))

    return replace(
        person,
        age=round(person.age + years, 1),
        atrophy=person.atrophy + 0.05 * years,
        lesions=person.lesions + 0.05 * years,
        amyloid=grown(person.amyloid),
        tau=grown(person.tau),
        inflammation=grown(person.inflammation),
        hypometabolism=grown(person.hypometabolism),
    )
