"""Whether the licences of a base model and of data go together: a small table of what is well known, and no legal advice.

Covered: licences by the Hub's short names, and the pairs of them that are known not to go together. What is not in the
table is unknown and said to be. Whether a trained model is a work derived from its data is not settled anywhere: where a
licence would ask something of a derived work, that is a conflict for a person to decide, never decided here.
"""

import re
from collections.abc import Iterable
from dataclasses import dataclass

NO_COMMERCE, NO_CHANGES, SAME_TERMS, USE_RULES = "no commerce", "no changes", "same terms", "use rules"
"""What a licence asks beyond naming its authors: no use for money; nothing adapted is shared; what is adapted keeps its terms;
rules on what it may be used for, handed on."""
_FREE = (
    "apache-2.0", "mit", "bsd", "bsd-2-clause", "bsd-3-clause", "bsd-3-clause-clear", "isc", "zlib", "unlicense", "wtfpl",
    "cc0-1.0", "pddl", "cc-by-2.0", "cc-by-2.5", "cc-by-3.0", "cc-by-4.0", "odc-by", "cdla-permissive-1.0", "cdla-permissive-2.0",
    "afl-3.0", "artistic-2.0", "ecl-2.0", "ms-pl", "bsl-1.0", "postgresql", "ncsa", "python-2.0",
)  # fmt: skip
_COPYLEFT = (
    "cc-by-sa-3.0", "cc-by-sa-4.0", "odbl", "cdla-sharing-1.0", "gfdl", "gpl", "gpl-2.0", "gpl-3.0", "agpl-3.0", "lgpl", "lgpl-2.1",
    "lgpl-3.0", "lgpl-lr", "mpl-2.0", "epl-1.0", "epl-2.0", "eupl-1.1", "eupl-1.2", "osl-3.0",
)  # fmt: skip
_RULED = (
    "openrail", "openrail++", "bigscience-openrail-m", "bigscience-bloom-rail-1.0", "bigcode-openrail-m",
    "creativeml-openrail-m", "llama2", "llama3", "llama3.1", "llama3.2", "llama3.3", "llama4", "gemma",
)  # fmt: skip
TERMS: dict[str, frozenset[str]] = {
    **dict.fromkeys(_FREE, frozenset[str]()),
    **dict.fromkeys(_COPYLEFT, frozenset({SAME_TERMS})),
    **dict.fromkeys(_RULED, frozenset({USE_RULES})),
    **{f"cc-by-nc-{version}": frozenset({NO_COMMERCE}) for version in ("2.0", "3.0", "4.0")},
    **{f"cc-by-nc-sa-{version}": frozenset({NO_COMMERCE, SAME_TERMS}) for version in ("2.0", "3.0", "4.0")},
    **{f"cc-by-nc-nd-{version}": frozenset({NO_COMMERCE, NO_CHANGES}) for version in ("3.0", "4.0")},
    "cc-by-nd-4.0": frozenset({NO_CHANGES}),
    "apple-amlr": frozenset({NO_COMMERCE}),
    "fair-noncommercial-research-license": frozenset({NO_COMMERCE}),
}
"""By the Hub's short name, what a licence asks; one that is not here is unknown."""
OTHER = "other"
UNKNOWN, CONFLICT, NONE_CHOSEN = "unknown", "conflict-see-card", "none-chosen"
"""`license_name` beside `license: other`."""


@dataclass(frozen=True)
class Stated:
    """What a model or dataset says of itself.

    Attributes:
        what: Its id, or what else it is called.
        licence: The Hub's short name, empty where it states none.
        name: Its own name for one that the Hub has no short name for.
    """

    what: str
    licence: str = ""
    name: str = ""

    @property
    def terms(self) -> frozenset[str] | None:
        """What the licence asks, None where that is not known here."""
        return TERMS.get(self.licence)

    @property
    def shown(self) -> str:
        """The licence for a sentence."""
        return (self.name or self.licence) if self.licence == OTHER else self.licence or "none stated"


@dataclass(frozen=True)
class Verdict:
    """What a model made of these may say of its own licence.

    Attributes:
        licence: For `license:` in a card; `name` for `license_name:` where that is `other`.
        conflicts: One sentence each; nothing is decided by leaving one out.
        unknown: One sentence for each source whose licence is not known here.
        duties: What the base's licence asks to be handed on.
    """

    licence: str = OTHER
    name: str = UNKNOWN
    conflicts: tuple[str, ...] = ()
    unknown: tuple[str, ...] = ()
    duties: tuple[str, ...] = ()


def judge(base: Stated | None, datasets: Iterable[Stated]) -> Verdict:
    """Return what is known of the licence of a model tuned from `base` (None: from nothing) on these datasets."""
    data = sorted(set(datasets), key=lambda each: (each.what, each.licence))
    every = [*([base] if base else []), *data]
    unknown = tuple(_say_unknown(each) for each in every if each.terms is None)
    known = [each for each in data if each.terms is not None]
    conflicts = [sentence for each in known for sentence in _against(each, base)]
    if base is not None and NO_CHANGES in (base.terms or ()):
        conflicts.insert(0, f"{base.what} ({base.licence}) does not allow that anything made from it is shared.")
    conflicts += _among(known) if base is None else []
    licence, name = _licence_of(base, conflicts=bool(conflicts), unknown=bool(unknown))
    duties = tuple(_duties(base)) if base else ()
    return Verdict(licence, name, tuple(conflicts), unknown, duties)


def _licence_of(base: Stated | None, *, conflicts: bool, unknown: bool) -> tuple[str, str]:
    if conflicts:
        return OTHER, CONFLICT
    if base is not None and base.licence == OTHER and base.name:
        return OTHER, slug(base.name)
    if unknown:
        return OTHER, UNKNOWN
    return (base.licence, "") if base else (OTHER, NONE_CHOSEN)


def slug(name: str) -> str:
    """Return a licence's name as the Hub takes it for `license_name`."""
    return re.sub(r"[^a-z0-9.]+", "-", name.lower()).strip("-.")[:60] or UNKNOWN


def _against(data: Stated, base: Stated | None) -> list[str]:
    """Return how a dataset's licence and the base's do not go together."""
    asks, found = data.terms or frozenset(), []
    if NO_CHANGES in asks:
        found.append(f"{data.what} ({data.licence}) does not allow that anything made from it is shared.")
    if base is None or base.terms is None:
        return found
    pair = f"{data.what} ({data.licence}) and {base.what} ({base.licence})"
    if NO_COMMERCE in asks and NO_COMMERCE not in base.terms:
        found.append(f"{pair}: the data is not for commercial use, the base model is.")
    if SAME_TERMS in asks and data.licence != base.licence:
        found.append(f"{pair}: the data asks that what is made from it keeps its terms, and the base model has others.")
    if SAME_TERMS in base.terms and data.licence != base.licence and asks & {NO_COMMERCE, USE_RULES}:
        found.append(f"{pair}: the base model's terms allow no further restrictions, and the data has some.")
    if USE_RULES in asks and USE_RULES not in base.terms:
        found.append(f"{pair}: the data comes with rules on its use, which the base model's licence does not hand on.")
    return found


def _among(data: list[Stated]) -> list[str]:
    """Return how datasets do not go together where there is no base model."""
    return [
        f"{one.what} ({one.licence}) asks that what is made from it keeps its terms, and {other.what} ({other.licence}) has others."
        for one in data
        for other in data
        if SAME_TERMS in (one.terms or ()) and other.licence != one.licence and other.terms
    ]


def _say_unknown(stated: Stated) -> str:
    if not stated.licence:
        return f"{stated.what} states no licence, or none that was read."
    return f"{stated.what} states {stated.shown!r}, which is not among those known here: read it yourself."


def _duties(base: Stated) -> list[str]:
    if base.licence.startswith("llama"):
        return ["Llama's licence asks for a name that begins with Llama, the words Built with Llama, and a copy of it."]
    if USE_RULES in (base.terms or ()):
        return [f"{base.licence} asks that its rules on use are handed on with the model."]
    return []
