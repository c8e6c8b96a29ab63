"""TLS contexts from PEM bytes, for the listener and for clients.

Source: RFC 8446; Go's crypto/tls defaults (TLS 1.2 at least, client certificates asked for and, if given, verified).
"""

from __future__ import annotations

import os
import pathlib
import ssl
import sys
import tempfile


def server_context(certificate: bytes, key: bytes, *, client_ca: bytes | None = None) -> ssl.SSLContext:
    """A listener's context; with ``client_ca`` a client may show a certificate, which this CA must have signed."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    load_pair(context, certificate, key)
    if client_ca is not None:
        context.load_verify_locations(cadata=client_ca.decode("ascii"))
        context.verify_mode = ssl.CERT_OPTIONAL
    context.set_alpn_protocols(["http/1.1"])
    return context


def client_context(
    *,
    ca: bytes | None = None,
    certificate: bytes | None = None,
    key: bytes | None = None,
    verify: bool = True,
    verify_host_name: bool = True,
) -> ssl.SSLContext:
    """A client's context: ``ca`` (PEM; None means the system's), and its own certificate if it has one."""
    if verify:
        context = ssl.create_default_context(cadata=ca.decode("ascii") if ca is not None else None)
        context.verify_flags &= ~ssl.VERIFY_X509_STRICT
        context.check_hostname = verify_host_name
    else:  # who trusts anybody need not read the system's authorities, which takes 10 ms and more
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    if certificate is not None and key is not None:
        load_pair(context, certificate, key)
    context.set_alpn_protocols(["http/1.1"])
    return context


def authority(pem: bytes) -> bytes:
    """``pem``, which holds certificates; raises ``ValueError`` where it does not."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT).load_verify_locations(cadata=pem.decode("ascii"))
    except (ssl.SSLError, UnicodeDecodeError) as error:
        raise ValueError("no certificate (PEM) can be read from it") from error
    return pem


def load_pair(context: ssl.SSLContext, certificate: bytes, key: bytes) -> None:
    """Let ``context`` show this certificate from now on; connections there are keep what they agreed on.

    The ssl module reads certificates from files only: one in memory, or a private one for a moment.
    """
    content = key.rstrip() + b"\n" + certificate
    if sys.platform == "linux":
        descriptor = os.memfd_create("certificate")
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
            file.flush()
            context.load_cert_chain(f"/proc/self/fd/{descriptor}")
        return
    descriptor, name = tempfile.mkstemp(prefix="anynode-", suffix=".pem")
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(content)
        context.load_cert_chain(name)
    finally:
        pathlib.Path(name).unlink()
