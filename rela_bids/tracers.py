"""What is known of each tracer.

A tracer is added here, or at run time by a TOML file, see `rela_bids.tracer_config`.

Frame windows are common practice, in minutes after injection, and can be overridden.
"""

from dataclasses import dataclass


@dataclass(frozen=True)
class Conversion:
    """A linear map ``slope * SUVR + intercept`` onto a published scale.

    The published coefficients hold for the standard SPM pipeline and the GAAIN masks only; values
    that another pipeline makes with them are approximate.
    """

    scale: str
    slope: float
    intercept: float
    source: str

    @property
    def formula(self) -> str:
        """In words.

        >>> TRACERS["11CPIB"].conversion.formula
        'Centiloid = 93.7 * SUVR - 94.6'
        """
        sign = "-" if self.intercept < 0 else "+"
        return f"{self.scale} = {self.slope:g} * SUVR {sign} {abs(self.intercept):g}"


@dataclass(frozen=True)
class Tracer:
    """One radiotracer.

    Attributes
    ----------
    label : BIDS ``trc-`` label.
    name : name in plain words.
    radionuclide : as in BIDS ``TracerRadionuclide``.
    target : what the tracer binds to or measures.
    reference_region : a key of `rela_bids.templates.REFERENCE_REGIONS`.
    frame_window : start and end of the late frames, minutes after injection.
    suvr_scale : the SUVR that the network's upper bound 1 stands for; 0 SUVR is -1.
    conversion : to Centiloid or CenTauRz, where one is published.
    """

    label: str
    name: str
    radionuclide: str
    target: str
    reference_region: str
    frame_window: tuple[float, float]
    suvr_scale: float
    conversion: Conversion | None = None


_NAVITSKY = "Navitsky 2018, doi:10.1016/j.jalz.2018.06.1353"

TRACERS: dict[str, Tracer] = {
    tracer.label: tracer
    for tracer in (
        Tracer(
            label="11CPIB",
            name="Pittsburgh compound B",
            radionuclide="C11",
            target="amyloid",
            reference_region="whole cerebellum",
            frame_window=(50, 70),
            suvr_scale=3.5,
            conversion=Conversion(
                "Centiloid", 93.7, -94.6, "Klunk 2015, doi:10.1016/j.jalz.2014.07.003"
            ),
        ),
        Tracer(
            label="18FAV45",
            name="florbetapir",
            radionuclide="F18",
            target="amyloid",
            reference_region="whole cerebellum",
            frame_window=(50, 70),
            suvr_scale=3.0,
            conversion=Conversion("Centiloid", 175.4, -182.3, _NAVITSKY),
        ),
        Tracer(
            label="18FFBB",
            name="florbetaben",
            radionuclide="F18",
            target="amyloid",
            reference_region="whole cerebellum",
            frame_window=(90, 110),
            suvr_scale=3.0,
            conversion=Conversion(
                "Centiloid", 153.4, -154.9, "Rowe 2017, doi:10.1007/s00259-017-3749-6"
            ),
        ),
        Tracer(
            label="18FAV1451",
            name="flortaucipir",
            radionuclide="F18",
            target="tau",
            reference_region="cerebellar grey matter",
            frame_window=(80, 100),
            suvr_scale=3.5,
            conversion=Conversion(
                "CenTauRz", 13.63, -15.85, "Villemagne 2023, doi:10.1002/dad2.12454"
            ),
        ),
        Tracer(
            label="11CPBR28",
            name="PBR28",
            radionuclide="C11",
            target="translocator protein (neuroinflammation)",
            reference_region="whole cerebellum",
            frame_window=(60, 90),
            suvr_scale=2.5,
        ),
        Tracer(
            label="18FFDG",
            name="fluorodeoxyglucose",
            radionuclide="F18",
            target="glucose metabolism",
            reference_region="pons",
            frame_window=(30, 60),
            suvr_scale=3.5,
        ),
    )
}

# What sidecars call tracers, in lower case and without punctuation and isotope.
NAMES_IN_SIDECARS: dict[str, str] = {
    "pib": "11CPIB",
    "pittsburghcompoundb": "11CPIB",
    "av45": "18FAV45",
    "fbp": "18FAV45",
    "amyvid": "18FAV45",
    "fbb": "18FFBB",
    "neuraceq": "18FFBB",
    "av1451": "18FAV1451",
    "t807": "18FAV1451",
    "tauvid": "18FAV1451",
    "fdg": "18FFDG",
    "fluorodeoxyglucose": "18FFDG",
} | {tracer.name.lower(): label for label, tracer in TRACERS.items()}
