// The picture: columns of sound that scroll by, and the events below them.

import { labelColour } from "./format.js";

const KEPT_SECONDS = 40;
const FULL_SECONDS = 30;
const NARROW_SECONDS = 12;
const NARROW_PIXELS = 600;
// Sound arrives in lumps; so much of it is held back to let the picture flow.
const HELD_SECONDS = 0.4;
const LANES = 2;
const LANE_PIXELS = 22;
const TICKS_HZ = [100, 300, 1000, 3000, 10000];
const GAP = 1;
// Fast enough to flow, at half the work of most screens.
const FRAME_SECONDS = 1 / 32;

// Silence has the colour of the panel, so that sound stands out of it in both schemes.
const RAMPS = {
  light: ["#fbfaf5", "#dcebe3", "#a8d1c6", "#67acad", "#387f97", "#275079", "#192850"],
  dark: ["#101619", "#11303a", "#1c5764", "#378b85", "#84c699", "#e8e4a4", "#fff8e2"],
};
const RANGE_DB = 48;

const dark = matchMedia("(prefers-color-scheme: dark)");
const still = matchMedia("(prefers-reduced-motion: reduce)");

export class Spectrogram {
  constructor(canvas) {
    this.canvas = canvas;
    this.context = canvas.getContext("2d");
    this.events = new Map();
    this.paused = false;
    this.configure({ rows_per_second: 25, bands_hz: [50, 14000], row_floor_db: -100, row_ceiling_db: 40 });
    new ResizeObserver(() => this.resize()).observe(canvas);
    dark.addEventListener("change", () => this.restyle());
    this.restyle();
    this.last = performance.now();
    const frame = (now) => {
      this.tick(now);
      requestAnimationFrame(frame);
    };
    requestAnimationFrame(frame);
  }

  /** Start anew with what `hello` says about the rows. */
  configure({ rows_per_second, bands_hz, row_floor_db, row_ceiling_db }) {
    this.rate = rows_per_second;
    this.bandsHz = bands_hz;
    this.bands = bands_hz.length;
    this.bytesPerDb = 255 / (row_ceiling_db - row_floor_db);
    this.size = Math.round(KEPT_SECONDS * this.rate);
    this.columns = new Uint8Array(this.size * this.bands);
    this.kinds = new Uint8Array(this.size);
    this.filled = 0;
    this.head = 0;
    this.waiting = [];
    this.credit = 0;
    this.heldSmooth = HELD_SECONDS * this.rate;
    this.newest = 0;
    this.floor = null;
    this.low = 0;
    this.store = new OffscreenCanvas(this.size, this.bands);
    this.storeContext = this.store.getContext("2d");
    this.columnImage = this.storeContext.createImageData(1, this.bands);
  }

  /** Rows of bytes, the last of which ends at `endSeconds` of the stream. */
  push(bytes, endSeconds) {
    const count = bytes.length / this.bands;
    for (let row = 0; row < count; row++) {
      this.waiting.push({
        bytes: bytes.subarray(row * this.bands, (row + 1) * this.bands),
        time: endSeconds - (count - 1 - row) / this.rate,
      });
    }
    this.limit();
  }

  /** Sound is missing. */
  gap(seconds) {
    const count = Math.min(Math.round(seconds * this.rate), this.size);
    for (let row = 0; row < count; row++) this.waiting.push({ bytes: null, time: null });
    this.limit();
  }

  /** An event starts, or ends. */
  event(event) {
    this.events.set(event.id, event);
    if (this.events.size > 100) this.events.delete(this.events.keys().next().value);
    this.dirty = true;
  }

  limit() {
    if (this.waiting.length > this.size) this.waiting.splice(0, this.waiting.length - this.size);
  }

  tick(now) {
    const seconds = Math.min((now - this.last) / 1000, 1);
    if (seconds < (still.matches ? 1 : FRAME_SECONDS)) return;
    this.last = now;
    if (!this.paused) this.advance(seconds);
    if (this.dirty && !document.hidden) this.draw();
    this.dirty = false;
  }

  /** Take as many columns as the time allows, a little faster or slower by how many wait. */
  advance(seconds) {
    const held = HELD_SECONDS * this.rate;
    if (this.waiting.length > 4 * held || still.matches) {
      while (this.waiting.length > (still.matches ? 0 : held)) this.take();
    }
    if (!this.waiting.length) return;
    this.heldSmooth += (this.waiting.length - this.heldSmooth) * Math.min(1, seconds);
    const speed = Math.min(1.5, Math.max(0.7, this.heldSmooth / held));
    this.credit += seconds * this.rate * speed;
    while (this.credit >= 1 && this.waiting.length) {
      this.credit -= 1;
      this.take();
    }
    if (!this.waiting.length) this.credit = Math.min(this.credit, 1);
    this.dirty = true;
  }

  take() {
    const { bytes, time } = this.waiting.shift();
    this.kinds[this.head] = bytes ? 0 : GAP;
    const start = this.head * this.bands;
    if (bytes) this.columns.set(bytes, start);
    this.newest = time ?? this.newest + 1 / this.rate;
    if (bytes) this.follow(bytes);
    this.paint(this.head);
    this.head = (this.head + 1) % this.size;
    this.filled = Math.min(this.filled + 1, this.size);
    this.dirty = true;
  }

  /** Let the contrast follow the room: its quiet is the darkest, and 48 dB above it the brightest. */
  follow(bytes) {
    const quiet = Uint8Array.from(bytes).sort()[bytes.length >> 2];
    // Digital silence says nothing about the room.
    if (quiet === 0) return;
    if (this.floor === null) this.floor = quiet;
    const share = (quiet < this.floor ? 1 : 0.25) / (2 * this.rate);
    this.floor += (quiet - this.floor) * share;
    const low = this.floor + 2 * this.bytesPerDb;
    if (Math.abs(low - this.low) > 3 * this.bytesPerDb) {
      this.low = low;
      this.repaint();
    }
  }

  paint(column) {
    const data = this.columnImage.data;
    const scale = (this.ramp.length / 4 - 1) / (RANGE_DB * this.bytesPerDb);
    for (let band = 0; band < this.bands; band++) {
      const target = 4 * (this.bands - 1 - band);
      if (this.kinds[column] === GAP) {
        data.set(this.gapColour, target);
        continue;
      }
      const value = (this.columns[column * this.bands + band] - this.low) * scale;
      const index = 4 * Math.max(0, Math.min(this.ramp.length / 4 - 1, Math.round(value)));
      for (let channel = 0; channel < 4; channel++) data[target + channel] = this.ramp[index + channel];
    }
    this.storeContext.putImageData(this.columnImage, column, 0);
  }

  repaint() {
    for (let back = 1; back <= this.filled; back++) {
      this.paint((this.head - back + this.size) % this.size);
    }
    this.dirty = true;
  }

  restyle() {
    const stops = RAMPS[dark.matches ? "dark" : "light"];
    this.ramp = rampBytes(stops);
    this.ground = stops[0];
    const style = getComputedStyle(document.documentElement);
    this.ink = style.getPropertyValue("--text");
    this.panel = style.getPropertyValue("--panel");
    this.gapColour = [...rgb(style.getPropertyValue("--track")), 255];
    this.colour = (label) => style.getPropertyValue(labelColour(label));
    this.font = getComputedStyle(document.body).fontFamily;
    this.repaint();
  }

  resize() {
    const ratio = window.devicePixelRatio || 1;
    this.canvas.width = Math.round(this.canvas.clientWidth * ratio);
    this.canvas.height = Math.round(this.canvas.clientHeight * ratio);
    this.draw();
  }

  draw() {
    const { context, canvas } = this;
    const ratio = window.devicePixelRatio || 1;
    const width = canvas.width / ratio;
    const height = canvas.height / ratio - LANES * LANE_PIXELS - 6;
    if (width <= 0 || height <= 0) return;
    context.setTransform(ratio, 0, 0, ratio, 0, 0);
    context.fillStyle = this.ground;
    context.fillRect(0, 0, width, height);
    context.fillStyle = this.panel;
    context.fillRect(0, height, width, canvas.height / ratio - height);
    const visible = Math.round((width < NARROW_PIXELS ? NARROW_SECONDS : FULL_SECONDS) * this.rate);
    this.drawColumns(width, height, visible);
    this.drawEvents(width, height, visible);
    this.drawScales(width, height, visible);
  }

  drawColumns(width, height, visible) {
    const columnWidth = width / visible;
    const count = Math.min(visible + 1, this.filled);
    let x = width - (count - 1 + this.shown()) * columnWidth;
    let from = (this.head - count + this.size) % this.size;
    let left = count;
    this.context.imageSmoothingQuality = "high";
    while (left > 0) {
      const run = Math.min(left, this.size - from);
      this.context.drawImage(this.store, from, 0, run, this.bands, x, 0, run * columnWidth, height);
      x += run * columnWidth;
      left -= run;
      from = 0;
    }
  }

  /** How much of the newest column is in the picture yet. */
  shown() {
    return still.matches ? 1 : Math.min(1, this.credit);
  }

  drawEvents(width, height, visible) {
    const { context } = this;
    const columnWidth = width / visible;
    const now = this.newest - (1 - this.shown()) / this.rate;
    const at = (seconds) => width - (now - seconds) * this.rate * columnWidth;
    const taken = new Array(LANES).fill(-Infinity);
    context.textBaseline = "middle";
    context.textAlign = "left";
    context.font = `600 12px ${this.font}`;
    for (const event of this.events.values()) {
      const left = at(event.start_seconds);
      const right = at(event.end_seconds ?? now);
      if (this.filled === 0 || right < -width || left > width) continue;
      const textWidth = context.measureText(event.label).width;
      const lane = taken.findIndex((end) => end <= left);
      if (lane < 0) continue;
      taken[lane] = Math.max(right, left + 14 + textWidth);
      const top = height + 5 + lane * LANE_PIXELS;
      const box = [left + 1, top, Math.max(4, right - left - 2), LANE_PIXELS - 4];
      context.save();
      context.beginPath();
      context.roundRect(...box, 5);
      context.fillStyle = this.colour(event.label);
      context.globalAlpha = 0.22;
      context.fill();
      context.globalAlpha = 1;
      context.save();
      context.clip();
      context.fillRect(box[0], top, 3, LANE_PIXELS);
      context.restore();
      // A label stays in sight as long as its event, and leaves with it.
      const textStart = left < 0 ? Math.min(10, right - textWidth - 10) : left + 10;
      context.fillStyle = this.ink;
      context.fillText(event.label, textStart, top + LANE_PIXELS / 2 - 1.5);
      context.restore();
    }
  }

  drawScales(width, height, visible) {
    const { context } = this;
    context.font = `11px ${this.font}`;
    context.textBaseline = "middle";
    for (const hz of TICKS_HZ) {
      const y = height * (1 - this.bandOf(hz) / (this.bands - 1));
      if (y < 10 || y > height - 8) continue;
      this.label(hz < 1000 ? `${hz} Hz` : `${hz / 1000} kHz`, 10, y, "left");
    }
    const seconds = visible / this.rate;
    const step = seconds > 20 ? 10 : 5;
    for (let back = step; back < seconds; back += step) {
      const x = width * (1 - back / seconds);
      if (x > 80) this.label(`−${back} s`, x, height - 11, "center");
    }
  }

  label(text, x, y, align) {
    const { context } = this;
    context.textAlign = align;
    context.lineWidth = 3;
    context.lineJoin = "round";
    context.strokeStyle = this.ground;
    context.globalAlpha = 0.75;
    context.strokeText(text, x, y);
    context.globalAlpha = 1;
    context.fillStyle = this.ink;
    context.fillText(text, x, y);
  }

  /** Where a frequency lies among the bands, between whole ones too. */
  bandOf(hz) {
    const above = this.bandsHz.findIndex((band) => band >= hz);
    if (above < 0) return Infinity;
    if (above === 0) return 0;
    const [low, high] = [this.bandsHz[above - 1], this.bandsHz[above]];
    return above - 1 + (hz - low) / (high - low);
  }
}

/** 256 colours between the stops, four bytes each. */
function rampBytes(stops) {
  const colours = stops.map(rgb);
  const bytes = new Uint8ClampedArray(256 * 4);
  for (let index = 0; index < 256; index++) {
    const position = (index / 255) * (colours.length - 1);
    const lower = Math.min(Math.floor(position), colours.length - 2);
    for (let channel = 0; channel < 3; channel++) {
      const [from, to] = [colours[lower][channel], colours[lower + 1][channel]];
      bytes[4 * index + channel] = from + (to - from) * (position - lower);
    }
    bytes[4 * index + 3] = 255;
  }
  return bytes;
}

function rgb(hex) {
  const digits = hex.trim().slice(1);
  return [0, 2, 4].map((start) => parseInt(digits.slice(start, start + 2), 16));
}
