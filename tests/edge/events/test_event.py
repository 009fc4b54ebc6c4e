"""An event as JSON, and its id."""

import json
from dataclasses import replace

from edge.events.event import Event, event_id

START = Event(
    id="00000012.250-0000",
    label="Glocke ♪",
    start_seconds=12.25,
    end_seconds=None,
    peak_score=0.9123456789,
    mean_score=0.8,
    level_dbfs=-31.4159,
)


def test_the_json_of_a_start():
    assert json.loads(json.dumps(START.to_json())) == {
        "type": "event",
        "state": "started",
        "id": "00000012.250-0000",
        "label": "Glocke ♪",
        "start_seconds": 12.25,
        "end_seconds": None,
        "duration_seconds": None,
        "peak_score": 0.912346,
        "mean_score": 0.8,
        "level_dbfs": -31.42,
        "started_at": None,
        "started_utc": None,
        "ended_at": None,
        "ended_utc": None,
        "end_reason": None,
        "clip": None,
    }


def test_the_json_of_an_end_has_the_same_keys_and_utc_times():
    end = replace(
        START,
        end_seconds=14.0,
        started_at=1_800_000_000.2499999,
        ended_at=1_800_000_002.0,
        end_reason="quiet",
    )
    values = end.to_json()
    assert values.keys() == START.to_json().keys()
    assert (values["state"], values["duration_seconds"]) == ("ended", 1.75)
    assert (values["started_at"], values["ended_at"]) == (1_800_000_000.25, 1_800_000_002.0)
    assert values["started_utc"] == "2027-01-15T08:00:00.250Z"
    assert values["ended_utc"] == "2027-01-15T08:00:02.000Z"


def test_ids_sort_by_start_time():
    starts = [0.0, 0.0014, 0.0016, 9.5, 10.0, 99_999.0, 100_000.0]
    for unix in (None, 1_799_999_995.0):
        ids = [
            event_id(number, start, None if unix is None else unix + start)
            for number, start in enumerate(starts)
        ]
        assert ids == sorted(ids)
        assert len(set(ids)) == len(ids)
    assert event_id(7, 3.0, 1_800_000_000.2499999) == "20270115T080000.250Z-0007"
    assert event_id(7, 12.25) == "00000012.250-0007"


def test_ids_stay_unique_when_the_clock_is_set_back():
    assert event_id(1, 5.0, 1.8e9) != event_id(2, 65.0, 1.8e9)
