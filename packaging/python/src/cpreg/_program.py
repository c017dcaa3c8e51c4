"""The program `cpreg`, and its errors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sysconfig
from pathlib import Path
from typing import Any, Union

#: Name of a file, or of a recorded host.
Name = Union[str, "os.PathLike[str]"]


class Error(Exception):
    """Failure of the command: bad usage, or input that cannot be read."""

    def __init__(self, document: dict[str, Any]) -> None:
        """Takes an error document of the command (`cpreg.error/2`)."""
        self.message: str = document["message"]
        self.causes: list[str] = document["causes"]
        self.hints: list[str] = document["hints"]
        self.document = document
        super().__init__(": ".join([self.message, *self.causes]))


def find_program() -> Path:
    """Returns the program of this package, or one in PATH."""
    program = Path(sysconfig.get_path("scripts")) / "cpreg"
    if program.is_file():
        return program
    found = shutil.which("cpreg")
    if found is None:
        raise FileNotFoundError(f"neither {program} nor a cpreg in PATH exists")
    return Path(found)


def run(command: str, *arguments: Name) -> dict[str, Any]:
    """Runs a command, and returns its JSON document.

    Raises `Error` if the command fails.
    """
    words = [os.fspath(argument) for argument in arguments]
    result = subprocess.run(
        [find_program(), command, "--format", "json", *words],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        check=False,
    )
    try:
        document = json.loads(result.stdout)
    except ValueError:
        # A signal ended the command.
        result.check_returncode()
        raise
    if not isinstance(document, dict):
        raise TypeError(f"cpreg {command} printed no document")
    if str(document.get("schema", "")).startswith("cpreg.error/"):
        raise Error(document)
    return document
