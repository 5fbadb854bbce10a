"""The methods text of a run and what it cites, for papers and reports."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version

from rela_bids import __version__
from rela_bids.settings import Settings, SkullStrip


@dataclass(frozen=True)
class Reference:
    """A publication. `authors` as in BibTeX; `link` is a DOI or an address."""

    key: str
    cited_as: str
    authors: str
    title: str
    journal: str
    year: int
    link: str

    @property
    def address(self) -> str:
        """Where to find it."""
        return self.link if self.link.startswith("http") else f"https://doi.org/{self.link}"

    @property
    def listed(self) -> str:
        """One line of a list of references."""
        authors = self.authors.replace(" and others", " et al.").replace(" and ", "; ")
        return f"{authors} ({self.year}). {self.title}. *{self.journal}*. <{self.address}>"

    @property
    def bibtex(self) -> str:
        """Its BibTeX entry."""
        where = "url" if self.link.startswith("http") else "doi"
        return (
            f"@article{{{self.key},\n"
            f"    author = {{{self.authors}}},\n"
            f"    title = {{{{{self.title}}}}},\n"
            f"    journal = {{{self.journal}}},\n"
            f"    year = {{{self.year}}},\n"
            f"    {where} = {{{self.link}}}\n"
            "}\n"
        )


REFERENCES = {
    reference.key: reference
    for reference in (
        Reference(
            "rela_diffusion",
            "Yu et al., 2026",
            "Yu, Minhui and Sun, Yongheng and Lalush, David S. and Mihalik, Jason P. and "
            "Yap, Pew-Thian and Liu, Mingxia",
            "RelA-Diffusion: Relativistic Adversarial Diffusion for Multi-Tracer PET Synthesis "
            "from Multi-Sequence MRI",
            "arXiv",
            2026,
            "https://arxiv.org/abs/2602.21345",
        ),
        Reference(
            "bids",
            "Gorgolewski et al., 2016",
            "Gorgolewski, Krzysztof J. and Auer, Tibor and Calhoun, Vince D. and others",
            "The brain imaging data structure, a format for organizing and describing outputs of "
            "neuroimaging experiments",
            "Scientific Data",
            2016,
            "10.1038/sdata.2016.44",
        ),
        Reference(
            "pybids",
            "Yarkoni et al., 2019",
            "Yarkoni, Tal and Markiewicz, Christopher J. and de la Vega, Alejandro and others",
            "PyBIDS: Python tools for BIDS datasets",
            "Journal of Open Source Software",
            2019,
            "10.21105/joss.01294",
        ),
        Reference(
            "nipype",
            "Gorgolewski et al., 2011",
            "Gorgolewski, K. and Burns, C. D. and Madison, C. and Clark, D. and "
            "Halchenko, Y. O. and Waskom, M. L. and Ghosh, S.",
            "Nipype: a flexible, lightweight and extensible neuroimaging data processing framework "
            "in Python",
            "Frontiers in Neuroinformatics",
            2011,
            "10.3389/fninf.2011.00013",
        ),
        Reference(
            "nibabel",
            "Brett et al., NiBabel",
            "Brett, Matthew and Markiewicz, Christopher J. and Hanke, Michael and others",
            "NiBabel: access a cacophony of neuro-imaging file formats",
            "Zenodo",
            2024,
            "10.5281/zenodo.591597",
        ),
        Reference(
            "ants",
            "Tustison et al., 2021",
            "Tustison, Nicholas J. and Cook, Philip A. and Holbrook, Andrew J. and others",
            "The ANTsX ecosystem for quantitative biological and medical imaging",
            "Scientific Reports",
            2021,
            "10.1038/s41598-021-87564-6",
        ),
        Reference(
            "n4",
            "Tustison et al., 2010",
            "Tustison, N. J. and Avants, B. B. and Cook, P. A. and Zheng, Y. and Egan, A. and "
            "Yushkevich, P. A. and Gee, J. C.",
            "N4ITK: Improved N3 Bias Correction",
            "IEEE Transactions on Medical Imaging",
            2010,
            "10.1109/TMI.2010.2046908",
        ),
        Reference(
            "syn",
            "Avants et al., 2008",
            "Avants, B. B. and Epstein, C. L. and Grossman, M. and Gee, J. C.",
            "Symmetric diffeomorphic image registration with cross-correlation: Evaluating "
            "automated labeling of elderly and neurodegenerative brain",
            "Medical Image Analysis",
            2008,
            "10.1016/j.media.2007.06.004",
        ),
        Reference(
            "icbm2009c",
            "Fonov et al., 2009",
            "Fonov, V. S. and Evans, A. C. and McKinstry, R. C. and Almli, C. R. and "
            "Collins, D. L.",
            "Unbiased nonlinear average age-appropriate brain templates from birth to adulthood",
            "NeuroImage",
            2009,
            "10.1016/S1053-8119(09)70884-5",
        ),
        Reference(
            "desikan_killiany",
            "Desikan et al., 2006",
            "Desikan, Rahul S. and Ségonne, Florent and Fischl, Bruce and others",
            "An automated labeling system for subdividing the human cerebral cortex on MRI scans "
            "into gyral based regions of interest",
            "NeuroImage",
            2006,
            "10.1016/j.neuroimage.2006.01.021",
        ),
        Reference(
            "monai",
            "Cardoso et al., 2022",
            "Cardoso, M. Jorge and Li, Wenqi and Brown, Richard and others",
            "MONAI: An open-source framework for deep learning in healthcare",
            "arXiv",
            2022,
            "https://arxiv.org/abs/2211.02701",
        ),
        Reference(
            "deepbet",
            "Fisch et al., 2023",
            "Fisch, Lukas and Zumdick, Stefan and Barkhau, Carlotta and others",
            "deepbet: Fast brain extraction of T1-weighted MRI using Convolutional Neural Networks",
            "arXiv",
            2023,
            "https://arxiv.org/abs/2308.07003",
        ),
    )
}

_SKULL_STRIP: dict[SkullStrip, str] = {
    "ants": "The brain was extracted by a deformable surface (after Smith 2002, "
    "doi:10.1002/hbm.10062) and registration to a template with ANTs [@ants].",
    "deepbet": "The brain was extracted with deepbet [@deepbet].",
    "skip": "The images had been skull-stripped before.",
}


def _space(name: str) -> str:
    if name == "T1w":
        return "the T1w image's own space"
    return (
        f"the space of the template {name.replace(':', ', ')}, through a symmetric diffeomorphic "
        "registration [@syn]"
    )


@dataclass(frozen=True)
class Methods:
    """Text with keys of `REFERENCES` in it (``[@n4]``), in Markdown as pandoc reads it."""

    text: str

    @property
    def references(self) -> list[Reference]:
        """What the text cites, in the order of first mention."""
        return [REFERENCES[key] for key in dict.fromkeys(re.findall(r"@(\w+)", self.text))]

    @property
    def markdown(self) -> str:
        """The text with authors and years, and the list of references."""
        cited = re.sub(
            r"\[([^\]]*@[^\]]*)\]",
            lambda group: (
                "(" + re.sub(r"@(\w+)", lambda key: REFERENCES[key[1]].cited_as, group[1]) + ")"
            ),
            self.text,
        )
        listed = "\n".join(f"- {reference.listed}" for reference in self.references)
        return f"# Methods\n\n{cited}\n\n# References\n\n{listed}\n"

    @property
    def bibtex(self) -> str:
        """BibTeX of the references."""
        return "\n".join(reference.bibtex for reference in self.references)


def describe_methods(settings: Settings, tracers: Sequence[str], *, simulated: bool) -> Methods:
    """What the participant level does under `settings`.

    `tracers` are those synthesised, as the text is to call them; `simulated` says that the model
    learned from simulated PET.
    """
    spaces = " and in ".join(_space(space) for space in settings.anatomy.output_spaces)
    paragraphs = [
        f"PET was synthesised with rela_bids {__version__} from T1-weighted and, where there was "
        f"one, T2-FLAIR MRI in a BIDS dataset [@bids; @pybids]. {_built_on()}",
        _anatomy(settings),
        f"PET ({', '.join(tracers)}) was predicted on the affinely aligned images by a "
        "relativistic adversarial diffusion model, RelA-Diffusion [@rela_diffusion], built on "
        f"MONAI {_version('monai')} [@monai] and PyTorch {_version('torch')}; the model was "
        f"`{settings.synthesis.model}`, the seed {settings.synthesis.random_seed}. The mean and "
        f"standard deviation of its samples, in units of SUVR, were written in {spaces}. They are "
        "predictions, not measurements.",
    ]
    if settings.regions.wanted:
        paragraphs.append(
            f"{_regions(settings)} SUVR was averaged in each region, its spread taken over the "
            "samples' means. Centiloid and CenTauRz are approximate, since neither this pipeline "
            "nor its regions are calibrated to them."
        )
    paragraphs.append(
        "Where there was a measured PET of the same tracer, frames within the tracer's window were "
        "registered to each other, averaged and registered to the T1w rigidly, divided by the mean "
        "in the reference region, and compared in the brain mask."
    )
    if simulated:
        paragraphs.append(
            "The model was trained on simulated PET: these images are for trying out the software "
            "and say nothing about a person."
        )
    return Methods("\n\n".join(paragraphs))


def _regions(settings: Settings) -> str:
    if settings.regions.atlas is not None:
        return (
            f"The atlas `{settings.regions.atlas.name}` was carried to the T1w by a symmetric "
            "diffeomorphic registration [@syn]."
        )
    return (
        "The atlas of Desikan and Killiany [@desikan_killiany] and FreeSurfer's subcortical "
        "regions were carried to the T1w by a symmetric diffeomorphic registration [@syn], and "
        "cortical labels fitted to its grey matter."
    )


def describe_training(settings: Settings, tracers: Sequence[str]) -> Methods:
    """What ``group --train`` does under `settings`; `tracers` are those that are learned."""
    return Methods(
        "\n\n".join(
            [
                f"A model was trained with rela_bids {__version__} on T1-weighted MRI, T2-FLAIR "
                f"where there was one, and PET ({', '.join(tracers)}) of a BIDS dataset [@bids; "
                f"@pybids]. {_built_on()}",
                _anatomy(settings),
                "Frames of the PET within the tracer's window were registered to each other, "
                "averaged by their duration and registered to the T1w rigidly; SUVR is the ratio "
                "to the mean in the tracer's reference region.",
                "The model is a relativistic adversarial diffusion model, RelA-Diffusion "
                f"[@rela_diffusion], built on MONAI {_version('monai')} [@monai] and PyTorch "
                f"{_version('torch')}, of the preset `{settings.training.preset}`, the seed "
                f"{settings.synthesis.random_seed}. People were held out as "
                f"`models/{settings.training.name}/splits.tsv` says.",
            ]
        )
    )


def _built_on() -> str:
    return f"rela_bids is built on Nipype {_version('nipype')} [@nipype] and NiBabel [@nibabel]."


def _anatomy(settings: Settings) -> str:
    return (
        "Intensity non-uniformity was corrected with N4 [@n4], as all registrations were done "
        f"with antspyx {_version('antspyx')}, a distribution of ANTs [@ants]. "
        f"{_SKULL_STRIP[settings.anatomy.skull_strip]} FLAIR was registered to T1w rigidly, T1w to "
        "the ICBM 152 nonlinear asymmetric template, version 2009c [@icbm2009c], by an affine."
    )


def _version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "(version unknown)"
