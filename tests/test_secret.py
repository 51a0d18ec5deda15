"""Secrets: wiped when they go, shown to nobody, compared as a whole."""

from __future__ import annotations

import copy
import ctypes
import gc
import hmac
import json
import os
import pickle
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from luksctl.secret import Secret

KEY = b"marker-of-a-key-nobody-may-see"


def _content(secret: Secret) -> bytes:
    with secret.view() as view:
        return bytes(view)


def _vm_flags(address: int) -> set[str]:
    """Return what the kernel says of the mapping at `address` (the two-letter names of proc(5))."""
    inside = False
    for line in Path("/proc/self/smaps").read_text(encoding="ascii").splitlines():
        first = line.split(maxsplit=1)[0]
        if "-" in first and not first.endswith(":"):
            start, end = (int(part, 16) for part in first.split("-"))
            inside = start <= address < end
        elif inside and first == "VmFlags:":
            return set(line.split()[1:])
    raise AssertionError("the secret's mapping is not in smaps")


def test_take_keeps_the_bytes() -> None:
    """What was taken is what the view shows."""
    with Secret.take(KEY) as secret:
        assert _content(secret) == KEY
        assert len(secret) == len(KEY)


def test_take_wipes_a_bytearray() -> None:
    """A source that can be zeroed is zeroed on the line that hands it over."""
    source = bytearray(KEY)
    with Secret.take(source) as secret:
        assert _content(secret) == KEY
    assert source == bytes(len(KEY))


def test_take_wipes_a_writable_view_and_only_that_part() -> None:
    """A view into a larger buffer loses its own bytes and no others."""
    buffer = bytearray(b"before" + KEY + b"after")
    with memoryview(buffer) as whole, whole[6 : 6 + len(KEY)] as part, Secret.take(part) as secret:
        assert _content(secret) == KEY
    assert buffer == b"before" + bytes(len(KEY)) + b"after"


def test_take_reads_a_read_only_view() -> None:
    """A source that cannot be zeroed is still taken."""
    with memoryview(KEY) as view, Secret.take(view) as secret:
        assert _content(secret) == KEY


def test_a_secret_is_never_empty() -> None:
    """Zero bytes are no key: neither by length nor from an empty source."""
    with pytest.raises(ValueError, match="at least one byte"):
        Secret(0)
    with pytest.raises(ValueError, match="at least one byte"):
        Secret.take(b"")


def test_close_zeroes_before_it_unmaps() -> None:
    """A view that outlives its secret sees zeros, never the key, and the mistake is loud."""
    secret = Secret.take(KEY)
    view = secret.view()
    with pytest.raises(BufferError):
        secret.close()
    assert bytes(view) == bytes(len(KEY))
    view.release()


def test_a_close_that_failed_counts_as_closed() -> None:
    """After BufferError nobody gets the zeros handed out as if they were the key."""
    secret = Secret.take(KEY)
    view = secret.view()
    with pytest.raises(BufferError):
        secret.close()
    view.release()
    assert secret.closed
    with pytest.raises(ValueError, match="closed"):
        secret.view()


def test_garbage_collection_zeroes(monkeypatch: pytest.MonkeyPatch) -> None:
    """A secret nobody closed is wiped at the latest when it is collected."""
    noticed: list[object] = []
    # A view is kept to look at the memory afterwards, so unmapping fails, in a finalizer, where nobody can catch it.
    monkeypatch.setattr(sys, "unraisablehook", lambda event: noticed.append(event.exc_value))
    secret = Secret.take(KEY)
    view = secret.view()
    del secret
    gc.collect()
    assert bytes(view) == bytes(len(KEY))
    assert [type(error) for error in noticed] == [BufferError]
    view.release()


def test_the_end_of_with_closes_even_after_an_error() -> None:
    """An exception inside `with` leaves no key behind."""
    secret = Secret.take(KEY)
    with pytest.raises(LookupError), secret:
        raise LookupError
    assert secret.closed


def test_closing_twice_is_nothing() -> None:
    """The second close does not raise."""
    secret = Secret.take(KEY)
    secret.close()
    secret.close()
    assert secret.closed


def test_a_closed_secret_gives_no_view() -> None:
    """Use after close raises instead of showing other memory."""
    secret = Secret.take(KEY)
    secret.close()
    with pytest.raises(ValueError, match="closed"):
        secret.view()


def test_the_view_is_the_memory_itself() -> None:
    """Writing through one view is seen through another: no copy lies between."""
    with Secret(4) as secret:
        with secret.view() as view:
            view[:] = b"abcd"
        assert _content(secret) == b"abcd"


def test_memory_is_kept_out_of_dumps_and_children() -> None:
    """The kernel knows the pages as not to be dumped and not to be inherited by fork."""
    with Secret.take(KEY) as secret, secret.view() as view:
        flags = _vm_flags(ctypes.addressof(ctypes.c_char.from_buffer(view)))
        assert {"dd", "dc"} <= flags


def test_memory_is_locked_where_the_limit_allows() -> None:
    """With room under RLIMIT_MEMLOCK the pages never reach swap."""
    script = (
        "import ctypes\n"
        "from tests.test_secret import Secret, _vm_flags\n"
        "secret = Secret.take(b'x' * 64)\n"
        "view = secret.view()\n"
        "print('lo' in _vm_flags(ctypes.addressof(ctypes.c_char.from_buffer(view))))\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert result.stdout == "True\n"


def test_a_used_up_memlock_limit_is_no_reason_to_fail() -> None:
    """Where nothing may be locked the key is held all the same, still kept out of dumps."""
    script = (
        "import os, resource\n"
        "from luksctl.secret import Secret\n"
        "resource.setrlimit(resource.RLIMIT_MEMLOCK, (0, 0))\n"
        "if os.geteuid() == 0:\n"
        "    os.setresuid(65534, 65534, 65534)\n"
        "with Secret.take(b'x' * 64) as secret, secret.view() as view:\n"
        "    print(bytes(view) == b'x' * 64)\n"
    )
    result = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=False)
    assert (result.stdout, result.returncode) == ("True\n", 0), result.stderr


def test_random_bytes_differ_and_fill_the_length() -> None:
    """Two random secrets are not the same, also above the size of one kernel read."""
    with Secret.random(300_000) as one, Secret.random(300_000) as other:
        assert one != other
        assert len(one) == 300_000
        assert _content(one)[-32:] != bytes(32)


def test_join_puts_parts_in_order_and_keeps_them() -> None:
    """Joining copies; the parts stay usable."""
    with Secret.take(b"two") as part, Secret.join(b"one-", part, b"-three") as joined:
        assert _content(joined) == b"one-two-three"
        assert _content(part) == b"two"


def test_join_of_nothing_is_refused() -> None:
    """No parts would make an empty secret."""
    with pytest.raises(ValueError, match="at least one byte"):
        Secret.join()


@given(st.binary(min_size=1, max_size=80), st.binary(min_size=1, max_size=80))
def test_equality_is_that_of_the_bytes(left: bytes, right: bytes) -> None:
    """Two open secrets are equal exactly when their bytes are, whatever their lengths."""
    with Secret.take(left) as one, Secret.take(right) as other, Secret.take(left) as again:
        assert (one == other) == (left == right)
        assert one == again


def test_equality_compares_whole_secrets_in_constant_time(monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison is handed to compare_digest with both secrets whole, also when the first bytes differ."""
    seen: list[tuple[int, int]] = []
    real = hmac.compare_digest

    def watched(left: memoryview, right: memoryview) -> bool:
        seen.append((len(left), len(right)))
        return real(left, right)

    monkeypatch.setattr(hmac, "compare_digest", watched)
    with Secret.take(b"a" + KEY) as one, Secret.take(b"b" + KEY) as other:
        assert one != other
    assert seen == [(len(KEY) + 1, len(KEY) + 1)]


def test_closed_secrets_equal_only_themselves() -> None:
    """Two wiped secrets are not "the same key"."""
    one, other = Secret.take(KEY), Secret.take(KEY)
    one.close()
    other.close()
    assert one != other
    assert one == one  # noqa: PLR0124  # identity is what is asked here


def test_a_secret_is_not_equal_to_its_bytes() -> None:
    """Comparing with bytes is a mistake, and answers no."""
    with Secret.take(KEY) as secret:
        assert (secret == KEY) is False


def test_no_text_form_shows_the_key() -> None:
    """Repr, str and every way of formatting show REDACTED."""
    with Secret.take(KEY) as secret:
        texts = [repr(secret), str(secret), f"{secret}", f"{secret!r}", f"{secret:>40}", "%s %r" % (secret, [secret])]  # noqa: UP031
        for text in texts:
            assert KEY.decode() not in text
            assert "REDACTED" in text


def test_nothing_copies_or_serialises_a_secret() -> None:
    """Pickle, copy, JSON, bytes, iteration and hashing are refused."""
    with Secret.take(KEY) as secret:
        for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
            with pytest.raises(TypeError):
                pickle.dumps(secret, protocol)
        refusals: tuple[Callable[[Any], object], ...] = (copy.copy, copy.deepcopy, json.dumps, bytes, list, hash)
        for refused in refusals:
            with pytest.raises(TypeError):
                refused(secret)


def test_a_secret_has_no_attributes_to_look_into() -> None:
    """There is no __dict__ that a debugger's or logger's vars() would print."""
    with Secret.take(KEY) as secret, pytest.raises(TypeError):
        vars(secret)


def test_random_waits_for_the_generator_without_blocking_now() -> None:
    """On a machine that is up the generator is seeded, so early-boot waiting costs nothing here."""
    assert len(os.getrandom(1, os.GRND_NONBLOCK)) == 1
    Secret.random(1).close()
