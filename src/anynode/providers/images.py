"""What an image means to a node without container images: a command, a directory, or nothing yet.

Pure but for looking whether directories and programs are there. Comes in: the user's mapping (``image:NAME=VALUE``
options or a file) and a container's image, command and args; goes out: the program to run, or ``ImageError`` with the
user's ways out. A container with a ``command`` needs no mapping: its program is looked up on the host.
"""

from __future__ import annotations

import dataclasses
import fnmatch
import os
import pathlib
import shlex
from collections.abc import Mapping, Sequence

import yaml

from anynode.provider import ImageError, ProviderError

OPTION_PREFIX = "image:"
SHELLS = ("busybox", "alpine", "debian", "ubuntu", "fedora", "bash")
"""Images that are nothing but a userland: the host's stands in for them."""


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Image:
    """``entrypoint``/``command`` as in a Dockerfile; ``directory`` is where it runs and first in its PATH."""

    entrypoint: Sequence[str] = ()
    command: Sequence[str] = ()
    directory: str = ""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


BUILT_IN: Mapping[str, Image] = {
    **{name: Image(command=("sh",)) for name in SHELLS},
    "python": Image(command=("python3",)),
    "registry.k8s.io/pause": Image(entrypoint=("sleep", "2147483647")),
}


@dataclasses.dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """What to execute: ``argv``, and what the image adds."""

    argv: Sequence[str]
    directory: str = ""
    env: Mapping[str, str] = dataclasses.field(default_factory=dict)


class ImageMap:
    """Image references to what they mean; the user's entries go before the built-in ones."""

    def __init__(self, images: Mapping[str, Image]) -> None:
        self._images = dict(images)

    def find(self, image: str) -> Image | None:
        for name in _names(image):
            for known in (self._images, BUILT_IN):
                if name in known:
                    return known[name]
        for pattern, found in self._images.items():
            if any(mark in pattern for mark in "*?[") and any(fnmatch.fnmatch(name, pattern) for name in _names(image)):
                return found
        return None

    def program(self, image: str, command: Sequence[str], args: Sequence[str], policy: str) -> Program:
        """What a container runs; raises ``ImageError`` when image and pod together name no program."""
        found = self.find(image)
        if command:
            argv = (*command, *args)
        elif found is not None and (found.entrypoint or found.command or args):
            argv = (*found.entrypoint, *(args or found.command))
        else:
            raise missing(image, policy)
        if not argv:
            raise missing(image, policy)
        return Program(
            argv=argv, directory=found.directory if found else "", env=found.env if found is not None else {}
        )


def missing(image: str, policy: str) -> ImageError:
    """The refusal of an image that means nothing here, with what the user can do."""
    if policy == "Never":
        return ImageError("ErrImageNeverPull", f'Container image "{image}" is not present with pull policy of Never')
    return ImageError(
        "ErrImagePull",
        f'image "{image}" is unknown to this node, which runs processes of the host and pulls no images: '
        f"give the container a command, map the image (--image {image}='PROGRAM ARGS' or a directory), "
        "or choose a provider that runs images",
    )


def _names(image: str) -> Sequence[str]:
    """The reference and its shorter forms: without digest, tag, and docker.io/library."""
    plain = image.partition("@")[0]
    head, colon, tag = plain.rpartition(":")
    untagged = head if colon and "/" not in tag else plain
    names = [image, plain, untagged]
    for name in (plain, untagged):
        for prefix in ("docker.io/library/", "docker.io/", "library/"):
            if name.startswith(prefix):
                names.append(name.removeprefix(prefix))
                break
    return names


def from_options(options: Mapping[str, str]) -> ImageMap:
    """The mapping of ``image:NAME=VALUE`` options and of the file named by ``images``; raises ``ProviderError``."""
    images: dict[str, Image] = {}
    path = options.get("images")
    if path:
        images.update(_from_file(pathlib.Path(path)))
    for key, value in options.items():
        if key.startswith(OPTION_PREFIX):
            images[key.removeprefix(OPTION_PREFIX)] = parse(value)
    return ImageMap(images)


def parse(value: str) -> Image:
    """``VALUE`` of a mapping: a directory (its ``run`` is the entrypoint, if there) or a command line."""
    directory = pathlib.Path(value).expanduser()
    if directory.is_dir():
        run = directory / "run"
        entrypoint = (str(run),) if os.access(run, os.X_OK) else ()
        return Image(entrypoint=entrypoint, directory=str(directory.resolve()))
    return Image(entrypoint=tuple(shlex.split(value)))


def _from_file(path: pathlib.Path) -> dict[str, Image]:
    try:
        content = yaml.safe_load(path.read_text()) or {}
    except (OSError, yaml.YAMLError) as error:
        raise ProviderError("InvalidImages", f"cannot read the image mapping {path}: {error}") from error
    images = {}
    for name, entry in content.items():
        if isinstance(entry, str):
            images[name] = parse(entry)
        elif isinstance(entry, dict):
            images[name] = Image(
                entrypoint=tuple(entry.get("entrypoint", ())),
                command=tuple(entry.get("command", ())),
                directory=str(entry.get("directory", "")),
                env={key: str(value) for key, value in (entry.get("env") or {}).items()},
            )
        else:
            raise ProviderError("InvalidImages", f"{path}: {name} is neither a command line nor a mapping")
    return images
