"""MQTT discovery for Home Assistant: one retained message for all entities of a listener.

Source: https://www.home-assistant.io/integrations/mqtt/, "Device discovery payload".
"""

from collections.abc import Mapping
from typing import Any

Config = dict[str, Any]


def device_config(
    device_id: str,
    name: str,
    topic: str,
    slugs: Mapping[str, str],
    version: str,
    page_url: str | None = None,
    expire_seconds: float = 60.0,
    exclusive: bool = True,
) -> Config:
    """Discovery payload for `<prefix>/device/<device_id>/config`, with the topics of `MqttSink`.

    Args:
        device_id: unique; letters, digits, `_` and `-`.
        name: display name of the device.
        topic: base topic of the listener.
        slugs: last level of each label's state topic.
        version: software version.
        page_url: link shown on the device's page.
        expire_seconds: age at which the level and the best label become unavailable.
        exclusive: whether one label always sounds. Otherwise the best label is "nothing" while no
            score reaches 0.5.

    Returns:
        A configuration with these `components`: a binary sensor per label and two for the audio
        source, an event entity, and sensors for the last event, the level and the best label.
    """
    heard = "value_json.top" if exclusive else "value_json.top and value_json.top[0].score >= 0.5"
    components: dict[str, Config] = {
        "event": {
            "platform": "event",
            "name": "Sound",
            "state_topic": f"{topic}/event",
            "event_types": list(slugs),
            # Each event is published twice; Home Assistant ignores the empty text.
            "value_template": "{{ value if value_json.end_seconds is none else '' }}",
            "icon": "mdi:ear-hearing",
        },
        "last_event": {
            "platform": "sensor",
            "name": "Last sound",
            "state_topic": f"{topic}/last_event",
            "value_template": "{{ value_json.label }}",
            "json_attributes_topic": f"{topic}/last_event",
            "icon": "mdi:history",
        },
        "level": {
            "platform": "sensor",
            "name": "Level",
            "state_topic": f"{topic}/hears",
            "value_template": "{{ value_json.level_dbfs }}",
            "unit_of_measurement": "dBFS",
            "state_class": "measurement",
            "suggested_display_precision": 1,
            "expire_after": round(expire_seconds),
            "icon": "mdi:volume-medium",
        },
        "hears": {
            "platform": "sensor",
            "name": "Hears",
            "state_topic": f"{topic}/hears",
            "value_template": f"{{{{ value_json.top[0].label if {heard} else 'nothing' }}}}",
            "json_attributes_topic": f"{topic}/hears",
            "expire_after": round(expire_seconds),
            # Changes every few seconds would fill the recorder.
            "enabled_by_default": False,
            "entity_category": "diagnostic",
            "icon": "mdi:waveform",
        },
        "source": {
            "platform": "binary_sensor",
            "name": "Microphone",
            "device_class": "connectivity",
            "state_topic": f"{topic}/source",
            "entity_category": "diagnostic",
        },
        "muted": {
            "platform": "binary_sensor",
            "name": "Muted",
            "device_class": "problem",
            "state_topic": f"{topic}/muted",
            "entity_category": "diagnostic",
        },
    }
    for label, slug in slugs.items():
        components[f"sound_{slug}"] = {
            "platform": "binary_sensor",
            "name": label,
            "device_class": "sound",
            "state_topic": f"{topic}/state/{slug}",
        }
    for key, component in components.items():
        component["unique_id"] = f"{device_id}_{key}"

    device: Config = {
        "identifiers": [device_id],
        "name": name,
        "manufacturer": "semanticac-keras",
        "model": "Sound listener",
        "sw_version": version,
    }
    if page_url is not None:
        device["configuration_url"] = page_url
    return {
        "device": device,
        "origin": {"name": "semanticac-edge", "sw_version": version},
        "availability": [{"topic": f"{topic}/status"}],
        "qos": 1,
        "components": components,
    }


def without(config: Config, stale: Mapping[str, Config]) -> Config:
    """`config` that also removes the `stale` components; publish `config` itself after it."""
    removals = {key: {"platform": old["platform"]} for key, old in stale.items()}
    return config | {"components": config["components"] | removals}


def stale_components(old: Any, new: Config) -> dict[str, Config]:
    """Components of the retained payload `old` (any JSON value) that are missing in `new`."""
    components = old.get("components") if isinstance(old, dict) else None
    if not isinstance(components, dict):
        return {}
    return {
        key: component
        for key, component in components.items()
        if key not in new["components"] and isinstance(component, dict) and "platform" in component
    }
