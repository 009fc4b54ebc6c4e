// Connects the messages of the listener to the parts of the page.

import { connect } from "./connection.js";
import { Events } from "./events.js";
import { showHealth } from "./health.js";
import { Heard } from "./heard.js";
import { Spectrogram } from "./spectrogram.js";

const byId = (id) => document.getElementById(id);
const status = byId("status");
const spectrogram = new Spectrogram(byId("spectrogram"));
const heard = new Heard();
const events = new Events();
let version = null;

connect(
  "events",
  {
    hello(hello) {
      // Page and messages must have the same version, so reload after an update.
      if (version !== null && version !== hello.version) location.reload();
      version = hello.version;
      byId("model").textContent = `${hello.model} · ${hello.labels.length} labels`;
      byId("version").textContent = `semanticac-edge ${hello.version}`;
      document.body.classList.remove("stale");
      spectrogram.configure(hello);
      spectrogram.clearEvents();
      heard.reset();
      events.replace(hello.events, hello.now - Date.now() / 1000);
      for (const event of [...hello.events].reverse()) {
        spectrogram.event(event);
        heard.event(event);
      }
      if (hello.health) updateHealth(hello.health);
    },
    frames(frames) {
      const bytes = Uint8Array.from(atob(frames.rows), (character) => character.charCodeAt(0));
      spectrogram.push(bytes, frames.end_seconds);
      heard.showLevel(frames.level_dbfs, frames.peak_dbfs);
    },
    window(window) {
      heard.showWindow(window);
    },
    event(event) {
      events.show(event);
      spectrogram.event(event);
      heard.event(event);
      if (event.state === "started") announce(`${event.label} started`);
    },
    gap(gap) {
      spectrogram.gap(gap.seconds);
    },
    health: updateHealth,
  },
  (refusal) => {
    document.body.classList.add("stale");
    setStatus("lost", `${refusal || "Connection lost."} Reconnecting …`);
  },
);

byId("pause").addEventListener("click", ({ target }) => {
  spectrogram.paused = !spectrogram.paused;
  target.setAttribute("aria-pressed", String(spectrogram.paused));
  target.textContent = spectrogram.paused ? "Paused" : "Pause";
});

function updateHealth(health) {
  showHealth(health);
  if (!health.source_up) setStatus("silent", `No sound: ${health.source}`);
  else if (health.muted) setStatus("silent", "Only digital silence. Is the input muted?");
  else setStatus("live", "Listening");
}

/** Writes the text only if it changes, because screen readers read it out. */
function setStatus(state, text) {
  status.dataset.state = state;
  if (status.textContent !== text) status.textContent = text;
}

function announce(text) {
  byId("announcements").textContent = text;
}
