"""How a Secret goes to C: its own memory, never a copy."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from luksctl.cryptsetup._libcryptsetup import ffi
from luksctl.hints import TYPE_CHECKING
from luksctl.secret import Secret

if TYPE_CHECKING:
    from luksctl.cryptsetup._libcryptsetup import Chars, Null


@contextmanager
def optional_chars_of(secret: Secret | None) -> Iterator[Chars | Null]:
    """Do as `chars_of`, with NULL for None."""
    if secret is None:
        yield ffi.NULL
    else:
        with chars_of(secret) as chars:
            yield chars


@contextmanager
def chars_of(secret: Secret) -> Iterator[Chars]:
    """Lend the bytes of `secret` to C for the length of the `with`."""
    with secret.view() as view:
        chars = ffi.from_buffer(view)
        try:
            yield chars
        finally:
            ffi.release(chars)
