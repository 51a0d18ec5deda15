"""The node record: announced work comes and goes, and finishing a volume notes it in the same value."""

from __future__ import annotations

from luksctl.model.config import EPHEMERAL, STATE
from luksctl.model.intent import FormatIntent
from luksctl.model.meta import MetaFacts, MetaState, NodeRecord

STATE_INTENT = FormatIntent(STATE, "part-1", "uuid-1")
EPHEMERAL_INTENT = FormatIntent(EPHEMERAL, "part-2", "uuid-2")


def test_a_volume_has_one_intent() -> None:
    """A second announcement for a volume replaces the first; others stay."""
    again = FormatIntent(STATE, "part-1", "uuid-3", attempt=2)
    record = NodeRecord().with_intent(STATE_INTENT).with_intent(EPHEMERAL_INTENT).with_intent(again)
    assert record.intent(STATE) == again
    assert record.intent(EPHEMERAL) == EPHEMERAL_INTENT
    assert len(record.intents) == 2


def test_deleting_an_intent_leaves_the_others() -> None:
    """Only the named volume's announcement goes."""
    record = NodeRecord((STATE_INTENT, EPHEMERAL_INTENT)).without_intent(STATE)
    assert record.intents == (EPHEMERAL_INTENT,)
    assert record.without_intent(STATE) == record


def test_finishing_notes_partition_and_encryption_and_drops_the_intent() -> None:
    """One value holds all three changes, so one META write does."""
    record = NodeRecord((STATE_INTENT,)).with_finished(STATE, "part-1", encrypted=True)
    assert record.intents == ()
    assert record.partition(STATE) == "part-1"
    assert record.encrypted == (STATE,)


def test_finishing_again_notes_nothing_twice() -> None:
    """Repeating the step gives the same record."""
    once = NodeRecord().with_finished(STATE, "part-1", encrypted=True)
    assert once.with_finished(STATE, "part-1", encrypted=True) == once


def test_a_volume_finished_plain_is_no_longer_noted_as_encrypted() -> None:
    """The note follows what was made last."""
    record = NodeRecord(encrypted=(STATE, EPHEMERAL)).with_finished(STATE, "part-1", encrypted=False)
    assert record.encrypted == (EPHEMERAL,)


def test_an_image_file_has_no_partition_to_note() -> None:
    """An empty partition is not recorded as one."""
    assert NodeRecord().with_finished(STATE, "", encrypted=True).partition(STATE) is None


def test_only_two_bad_copies_make_meta_unreadable() -> None:
    """Torn, differing, blank and absent META can all be relied on for what they say."""
    unreadable = [state for state in MetaState if not MetaFacts(state).readable]
    assert unreadable == [MetaState.UNREADABLE]
