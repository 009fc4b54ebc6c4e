"""Events, states and discovery on a real broker, including all kinds of failures."""

import json
import logging
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from edge.events.event import Event
from edge.health import Health, OutputHealth
from edge.inference.streaming import Classification, StreamingClassifier
from edge.sinks.broker import PASSWORD_VARIABLE, Broker
from edge.sinks.home_assistant import device_config
from edge.sinks.mqtt import MqttSink, device_id
from edge.sinks.publisher import Publisher, check_broker
from edge.sinks.slugs import slug, slugs
from tests.edge.mosquitto import (
    ACCESS,
    PASSWORD,
    USER,
    WATCHER,
    WATCHER_PASSWORD,
    Authority,
    Mosquitto,
    Watcher,
    require,
    wait_until,
)

pytest.importorskip("paho.mqtt.client")

# paho leaves the socket of a refused connection to the garbage collector, whenever that runs.
pytestmark = pytest.mark.filterwarnings("ignore:unclosed <ssl.SSLSocket:ResourceWarning")

ROOT = Path(__file__).parents[3]
LABELS = ("rain", "Dog (bark)", "Glocke ♪")
TOPIC = "semanticac/test"
USERS = {USER: PASSWORD, WATCHER: WATCHER_PASSWORD}
QUICK = (0.05, 0.2)


@pytest.fixture(scope="session")
def authority(tmp_path_factory):
    require()
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture
def broker(tmp_path, authority):
    """A broker with TLS, passwords and an access list."""
    with Mosquitto(tmp_path, authority, USERS, ACCESS) as broker:
        yield broker


@pytest.fixture
def plain(tmp_path):
    """A broker without TLS, users or access list."""
    with Mosquitto(tmp_path) as broker:
        yield broker


@pytest.fixture
def messages(caplog):
    """Returns the messages logged so far."""
    caplog.set_level(logging.INFO, "semanticac_edge")
    return lambda: [record.getMessage() for record in caplog.records]


def address(broker, password=PASSWORD):
    if broker.authority is None:
        return Broker.from_url(broker.url(None))
    address = Broker.from_url(broker.url(), broker.authority.ca_file, environment={})
    return replace(address, password=password)


@contextmanager
def listening(broker, labels=LABELS, **options):
    sink = MqttSink(address(broker), labels, TOPIC, backoff_seconds=QUICK, **options)
    try:
        yield sink
    finally:
        sink.close()


def event(number, label="rain", ended=False):
    at = float(number)
    clip = f"é {number}.wav"
    started = Event(f"e{number}", label, at, None, 0.91, 0.9, -30.0, 1e9 + at, clip=clip)
    return replace(started, end_seconds=at + 2, end_reason="quiet") if ended else started


def window(gated=False):
    scores = np.linspace(0.1, 0.3, len(LABELS), dtype=np.float32) * (not gated)
    return Classification(0, 1, scores, np.zeros(2, np.float32), LABELS, scores, -41.26, gated)


def ids(payloads):
    return [json.loads(payload)["id"] for payload in payloads]


def test_events_and_states_arrive(broker, messages):
    health = Health()
    with (
        Watcher(broker) as watcher,
        listening(broker, health=health, clips_url="http://pi:8080/clips/") as sink,
    ):
        assert watcher.wait(f"{TOPIC}/status") == ["online"]
        health.set_source(True, "a microphone")
        sink.audio(np.zeros(0, np.float32))
        sink.window(window())
        sink.event(event(1, "Dog (bark)"))
        assert watcher.wait(f"{TOPIC}/state/dog_bark", 2) == ["OFF", "ON"]
        sink.event(event(1, "Dog (bark)", ended=True))
        started, ended = map(json.loads, watcher.wait(f"{TOPIC}/event", 2))
        assert started == event(1, "Dog (bark)").to_json() | {
            "event_type": "Dog (bark)",
            "clip_url": "http://pi:8080/clips/%C3%A9%201.wav",
        }
        assert (ended["id"], ended["end_seconds"], ended["end_reason"]) == ("e1", 3.0, "quiet")
        assert watcher.wait(f"{TOPIC}/state/dog_bark", 3) == ["OFF", "ON", "OFF"]
        assert set(watcher.on(f"{TOPIC}/state/rain")) == {"OFF"}
        wait_until(lambda: '"ended"' in watcher.on(f"{TOPIC}/last_event")[-1])
        assert watcher.wait(f"{TOPIC}/source")[-1] == "ON"
        assert watcher.wait(f"{TOPIC}/muted")[-1] == "OFF"
        (hears,) = watcher.wait(f"{TOPIC}/hears")
        assert json.loads(hears)["level_dbfs"] == -41.3
        assert json.loads(hears)["top"][0] == {"label": "Glocke ♪", "score": 0.3}
        wait_until(lambda: health.outputs["mqtt"] == OutputHealth())
    with Watcher(broker, f"{TOPIC}/status") as watcher:
        assert watcher.wait(f"{TOPIC}/status")[-1] == "offline"
    assert PASSWORD not in "".join(messages())
    assert messages()[0].startswith(f"MQTT: connected to mqtts://{USER}@localhost:")


def test_levels_are_published_only_every_update_interval(plain):
    with Watcher(plain, user=None) as watcher, listening(plain, update_seconds=0.1) as sink:
        watcher.wait(f"{TOPIC}/status")
        started = time.monotonic()
        while time.monotonic() < started + 0.35:
            sink.window(window(gated=True))
            time.sleep(0.01)
        sink.event(event(1))
        watcher.wait(f"{TOPIC}/event")
        assert 2 <= len(watcher.on(f"{TOPIC}/hears")) <= 4
        assert json.loads(watcher.on(f"{TOPIC}/hears")[0]) == {"level_dbfs": -41.3, "top": []}


@pytest.mark.parametrize("reports_unknown", [False, True])
def test_discovery_follows_the_rules_of_home_assistant(broker, reports_unknown):
    """Rules of the device-based format, applied to the retained payload."""
    options = {"page_url": "http://pi:8080/", "reports_unknown": reports_unknown}
    with listening(broker, health=Health(), **options) as sink:
        sink.audio(np.zeros(0, np.float32))
        sink.event(event(1))
        topic = f"homeassistant/device/{sink.device_id}/config"
        with Watcher(broker) as watcher:
            config = json.loads(watcher.wait(topic)[-1])
            watcher.wait(f"{TOPIC}/last_event")
            sink.window(window())
            watcher.wait(f"{TOPIC}/hears")
            sink.event(event(1, ended=True))
            watcher.wait(f"{TOPIC}/event")
            sent = {topic for topic, _, _ in watcher.messages}
    assert re.fullmatch("[a-zA-Z0-9_-]+", sink.device_id)
    assert set(config) == {"device", "origin", "availability", "qos", "components"}
    assert config["device"]["identifiers"] == [sink.device_id]
    assert config["device"]["configuration_url"] == "http://pi:8080/"
    assert config["origin"]["name"] == "semanticac-edge"
    assert config["availability"] == [{"topic": f"{TOPIC}/status"}]
    components = config["components"]
    platforms = [component["platform"] for component in components.values()]
    assert sorted(set(platforms)) == ["binary_sensor", "event", "sensor"]
    unique_ids = {component["unique_id"] for component in components.values()}
    assert len(unique_ids) == len(components) == 6 + len(LABELS) + reports_unknown
    assert {component["state_topic"] for component in components.values()} <= sent
    announced = [*LABELS, *(["unknown"] if reports_unknown else [])]
    assert components["event"]["event_types"] == announced
    sounds = {key for key in components if components[key].get("device_class") == "sound"}
    assert sounds == {
        *("sound_rain", "sound_dog_bark", "sound_glocke"),
        *(["sound_unknown"] if reports_unknown else []),
    }


@pytest.mark.slow
def test_discovery_validates_against_third_party_schemas():
    """Every key of the payload is part of the schemas."""
    models = pytest.importorskip("ha_mqtt_models_pydantic")
    config = device_config("id", "Listener", TOPIC, slugs(LABELS), "1.0", "http://pi:8080/")
    payload = models.parse_device_discovery_payload(config)
    assert payload.model_dump(by_alias=True, exclude_unset=True)["origin"] == config["origin"]
    assert str(payload.device.configuration_url) == "http://pi:8080/"
    for component in config["components"].values():
        platform = component["platform"]
        common = {"device": config["device"], "origin": config["origin"]}
        model = models.parse_component_payload(platform, component | common)
        assert set(component) - {"platform"} <= set(model.model_dump(by_alias=True))


def test_discovery_templates_match_the_payloads():
    jinja2 = pytest.importorskip("jinja2")
    components = device_config("id", "Listener", TOPIC, slugs(LABELS), "1.0")["components"]

    def render(key, values):
        template = jinja2.Template(components[key]["value_template"])
        payload = json.dumps(values)
        return template.render(value=payload, value_json=json.loads(payload))

    started, ended = event(1).to_json(), event(1, ended=True).to_json()
    assert json.loads(render("event", started)) == started
    assert render("event", ended) == ""
    assert render("last_event", ended) == "rain"
    hears = {"level_dbfs": -40.5, "top": [{"label": "rain", "score": 0.5}]}
    assert render("level", hears) == "-40.5"
    assert render("hears", hears) == "rain"
    assert render("hears", hears | {"top": []}) == "nothing"


@pytest.mark.parametrize(("score", "heard"), [(0.5, "rain"), (0.49, "nothing")])
def test_independent_labels_are_not_heard_at_low_scores(score, heard):
    jinja2 = pytest.importorskip("jinja2")
    config = device_config("id", "Listener", TOPIC, slugs(LABELS), "1.0", exclusive=False)
    template = jinja2.Template(config["components"]["hears"]["value_template"])
    assert template.render(value_json={"top": [{"label": "rain", "score": score}]}) == heard
    assert template.render(value_json={"top": []}) == "nothing"


def test_a_new_model_may_have_independent_labels(plain, independent_bundle):
    topic = f"homeassistant/device/{device_id(TOPIC)}/config"
    with Watcher(plain) as watcher, listening(plain) as sink:
        watcher.wait(topic)
        sink.use_model(StreamingClassifier(independent_bundle), "other.tflite")
        hears = json.loads(watcher.wait(topic, 2)[-1])["components"]["hears"]
        assert ">= 0.5" in hears["value_template"]


@pytest.mark.parametrize("restart", [False, True])
def test_missing_labels_are_removed_from_home_assistant(broker, restart, log_mel_bundle):
    """After a reload, and after a restart with another model."""
    other = StreamingClassifier(log_mel_bundle)
    topic = f"homeassistant/device/{device_id(TOPIC)}/config"
    with Watcher(broker) as watcher:
        with listening(broker) as sink:
            watcher.wait(topic)
            watcher.wait(f"{TOPIC}/state/dog_bark")
            if not restart:
                sink.use_model(other, "other.tflite")
                removal, final = watcher.wait(topic, 4)[-2:]
        if restart:
            with listening(broker, other.labels):
                removal, final = watcher.wait(topic, 4)[-2:]
        watcher.wait(f"{TOPIC}/state/dog_bark", 2)
        removed = json.loads(removal)["components"]
        left = json.loads(final)["components"]
        assert {key: removed[key] for key in removed if key not in left} == {
            "sound_dog_bark": {"platform": "binary_sensor"}
        }
        assert {key: removed[key] for key in left} == left
        assert {"sound_rain", "sound_wind", "sound_glocke"} < set(left)
        assert watcher.on(f"{TOPIC}/state/dog_bark")[-1] == ""
    with Watcher(broker, "#") as later:
        later.wait(f"{TOPIC}/status")
        retained = {topic: payload for topic, payload, is_retained in later.messages if is_retained}
    assert json.loads(retained[topic])["components"] == left
    assert f"{TOPIC}/state/dog_bark" not in retained
    assert retained[f"{TOPIC}/state/rain"] == "OFF"


def test_events_are_queued_while_the_broker_is_down(broker, messages):
    """After the broker restarts, each event arrives once, in order, and one outage is logged."""
    health = Health()
    with Watcher(broker) as watcher, listening(broker, health=health) as sink:
        sink.event(event(0))
        watcher.wait(f"{TOPIC}/event")
        watcher.settle()
        broker.stop()
        wait_until(lambda: not health.outputs["mqtt"].ok)
        down_at = time.monotonic()
        for number in range(1, 40):
            sink.event(event(number))
        assert health.outputs["mqtt"].queued == 39
        assert "localhost" in health.outputs["mqtt"].error
        # The log rounds the length of the outage to seconds.
        wait_until(lambda: time.monotonic() > down_at + 0.6)
        broker.start()
        expected = [f"e{number}" for number in range(40)]
        assert ids(watcher.wait(f"{TOPIC}/event", 40)) == expected
        wait_until(lambda: health.outputs["mqtt"] == OutputHealth())
        sink.event(event(40))
        assert ids(watcher.wait(f"{TOPIC}/event", 41)) == [*expected, "e40"]
    loss, back = messages()[1:]
    assert loss.startswith(f"MQTT: no connection to mqtts://{USER}@localhost")
    assert re.fullmatch(r"MQTT: connected to .* after [12] s\.", back)


def test_a_full_queue_keeps_the_newest_events(plain):
    health = Health()
    with (
        Watcher(plain, user=None) as watcher,
        listening(plain, health=health, queue_size=5) as sink,
    ):
        watcher.wait(f"{TOPIC}/status")
        plain.stop()
        wait_until(lambda: not health.outputs["mqtt"].ok)
        for number in range(12):
            sink.event(event(number))
        assert (health.outputs["mqtt"].queued, health.outputs["mqtt"].dropped) == (5, 7)
        plain.start()
        assert ids(watcher.wait(f"{TOPIC}/event", 5)) == ["e7", "e8", "e9", "e10", "e11"]
        wait_until(lambda: health.outputs["mqtt"] == OutputHealth(dropped=7))


def test_a_broker_that_lost_its_data_gets_all_values_again(plain):
    health = Health()
    with listening(plain, health=health) as sink:
        wait_until(lambda: health.outputs["mqtt"].ok)
        sink.event(event(1))
        plain.stop()
        (plain.directory / "mosquitto.db").unlink()
        plain.start()
        with Watcher(plain, user=None) as watcher:
            assert watcher.wait(f"{TOPIC}/state/rain")[-1] == "ON"
            assert watcher.wait(f"{TOPIC}/status")[-1] == "online"
            assert watcher.wait(f"homeassistant/device/{sink.device_id}/config")


def test_a_broker_that_is_down_at_the_start_blocks_nothing(tmp_path, messages):
    broker = Mosquitto(tmp_path)
    before = time.monotonic()
    with listening(broker) as sink:
        sink.event(event(1))
        assert time.monotonic() - before < 0.5
        wait_until(messages)
        with broker, Watcher(broker, user=None) as watcher:
            assert ids(watcher.wait(f"{TOPIC}/last_event")) == ["e1"]
    assert len(messages()) == 3  # The broker stops before the sink closes.


def test_closing_without_a_broker_ends_in_time(tmp_path, messages):
    with listening(Mosquitto(tmp_path)) as sink:
        sink.event(event(1))
        before = time.monotonic()
    assert time.monotonic() - before < 3.5
    assert "1 messages for mqtt://localhost" in messages()[-1]
    with pytest.raises(ConnectionError, match="refused"):
        check_broker(Broker("localhost", Mosquitto(tmp_path).port), "check")


def test_closing_delivers_pending_events(plain):
    """A short recording ends before the connection is established."""
    with Watcher(plain, user=None) as watcher:
        with listening(plain) as sink:
            for number in range(200):
                sink.event(event(number))
        assert ids(watcher.wait(f"{TOPIC}/event", 200)) == [f"e{number}" for number in range(200)]
        assert watcher.on(f"{TOPIC}/status")[-1] == "offline"


def attempts(broker, sign):
    return broker.log().count(sign)


def test_a_wrong_password_is_reported_once_and_retried(broker, messages):
    broker.stop()
    broker.set_users(USERS | {USER: "another"})
    broker.start()
    with Watcher(broker) as watcher, listening(broker) as sink:
        sink.event(event(1))
        wait_until(lambda: attempts(broker, "not authorised") >= 4)
        (message,) = messages()
        assert "refused: Not authorized" in message
        assert PASSWORD not in message
        with pytest.raises(ConnectionError, match="Not authorized"):
            check_broker(address(broker), "check")
        broker.stop()
        broker.set_users(USERS)
        broker.start()
        assert ids(watcher.wait(f"{TOPIC}/event")) == ["e1"]
        check_broker(address(broker), "check")
    assert len(messages()) == 2


# Paho leaves a socket with a failed handshake to the garbage collector.
def test_an_untrusted_certificate_is_reported_once_and_retried(broker, tmp_path, messages):
    (tmp_path / "stranger").mkdir()
    stranger = Authority(tmp_path / "stranger", "Stranger")
    wrong = replace(address(broker), ca_file=str(stranger.ca_file))
    sink = MqttSink(wrong, LABELS, TOPIC, backoff_seconds=QUICK)
    wait_until(lambda: attempts(broker, "alert unknown ca") >= 2)
    descriptors = len(os.listdir("/proc/self/fd"))
    wait_until(lambda: attempts(broker, "alert unknown ca") >= 6)
    assert len(os.listdir("/proc/self/fd")) <= descriptors + 1
    sink.close()
    assert len(messages()) == 1
    assert "the broker's certificate is not trusted" in messages()[0]
    with pytest.raises(ConnectionError, match="not trusted"):
        check_broker(wrong, "check")


def test_topics_that_the_broker_forbids_are_reported(tmp_path, messages):
    health = Health()
    access = f"user {USER}\ntopic write {TOPIC}/#\n"
    with Mosquitto(tmp_path, users={USER: PASSWORD}, access=access) as broker:
        forbidden = Broker("localhost", broker.port, username=USER, password=PASSWORD)
        sink = MqttSink(forbidden, LABELS, TOPIC, health=health)
        wait_until(lambda: len(messages()) == 2)
        assert health.outputs["mqtt"].error.endswith("/config is refused: Not authorized")
        sink.close()
    refused = messages()[1]
    assert f"refuses homeassistant/device/{sink.device_id}/config: Not authorized." in refused


@pytest.mark.slow
def test_a_killed_listener_goes_offline(plain):
    code = f"""
from edge.sinks.broker import Broker
from edge.sinks.mqtt import MqttSink
MqttSink(Broker("localhost", {plain.port}), ["rain"], "{TOPIC}")
input()
"""
    process = subprocess.Popen([sys.executable, "-c", code], cwd=ROOT, stdin=subprocess.PIPE)
    with process, Watcher(plain, f"{TOPIC}/status", user=None) as watcher:
        watcher.wait(f"{TOPIC}/status")
        process.send_signal(signal.SIGKILL)
        assert watcher.wait(f"{TOPIC}/status", 2) == ["online", "offline"]


@pytest.mark.slow
def test_no_message_is_lost_while_the_broker_hangs(plain, messages):
    health = OutputHealth()
    publisher = Publisher(
        address(plain), "test", health=health, backoff_seconds=QUICK, keepalive_seconds=1
    )
    with Watcher(plain, user=None) as watcher:
        wait_until(lambda: health.ok)
        plain.freeze()
        for number in range(30):
            publisher.send("events", str(number))
        wait_until(lambda: not health.ok)
        plain.thaw()
        payloads = watcher.wait("events", 30)
        wait_until(lambda: health.queued == 0)
        # The broker may have received messages without acknowledging them in time.
        assert list(dict.fromkeys(watcher.on("events"))) == list(map(str, range(30)))
        assert len(payloads) <= 50
    publisher.close()
    assert [message.startswith("MQTT: no connection") for message in messages()] == [0, 1, 0]


def test_two_clients_with_the_same_id_are_reported_once(plain, messages):
    """They disconnect each other forever, which must not fill the log."""
    publishers = [Publisher(address(plain), "test", backoff_seconds=QUICK) for _ in range(2)]
    wait_until(lambda: attempts(plain, "already connected, closing old") >= 12)
    for publisher in publishers:
        publisher.close()
    hints = [message for message in messages() if "another client also uses the ID test" in message]
    assert 1 <= len(hints) <= 2
    assert len(messages()) <= 8


class OldBroker(threading.Thread):
    """A proxy in front of a real broker that refuses MQTT 5 clients like an old broker."""

    def __init__(self, broker_port, rejection):
        super().__init__(daemon=True)
        self._broker_port = broker_port
        self._rejection = rejection
        self._server = socket.create_server(("localhost", 0))
        self.port = self._server.getsockname()[1]
        self.versions = []
        self.start()

    def run(self):
        while self.versions[-1:] != [4]:
            client, _ = self._server.accept()
            hello = client.recv(4096)
            # Fixed header and length, the name `MQTT` with its length, then the version.
            self.versions.append(hello[hello.index(b"MQTT") + 4])
            if self.versions[-1] == 5:
                client.sendall(self._rejection)
                client.close()
        broker = socket.create_connection(("localhost", self._broker_port))
        broker.sendall(hello)
        back = threading.Thread(target=self._copy, args=(broker, client), daemon=True)
        back.start()
        self._copy(client, broker)
        back.join()
        for closing in (client, broker, self._server):
            closing.close()

    def _copy(self, source, target):
        while data := source.recv(4096):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)


@pytest.mark.parametrize("rejection", [b"\x20\x02\x00\x01", b""])
def test_brokers_without_mqtt_5_are_supported(plain, rejection):
    old = OldBroker(plain.port, rejection)
    with Watcher(plain, user=None) as watcher:
        sink = MqttSink(Broker("localhost", old.port), LABELS, TOPIC, backoff_seconds=QUICK)
        sink.event(event(1))
        assert ids(watcher.wait(f"{TOPIC}/event")) == ["e1"]
        sink.close()
    old.join(10)
    assert old.versions == [5, 4]


def test_broker_is_read_from_a_url(tmp_path):
    secret = tmp_path / "secret"
    secret.write_text("from a file\r\n\n")
    read = Broker.from_url
    assert read("mqtt://host") == Broker("host", 1883)
    assert read("mqtts://host", "ca.pem") == Broker("host", 8883, True, ca_file="ca.pem")
    assert read("mqtt://[::1]:99/") == Broker("::1", 99)
    assert read("mqtt://a%40b:c%2Fd@host").password == "c/d"
    assert read("mqtt://me@host", password_file=secret).password == "from a file"
    assert read("mqtt://me@host", environment={PASSWORD_VARIABLE: "x"}).password == "x"
    assert read("mqtt://host", environment={PASSWORD_VARIABLE: "x"}).password is None
    full = read("mqtts://me:hunter2@host")
    assert str(full) == "mqtts://me@host:8883"
    assert "hunter2" not in repr(full)


@pytest.mark.parametrize(
    ("url", "options", "message"),
    [
        ("host", {}, "a broker's URL must be mqtt"),
        ("http://host", {}, "Received: the scheme 'http'"),
        ("mqtt://", {}, "a broker's URL must be mqtt"),
        ("mqtt://host:hunter2", {}, "with the port a number"),
        ("mqtt://host:0", {}, "port must be in 1 .. 65535. Received: 0"),
        ("mqtt://me:hun/ter2@host", {}, "with the port a number"),
        ("mqtt://me@host/hunter2", {}, "Percent-encode"),
        ("mqtt://:hunter2@host", {}, "needs a user"),
        ("mqtt://ho..st", {}, "must be a name or address"),
        ("mqtt://host", {"ca_file": "ca.pem"}, "needs TLS"),
        ("mqtt://me:hunter2@host", {"password_file": "x"}, "not in both"),
    ],
)
def test_wrong_urls_are_refused_without_showing_the_password(url, options, message):
    with pytest.raises(ValueError, match=re.escape(message)) as refused:
        Broker.from_url(url, environment={}, **options)
    assert "hunter2" not in str(refused.value)


@pytest.mark.parametrize("topic", ["", "/a", "a/", "a/#", "a/+/b", "$SYS/a"])
def test_invalid_topics_are_refused(topic):
    with pytest.raises(ValueError, match="an MQTT topic must be levels"):
        MqttSink(Broker("localhost"), LABELS, topic)


def test_unreadable_ca_files_are_refused(tmp_path):
    for ca_file in (tmp_path / "missing.pem", Path(__file__)):
        broker = Broker("localhost", 8883, True, ca_file=str(ca_file))
        with pytest.raises(ValueError, match=re.escape(f"certificates. Received: {ca_file}")):
            MqttSink(broker, LABELS)


def test_slugs_are_valid_in_topics_and_unique():
    assert slugs(["Dog (bark)", "dog/bark", "Öl", "狗叫", "鸟叫"]) == {
        "Dog (bark)": "dog_bark",
        "dog/bark": "dog_bark_2",
        "Öl": "ol",
        "狗叫": slug("狗叫"),
        "鸟叫": slug("鸟叫"),
    }
    assert re.fullmatch("x[0-9a-f]{8}", slug("狗叫"))
    config = device_config("id", "name", "topic", slugs(["a", "A"]), "1")
    assert {"sound_a", "sound_a_2"} < set(config["components"])
