"""Prediction whether a VM loads at a destination (`cpreg check`)."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Literal, Optional

from ._program import Name, run

#: `loads`: the VM loads as it is. `converts`: it loads after `cpreg convert`. `refused`: something
#: blocks it. `unknown`: a fact is missing.
Verdict = Literal["loads", "converts", "refused", "unknown"]


@dataclass(frozen=True)
class Machine:
    """Source or destination."""

    name: str
    vcpus: int
    accelerator: Optional[str]


@dataclass(frozen=True)
class Blocker:
    """Difference that blocks the load, or that lacks a decision."""

    kind: Literal["register", "extension", "shape", "fact"]
    name: str
    source: Optional[str]
    destination: Optional[str]
    reason: str
    remedies: tuple[str, ...]


@dataclass(frozen=True)
class Adjustment:
    """Change of a value that would unblock the load, and needs consent."""

    register: str
    before: Optional[str]
    after: Optional[str]
    severity: Literal["low", "medium", "high", "fatal"]
    #: Option of `check` that gives the consent.
    consent: str


@dataclass(frozen=True)
class Check:
    """Report of a check."""

    verdict: Verdict
    source: Machine
    destination: Machine
    blockers: tuple[Blocker, ...]
    adjustments: tuple[Adjustment, ...]
    next_steps: tuple[str, ...]
    next_command: Optional[str]
    #: Whole report (`cpreg.check/2`).
    document: dict[str, Any] = field(repr=False, compare=False)

    @property
    def is_movable(self) -> bool:
        """Returns `True` if the VM loads, at least after `cpreg convert`."""
        return self.verdict in ("loads", "converts")


def check(source: Name, destination: Name, *options: Name) -> Check:
    """Checks a saved VM against a destination, with options of `cpreg check`.

    A refused VM is a result. Raises `Error` if an input cannot be read.
    """
    # Names that begin with a hyphen are not options.
    return _parse(run("check", *options, "--", source, destination))


def _parse(document: dict[str, Any]) -> Check:
    """Returns the report of a document."""
    return Check(
        verdict=document["verdict"],
        source=_machine(document["source"]),
        destination=_machine(document["destination"]),
        blockers=tuple(
            Blocker(
                kind=entry["kind"],
                name=entry["name"],
                source=entry["source"],
                destination=entry["destination"],
                reason=entry["reason"],
                remedies=tuple(entry["remedies"]),
            )
            for entry in document["blockers"]
        ),
        adjustments=tuple(
            Adjustment(
                register=entry["name"],
                before=entry["from"],
                after=entry["to"],
                severity=entry["severity"],
                consent=entry["consent"],
            )
            for entry in document["adjustments"]["proposed"]
        ),
        next_steps=tuple(document["next_steps"]),
        next_command=document["next_command"],
        document=document,
    )


def _machine(entry: dict[str, Any]) -> Machine:
    return Machine(
        name=entry["name"], vcpus=entry["vcpus"], accelerator=entry["accelerator"]
    )
