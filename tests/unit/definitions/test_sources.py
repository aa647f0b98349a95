"""Which field of a source is its events' time."""

import pytest

from penstock import PushConfig, StreamSource
from penstock.core.errors import DefinitionError
from penstock.types import Field, String, Timestamp


@pytest.mark.parametrize("name", [None, "at"])
def test_every_event_has_a_time(name):
    schema = [Field("id", String), Field("at", Timestamp, optional=True)]
    with pytest.raises(DefinitionError, match="no Timestamp field that is required"):
        StreamSource("s", PushConfig(), schema=schema, timestamp_field=name)


def test_an_optional_time_is_not_taken_for_the_event_time():
    schema = [Field("seen", Timestamp, optional=True), Field("at", Timestamp)]
    assert StreamSource("s", PushConfig(), schema=schema).time_field == "at"
    with pytest.raises(DefinitionError, match=r"timestamp_field is 'seen'; allowed .* required .*: at"):
        StreamSource("s", PushConfig(), schema=schema, timestamp_field="seen")
