"""What an image means here: the user's mapping, the built-in one, or a refusal with the ways out."""

from __future__ import annotations

import pathlib

import pytest

from anynode.provider import ImageError, ProviderError
from anynode.providers import images


@pytest.mark.parametrize(
    ("image", "command", "args", "argv"),
    [
        ("anything:1", ("sh", "-c"), ("true",), ("sh", "-c", "true")),
        ("busybox:1.36", (), (), ("sh",)),
        ("docker.io/library/busybox@sha256:00", (), ("ls",), ("ls",)),
        ("web:2", (), (), ("python3", "-m", "http.server")),
        ("web:2", (), ("8080",), ("python3", "-m", "http.server", "8080")),
        ("registry.example:5000/team/app:7", (), (), ("app",)),
        ("registry.example:5000/other/thing", (), (), ("fallback",)),
    ],
)
def test_program(image: str, command: tuple[str, ...], args: tuple[str, ...], argv: tuple[str, ...]) -> None:
    mapping = images.from_options(
        {
            "image:web": "python3 -m http.server",
            "image:registry.example:5000/team/app": "app",
            "image:registry.example:5000/*": "fallback",
            "pods": "3",
        }
    )
    assert mapping.program(image, command, args, "IfNotPresent").argv == argv


@pytest.mark.parametrize(
    ("policy", "reason", "says"),
    [
        ("Always", "ErrImagePull", "--image nobody/it:1="),
        ("Never", "ErrImageNeverPull", 'Container image "nobody/it:1" is not present with pull policy of Never'),
    ],
)
def test_an_unknown_image_is_refused(policy: str, reason: str, says: str) -> None:
    with pytest.raises(ImageError) as caught:
        images.from_options({}).program("nobody/it:1", (), (), policy)
    assert caught.value.reason == reason
    assert says in caught.value.message


def test_a_directory_runs_its_run_file(tmp_path: pathlib.Path) -> None:
    run = tmp_path / "run"
    run.write_text("#!/bin/sh\n")
    run.chmod(0o755)
    program = images.from_options({"image:app": str(tmp_path)}).program("app:3", (), ("x",), "Always")
    assert program.argv == (str(run), "x")
    assert program.directory == str(tmp_path)


def test_a_file_maps_many(tmp_path: pathlib.Path) -> None:
    file = tmp_path / "images.yaml"
    file.write_text("a: echo one\nb: {entrypoint: [prog], command: [x], env: {N: 1}}\n")
    mapping = images.from_options({"images": str(file), "image:a": "echo two"})
    assert mapping.program("a", (), (), "Always").argv == ("echo", "two")
    found = mapping.program("b:9", (), (), "Always")
    assert (found.argv, found.env) == (("prog", "x"), {"N": "1"})


@pytest.mark.parametrize("content", ["a: [1", "a: 3"])
def test_a_damaged_file_is_refused(tmp_path: pathlib.Path, content: str) -> None:
    file = tmp_path / "images.yaml"
    file.write_text(content)
    with pytest.raises(ProviderError, match=r"images\.yaml"):
        images.from_options({"images": str(file)})
