"""Adds the program to the wheel, which depends on the architecture but on no version of Python."""

import os
from typing import Any

from hatchling.builders.hooks.plugin.interface import BuildHookInterface


class ProgramHook(BuildHookInterface):  # type: ignore[type-arg]
    """Adds the program that `cargo xtask dist` has built."""

    def initialize(self, version: str, build_data: dict[str, Any]) -> None:
        """Sets the tag of the wheel, and adds the program as a script."""
        for name in ("CPREG_WHEEL_PROGRAM", "CPREG_WHEEL_TAG"):
            if name not in os.environ:
                raise RuntimeError(f"{name} is not set: run `cargo xtask dist wheel`")
        build_data["pure_python"] = False
        build_data["tag"] = os.environ["CPREG_WHEEL_TAG"]
        build_data["shared_scripts"][os.environ["CPREG_WHEEL_PROGRAM"]] = "cpreg"
