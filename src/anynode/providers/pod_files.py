"""A pod's directory: identity and address, volumes, and per container its root, logs and state files.

``<data>/pods/<uid>/pod.json``, ``volumes/<name>/``, ``containers/<name>/{root/, <attempt>.log, <attempt>.state,
<attempt>.message}``. The directory is what recovery reads: it is complete before anything runs. All functions block
on the disk and belong in a thread. Volumes of files are swapped as the kubelet does (``..data`` points to the newest
directory), source: kubelet ``pkg/volume/util/atomic_writer.go``.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import pathlib
import re
import shutil
import stat
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from anynode.provider import Mount, PodIdentity, ProviderError, Volume, VolumeFile

DATA = "..data"
_SERIAL = re.compile(r"\.\.[0-9]+")


def make_private(directory: pathlib.Path) -> None:
    """Make a directory that only its owner may enter, and what is missing above it, whatever the process's mask."""
    for each in (*reversed(directory.parents), directory):
        if not each.is_dir():
            each.mkdir(mode=0o700, exist_ok=True)


@dataclasses.dataclass(frozen=True, slots=True)
class ContainerFiles:
    """Paths of one container."""

    directory: pathlib.Path

    @property
    def root(self) -> pathlib.Path:
        return self.directory / "root"

    def log(self, attempt: int) -> pathlib.Path:
        return self.directory / f"{attempt}.log"

    def state(self, attempt: int) -> pathlib.Path:
        return self.directory / f"{attempt}.state"

    def message(self, attempt: int) -> pathlib.Path:
        return self.directory / f"{attempt}.message"

    def plan(self, attempt: int) -> pathlib.Path:
        return self.directory / f"{attempt}.plan"

    def read_plan(self, attempt: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.plan(attempt).read_text())
        except (OSError, ValueError):
            return {}
        return found

    def forget(self, attempt: int) -> None:
        """Remove an attempt that neither runs nor is the previous one."""
        for each in self.directory.glob(f"{attempt}.*"):
            with contextlib.suppress(OSError):
                each.unlink()

    def attempts(self) -> Sequence[int]:
        """Attempts that have a state file, oldest first."""
        try:
            return sorted(int(each.stem) for each in self.directory.glob("*.state"))
        except ValueError:
            return ()

    def read_state(self, attempt: int) -> dict[str, Any]:
        try:
            found: dict[str, Any] = json.loads(self.state(attempt).read_text())
        except (OSError, ValueError):
            return {}
        return found


@dataclasses.dataclass(frozen=True, slots=True)
class PodFiles:
    """Paths of one pod."""

    directory: pathlib.Path

    def container(self, name: str) -> ContainerFiles:
        return ContainerFiles(self.directory / "containers" / name)

    def containers(self) -> Sequence[str]:
        try:
            return sorted(each.name for each in (self.directory / "containers").iterdir())
        except OSError:
            return ()

    def volume(self, name: str) -> pathlib.Path:
        return self.directory / "volumes" / name

    def write(self, identity: PodIdentity, pod_ip: str) -> None:
        """Record whose directory this is, durably enough for a crash of the node."""
        self.directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        record = {"identity": dataclasses.asdict(identity), "ip": pod_ip}
        temporary = self.directory / "pod.json.new"
        temporary.write_text(json.dumps(record))
        temporary.rename(self.directory / "pod.json")

    def read(self) -> tuple[PodIdentity, str] | None:
        """Identity and address; None for a directory that was never finished."""
        try:
            record = json.loads((self.directory / "pod.json").read_text())
            return PodIdentity(**record["identity"]), record["ip"]
        except (OSError, ValueError, TypeError, KeyError):
            return None

    def remove(self) -> None:
        """Delete everything; what users made unreadable is made readable first."""
        if not self.directory.exists():
            return
        with contextlib.suppress(OSError):
            (self.directory / "pod.json").unlink()
        shutil.rmtree(self.directory, onerror=_force)


def _force(function: Any, path: str, _: Any) -> None:
    with contextlib.suppress(OSError):
        os.chmod(os.path.dirname(path), 0o700)
        os.chmod(path, 0o700)
        function(path)


def make_volume(files: PodFiles, volume: Volume) -> None:
    """Make or renew one volume; raises ``ProviderError`` (FailedMount) when the host lacks what it names."""
    path = files.volume(volume.name)
    if volume.host_path is not None:
        check_host_path(volume.host_path, volume.host_path_type)
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.is_symlink():
            path.symlink_to(volume.host_path)
        return
    path.mkdir(parents=True, exist_ok=True, mode=0o777)
    if volume.files is not None:
        write_files(path, volume.files)


def check_host_path(path: str, kind: str) -> None:
    """Make or check a hostPath as its type asks. Source: kubelet ``pkg/volume/hostpath/host_path.go``."""
    if kind == "DirectoryOrCreate":
        with contextlib.suppress(OSError):
            os.makedirs(path, mode=0o755, exist_ok=True)
    elif kind == "FileOrCreate" and not os.path.exists(path):
        with contextlib.suppress(OSError):
            os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
    checks = {
        "Directory": (stat.S_ISDIR, "a directory"),
        "DirectoryOrCreate": (stat.S_ISDIR, "a directory"),
        "File": (stat.S_ISREG, "a file"),
        "FileOrCreate": (stat.S_ISREG, "a file"),
        "Socket": (stat.S_ISSOCK, "a socket file"),
        "CharDevice": (stat.S_ISCHR, "a character device"),
        "BlockDevice": (stat.S_ISBLK, "a block device"),
    }
    if kind not in checks:
        return
    holds, name = checks[kind]
    try:
        mode = os.stat(path).st_mode
    except OSError:
        mode = 0
    if not holds(mode):
        raise ProviderError("FailedMount", f"hostPath type check failed: {path} is not {name}")


def write_files(path: pathlib.Path, wanted: Sequence[VolumeFile]) -> None:
    """Swap the volume's content for ``wanted`` at once; nothing happens when it is the same."""
    current = _content(path / DATA)
    target = {each.path: (each.content, each.mode) for each in wanted}
    if current == target:
        return
    serial = sum(1 for each in path.iterdir() if each.name.startswith("..")) + 1
    fresh = path / f"..{serial}"
    while fresh.exists():
        serial += 1
        fresh = path / f"..{serial}"
    fresh.mkdir(mode=0o755)
    for name, (content, mode) in target.items():
        if name.startswith("/") or ".." in name.split("/"):
            raise ProviderError("FailedMount", f"the path {name} leads out of the volume")
        file = fresh / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_bytes(content)
        file.chmod(mode)
    old = os.readlink(path / DATA) if (path / DATA).is_symlink() else ""
    link = path / "..data_tmp"
    with contextlib.suppress(FileNotFoundError):
        link.unlink()
    link.symlink_to(fresh.name)
    link.rename(path / DATA)
    _link_names(path, {name.split("/", 1)[0] for name in target})
    if _SERIAL.fullmatch(old):  # the container can turn the link: it must not lead us elsewhere
        shutil.rmtree(path / old, ignore_errors=True)


def _link_names(path: pathlib.Path, names: Iterable[str]) -> None:
    wanted = set(names)
    for each in path.iterdir():
        if not each.name.startswith("..") and each.is_symlink() and each.name not in wanted:
            each.unlink()
    for name in wanted:
        if not (path / name).is_symlink():
            (path / name).symlink_to(f"{DATA}/{name}")


def _content(path: pathlib.Path) -> Mapping[str, tuple[bytes, int]] | None:
    if not path.is_symlink() or not _SERIAL.fullmatch(os.readlink(path)) or not path.is_dir():
        return None
    base = path.resolve()
    return {
        str(each.relative_to(base)): (each.read_bytes(), stat.S_IMODE(each.stat().st_mode))
        for each in base.rglob("*")
        if each.is_file() and not each.is_symlink()
    }


def make_root(files: PodFiles, container: str, mounts: Sequence[Mount]) -> None:
    """The container's own directory, with a link to its volume at each mount's path."""
    root = files.container(container).root
    root.mkdir(parents=True, exist_ok=True, mode=0o700)
    for mount in sorted(mounts, key=lambda each: each.path):
        place = root / mount.path.strip("/")
        target = files.volume(mount.volume)
        if mount.sub_path:
            target = target / mount.sub_path
            if not target.exists():
                target.mkdir(parents=True, exist_ok=True)
        if place.is_symlink() or place == root:
            continue
        with contextlib.suppress(OSError):
            place.parent.mkdir(parents=True, exist_ok=True)
            if mount.sub_path and target.is_file():
                os.link(target.resolve(), place)  # as with a mount of one file, later versions are not seen
            else:
                place.symlink_to(target)
