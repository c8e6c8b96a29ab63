"""Values at rest in upstream's forms: ``k8s:enc:aesgcm:v1:key1:`` and so on, by an EncryptionConfiguration.

In: the configuration's text, values and the keys they are stored under. Out: encrypted and plain values. The first
provider of a resource writes, all of them read, so that a key is changed by putting the new one first and writing
every object once more. Values this module wrote are read by kube-apiserver and the other way round, given the same
keys (of etcd) and JSON. Source: apiserver ``pkg/storage/value``, ``pkg/server/options/encryptionconfig``,
``pkg/apis/apiserver/validation``, 1.36.
"""

from __future__ import annotations

import base64
import binascii
import dataclasses
import logging
import os
import pathlib
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Protocol

import yaml
from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from anynode.storage import secretbox

logger = logging.getLogger(__name__)

MARK = b"k8s:enc:"
API_VERSION, KIND = "apiserver.config.k8s.io/v1", "EncryptionConfiguration"
_BLOCK, _NONCE = 16, 12
_KEY_BYTES: Mapping[str, Sequence[int]] = {"aesgcm": (16, 24, 32), "aescbc": (16, 24, 32), "secretbox": (32,)}
_NO_KEY = {"aesgcm": "AES", "aescbc": "AES", "secretbox": "Secretbox"}
_SHORT = "the stored data was shorter than the required size"


class EncryptionConfigError(ValueError):
    """The configuration cannot be used; one sentence that names the field and no key."""


class Unreadable(Exception):
    """A value no provider can read."""


class _Cipher(Protocol):
    def encrypt(self, value: bytes, context: bytes) -> bytes: ...

    def decrypt(self, value: bytes, context: bytes) -> bytes: ...


class _Gcm:
    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._aead = AESGCM(key)
        self._random = random

    def encrypt(self, value: bytes, context: bytes) -> bytes:
        nonce = self._random(_NONCE)
        return nonce + self._aead.encrypt(nonce, value, context)

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        if len(value) < _NONCE:
            raise Unreadable(_SHORT)
        try:
            return self._aead.decrypt(value[:_NONCE], value[_NONCE:], context)
        except InvalidTag as error:
            raise Unreadable("cipher: message authentication failed") from error


class _Cbc:
    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._key = algorithms.AES(key)
        self._random = random

    def encrypt(self, value: bytes, context: bytes) -> bytes:
        start, padding = self._random(_BLOCK), _BLOCK - len(value) % _BLOCK
        encryptor = Cipher(self._key, modes.CBC(start)).encryptor()
        return start + encryptor.update(value + bytes((padding,)) * padding) + encryptor.finalize()

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        if len(value) < _BLOCK:
            raise Unreadable(_SHORT)
        if len(value) % _BLOCK:
            raise Unreadable("the stored data is not a multiple of the block size")
        decryptor = Cipher(self._key, modes.CBC(value[:_BLOCK])).decryptor()
        plain = decryptor.update(value[_BLOCK:]) + decryptor.finalize()
        padding = plain[-1] if plain else 0
        if not 0 < padding <= len(plain) or plain[-padding:] != bytes((padding,)) * padding:
            raise Unreadable("invalid padding on input")
        return plain[:-padding]


class _Box:
    def __init__(self, key: bytes, random: Callable[[int], bytes]) -> None:
        self._key = key
        self._random = random

    def encrypt(self, value: bytes, context: bytes) -> bytes:
        nonce = self._random(secretbox.NONCE_BYTES)
        return nonce + secretbox.seal(value, nonce, self._key)

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        if len(value) < secretbox.NONCE_BYTES + secretbox.TAG_BYTES:
            raise Unreadable(_SHORT)
        plain = secretbox.unseal(value[secretbox.NONCE_BYTES :], value[: secretbox.NONCE_BYTES], self._key)
        if plain is None:
            raise Unreadable("output array was not large enough for encryption")
        return plain


_CIPHERS: Mapping[str, Callable[[bytes, Callable[[int], bytes]], _Cipher]] = {
    "aesgcm": _Gcm,
    "aescbc": _Cbc,
    "secretbox": _Box,
}


@dataclasses.dataclass(frozen=True, slots=True)
class _Provider:
    """One entry of a list of providers; identity has no prefix and no keys."""

    prefix: bytes
    keys: Sequence[tuple[bytes, _Cipher]] = ()
    no_key: str = ""

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        if not self.prefix:
            if value.startswith(MARK):
                raise Unreadable("identity transformer tried to read encrypted data")
            return value
        rest, failure = value[len(self.prefix) :], Unreadable(self.no_key)
        for name, cipher in self.keys:
            if rest.startswith(name):
                try:
                    return cipher.decrypt(rest[len(name) :], context)
                except Unreadable as error:
                    failure = error
        raise failure


class Ring:
    """The providers of one resource, in order."""

    def __init__(self, providers: Sequence[_Provider]) -> None:
        self._providers = providers
        first = providers[0]
        name, cipher = first.keys[0] if first.keys else (b"", None)
        self._cipher: _Cipher | None = cipher
        self.current = first.prefix + name
        """What values written now begin with; empty: they are not encrypted."""

    def encrypt(self, value: bytes, context: bytes) -> bytes:
        return value if self._cipher is None else self.current + self._cipher.encrypt(value, context)

    def decrypt(self, value: bytes, context: bytes) -> bytes:
        """The plain value; raises ``Unreadable``."""
        failures: list[Unreadable] = []
        for provider in self._providers:
            if value.startswith(provider.prefix):
                try:
                    return provider.decrypt(value, context)
                except Unreadable as error:
                    if provider.prefix:
                        failures.append(error)
        if len(failures) > 1:
            raise Unreadable(f"[{', '.join(dict.fromkeys(map(str, failures)))}]") from failures[0]
        raise failures[0] if failures else Unreadable("no matching prefix found")

    def is_stale(self, value: bytes) -> bool:
        """Whether ``value`` would be written otherwise today."""
        return not value.startswith(self.current) if self.current else value.startswith(MARK)


PLAIN = Ring([_Provider(b"")])
"""Of resources the configuration does not name: not encrypted, and encrypted values are refused."""


class Encryption:
    """Which ring a resource has."""

    def __init__(self, rings: Mapping[tuple[str, str], Ring]) -> None:
        self._rings = rings

    def ring(self, group: str, plural: str) -> Ring:
        rings = self._rings
        return rings.get((group, plural)) or rings.get((group, "*")) or rings.get(("*", "*")) or PLAIN


def read_config(path: pathlib.Path) -> Encryption:
    """What the file says; others than its owner should not be able to read it.

    Raises ``OSError`` or ``EncryptionConfigError``.
    """
    if path.stat().st_mode & 0o077:
        logger.warning("others can read the encryption keys: chmod 600 this file", extra={"file": str(path)})
    return load(path.read_text())


def load(text: str, *, random: Callable[[int], bytes] = os.urandom) -> Encryption:
    """What an EncryptionConfiguration says; raises ``EncryptionConfigError``."""
    try:
        config = yaml.safe_load(text)
    except yaml.YAMLError as error:
        raise EncryptionConfigError("the encryption configuration is no YAML") from error
    if not isinstance(config, dict):
        raise EncryptionConfigError("the encryption configuration is empty")
    if (config.get("apiVersion"), config.get("kind")) != (API_VERSION, KIND):
        raise EncryptionConfigError(f"the encryption configuration must be a {KIND} of {API_VERSION}")
    entries = _list(config, "resources", "resources")
    rings: dict[tuple[str, str], Ring] = {}
    for index, entry in enumerate(entries):
        path = f"resources[{index}]"
        names = _names(_list(entry, "resources", f"{path}.resources"), f"{path}.resources")
        providers = _list(entry, "providers", f"{path}.providers")
        ring = Ring([_provider(each, f"{path}.providers[{at}]", random) for at, each in enumerate(providers)])
        for name in names:
            for earlier in ((name[0], "*"), ("*", "*")):
                if earlier in rings and earlier != name:
                    raise EncryptionConfigError(
                        f'resource "{_written(name)}" is masked by earlier rule "{_written(earlier)}"'
                    )
            rings.setdefault(name, ring)
    return Encryption(rings)


def _written(name: tuple[str, str]) -> str:
    group, plural = name
    return f"{plural}.{group}" if group or plural == "*" else plural


def _list(owner: Any, field: str, path: str) -> list[Any]:
    found = owner.get(field) if isinstance(owner, dict) else None
    if not isinstance(found, list) or not found:
        raise EncryptionConfigError(f"{path}: Required value: at least one {path} is required")
    return found


def _names(entries: Iterable[Any], path: str) -> list[tuple[str, str]]:
    names: list[tuple[str, str]] = []
    for index, entry in enumerate(entries):
        if not isinstance(entry, str) or (why := _why_no_name(entry)):
            said = why if isinstance(entry, str) else "must be a string"
            raise EncryptionConfigError(f'{path}[{index}]: Invalid value: "{entry}": {said}')
        plural, _, group = entry.partition(".")
        names.append((group, plural))
    if len(set(names)) < len(names):
        raise EncryptionConfigError(f"{path}: Invalid value: the same resource cannot be specified multiple times")
    groups = [group for group, _ in names]
    if len(names) > 1 and any(name == ("*", "*") or (name[1] == "*" and groups.count(name[0]) > 1) for name in names):
        raise EncryptionConfigError(
            f"{path}: Invalid value: using overlapping resources such as 'secrets' and '*.' in the same resource list "
            "is not allowed as they will be masked"
        )
    return names


def _why_no_name(name: str) -> str:
    plural, _, group = name.partition(".")
    if re.search("[A-Z]", name):
        return "resource name should not contain capital letters"
    if name == "*":
        return "use '*.' to encrypt all the resources from core API group or *.* to encrypt all resources"
    if name in ("apiserveripinfo", "serviceipallocations", "servicenodeportallocations"):
        return "resources which do not have REST API/s cannot be encrypted"
    if group == "events.k8s.io":
        return (
            "'*.events.k8s.io' objects are stored using the 'events' API group in etcd. "
            "Use 'events' instead in the config file"
        )
    if group == "extensions":
        return "'extensions' group has been removed and cannot be used for encryption"
    if group == "*" and plural != "*":
        return "encrypting the same resource across groups is not supported"
    return ""


def _provider(entry: Any, path: str, random: Callable[[int], bytes]) -> _Provider:
    kinds = [kind for kind in (entry if isinstance(entry, dict) else {}) if entry[kind] is not None]
    if len(kinds) > 1:
        raise EncryptionConfigError(
            f"{path}: Invalid value: more than one provider specified in a single element, "
            "should split into different list elements"
        )
    kind = kinds[0] if kinds else ""
    if kind == "identity":
        return _Provider(b"")
    if kind == "kms":
        raise EncryptionConfigError(f"{path}: kms providers are not supported: use aesgcm, aescbc or secretbox")
    if kind not in _CIPHERS:
        raise EncryptionConfigError(
            "provider does not contain any of the expected providers: KMS, AESGCM, AESCBC, Secretbox, Identity"
        )
    keys = [
        _key(each, f"{path}.{kind}.keys[{index}]", kind, random)
        for index, each in enumerate(_list(entry[kind], "keys", f"{path}.{kind}.keys"))
    ]
    return _Provider(
        f"k8s:enc:{kind}:v1:".encode(), keys, f"no matching key was found for the provided {_NO_KEY[kind]} transformer"
    )


def _key(entry: Any, path: str, kind: str, random: Callable[[int], bytes]) -> tuple[bytes, _Cipher]:
    name, secret = (entry.get(each) if isinstance(entry, dict) else None for each in ("name", "secret"))
    for field, value in (("name", name), ("secret", secret)):
        if not isinstance(value, str) or not value:
            raise EncryptionConfigError(f"{path}.{field}: Required value: {field} is a mandatory field for a key")
    try:
        key = base64.b64decode(str(secret), validate=True)
    except binascii.Error as error:
        raise EncryptionConfigError(f"{path}.secret: Invalid value: secrets must be base64 encoded") from error
    sizes = _KEY_BYTES[kind]
    if len(key) not in sizes:
        wanted = " ".join(map(str, sizes))
        raise EncryptionConfigError(
            f"{path}.secret: Invalid value: secret is not of the expected length, "
            f"got {len(key)}, expected one of [{wanted}]"
        )
    return f"{name}:".encode(), _CIPHERS[kind](key, random)
