"""META is emptied by a reset: what it said is gone from every byte of it, and what is left is a META as any other."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from luksctl.errors import MetaError
from luksctl.model.config import META_SIZE_BYTES, STATE
from luksctl.model.intent import ResetIntent
from luksctl.model.meta import MetaState, NodeRecord
from tests.meta.torn import legacy_copy, meta_image, store_of, talos_copy


@pytest.fixture
def image(tmp_path: Path) -> Path:
    """Return the path of a META with tags 9 and 12, as Talos would write it."""
    path = tmp_path / "meta.img"
    path.write_bytes(meta_image(talos_copy([(12, b"twelve"), (9, b"null")])))
    return path


def test_starting_over_leaves_no_byte_of_what_was_there(image: Path) -> None:
    """Every tag is gone, from the legacy ADV and from what nobody uses as well."""
    secret = b"a passphrase of tag 9"
    tail = legacy_copy([(9, secret)]) * 2
    image.write_bytes(meta_image(talos_copy([(9, secret), (12, secret)]), middle=secret, tail=tail))
    store_of(image).start_over(NodeRecord())
    assert secret not in image.read_bytes()
    assert store_of(image).list_tags() == {}
    assert store_of(image).load().state is MetaState.OK
    assert image.read_bytes() == meta_image(talos_copy([]))


def test_starting_over_needs_no_copy_that_is_valid(image: Path) -> None:
    """Two bad copies are replaced by one record: only who was told so by name asks for it."""
    image.write_bytes(os.urandom(META_SIZE_BYTES))
    assert store_of(image).load().state is MetaState.UNREADABLE
    record = NodeRecord((ResetIntent(STATE, "p"),))
    store_of(image).start_over(record)
    facts = store_of(image).load()
    assert (facts.state, facts.record) == (MetaState.OK, record)


def test_starting_over_makes_no_meta_where_there_is_none(tmp_path: Path) -> None:
    """A partition that is not there is not to be made up."""
    with pytest.raises(MetaError, match="is not there"):
        store_of(tmp_path / "none.img").start_over(NodeRecord())
