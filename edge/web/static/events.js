// The list of events, newest first, with their clips.

import { decibels, duration, labelColour, moment, percent, place } from "./format.js";

const MOST = 200;
const SHORT = 12;
const TRIES = 2;
const TRY_AGAIN_MS = 1500;
const REASONS = {
  quiet: "",
  longest: "cut at the longest duration",
  gap: "cut off by a gap",
  stopped: "cut off as listening stopped",
};

export class Events {
  constructor() {
    this.list = document.getElementById("events");
    this.none = document.getElementById("no-events");
    this.count = document.getElementById("event-count");
    this.more = document.getElementById("more-events");
    this.items = new Map();
    this.more.addEventListener("click", () => {
      const all = this.list.classList.toggle("all");
      this.more.setAttribute("aria-expanded", String(all));
      this.more.textContent = all ? "Show fewer" : "Show all";
    });
    setInterval(() => this.showTimes(), 1000);
  }

  /** Replaces all events, given newest first. The listener's clock is `skew` seconds ahead. */
  replace(events, skew) {
    this.skew = skew;
    const known = new Set(events.map((event) => event.id));
    for (const [id, item] of this.items) {
      if (!known.has(id)) this.remove(id, item);
    }
    for (const event of [...events].reverse()) this.show(event);
  }

  /** Adds or updates an event. */
  show(event) {
    let item = this.items.get(event.id);
    if (!item) {
      item = newItem();
      this.items.set(event.id, item);
      this.list.prepend(item.row);
      if (this.items.size > MOST) this.remove(...this.items.entries().next().value);
    }
    item.event = event;
    fill(item);
    this.showTime(item);
    this.showCount();
  }

  remove(id, item) {
    item.row.remove();
    this.items.delete(id);
    this.showCount();
  }

  showCount() {
    const size = this.items.size;
    this.none.hidden = size > 0;
    this.more.hidden = size <= SHORT;
    this.count.textContent = size === MOST ? `the last ${MOST}` : size || "";
  }

  showTimes() {
    for (const item of this.items.values()) this.showTime(item);
  }

  showTime({ event, time, length }) {
    const live = event.started_at !== null;
    setText(time, live ? moment(event.started_at) : `at ${place(event.start_seconds)}`);
    if (live) time.dateTime = event.started_utc;
    if (event.state === "ended") setText(length, duration(event.duration_seconds));
    else if (!live) setText(length, "now");
    else {
      const lasted = Date.now() / 1000 + this.skew - event.started_at;
      setText(length, `for ${duration(Math.max(0, lasted), 0)}`);
    }
  }
}

function newItem() {
  const row = document.createElement("li");
  const mark = add(row, "span", "mark");
  const name = add(row, "span", "name");
  const details = add(row, "span", "details");
  const time = add(details, "time");
  details.append(" · ");
  const length = add(details, "span", "length");
  const rest = add(details, "span");
  return { row, mark, name, time, length, rest, button: null };
}

function fill(item) {
  const { event, row } = item;
  row.classList.toggle("running", event.state !== "ended");
  item.mark.style.setProperty("--colour", `var(${labelColour(event.label)})`);
  item.name.textContent = event.label;
  const parts = [percent(event.peak_score), decibels(event.level_dbfs), REASONS[event.end_reason]];
  item.rest.textContent = parts.filter(Boolean).map((part) => ` · ${part}`).join("");
  if (event.clip && event.state === "ended" && !item.button) addButton(item);
}

function addButton(item) {
  const { event, row } = item;
  const button = add(row, "button");
  item.button = button;
  button.type = "button";
  button.textContent = "Play";
  button.setAttribute("aria-label", `Play the recording of ${event.label}`);
  button.setAttribute("aria-expanded", "false");
  button.addEventListener("click", () => {
    const open = row.querySelector("audio, .failure");
    open?.remove();
    button.setAttribute("aria-expanded", String(!open));
    button.textContent = open ? "Play" : "Close";
    if (!open) play(row, item.event);
  });
}

function play(row, event) {
  for (const other of document.querySelectorAll("#events audio")) other.pause();
  const audio = add(row, "audio");
  audio.controls = true;
  audio.autoplay = true;
  audio.src = `clips/${encodeURIComponent(event.clip)}`;
  let tries = TRIES;
  audio.addEventListener("error", () => {
    // A clip is written shortly after its event ends.
    if (tries-- > 0) {
      setTimeout(() => audio.load(), TRY_AGAIN_MS);
      return;
    }
    const failure = document.createElement("p");
    failure.className = "failure";
    failure.textContent = "This recording cannot be played. It may have been deleted to make room for newer ones.";
    audio.replaceWith(failure);
  });
}

function add(parent, tag, className = "") {
  const made = parent.appendChild(document.createElement(tag));
  if (className) made.className = className;
  return made;
}

function setText(node, text) {
  if (node.textContent !== text) node.textContent = text;
}
