// The scrolling spectrogram, with the events below it.

import { labelColour } from "./format.js";

const KEPT_SECONDS = 40;
const FULL_SECONDS = 30;
const NARROW_SECONDS = 12;
const NARROW_PIXELS = 600;
// Rows arrive in bursts; holding some back makes the picture scroll smoothly.
const HELD_SECONDS = 0.4;
const MOST_EVENTS = 100;
const LANES = 2;
const LANE_PIXELS = 22;
const LABEL_MARGIN = 10;
const MOST_LABEL_PIXELS = 240;
const TICKS_HZ = [100, 300, 1000, 3000, 10000];
const GAP = 1;
// Smooth enough, at half the frame rate of most screens.
const FRAME_SECONDS = 1 / 32;

// Silence has the colour of the panel, so that sound stands out in both schemes.
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
    this.lanes = new Map();
    this.labels = new Map();
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

  /** Starts a new picture with the row format from a `hello` message. */
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

  /** Adds rows of bytes; the last one ends at `endSeconds` of the stream. */
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

  /** Adds a gap. */
  gap(seconds) {
    const count = Math.min(Math.round(seconds * this.rate), this.size);
    for (let row = 0; row < count; row++) this.waiting.push({ bytes: null, time: null });
    this.limit();
  }

  /** Adds or updates an event. */
  event(event) {
    this.events.set(event.id, event);
    if (this.events.size > MOST_EVENTS) {
      const oldest = this.events.keys().next().value;
      this.events.delete(oldest);
      this.lanes.delete(oldest);
    }
    this.dirty = true;
  }

  clearEvents() {
    this.events.clear();
    this.lanes.clear();
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

  /** Takes the columns due, slightly faster or slower depending on how many are waiting. */
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

  /** Adapts the contrast to the room: colours span 48 dB above its background noise. */
  follow(bytes) {
    const quiet = Uint8Array.from(bytes).sort()[bytes.length >> 2];
    // Digital silence is not the background noise of the room.
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
    this.lanes.clear();
    this.labels.clear();
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

  /** Visible fraction of the newest column. */
  shown() {
    return still.matches ? 1 : Math.min(1, this.credit);
  }

  drawEvents(width, height, visible) {
    const { context } = this;
    context.textBaseline = "middle";
    context.textAlign = "left";
    for (const chip of this.layOutChips(width, visible)) {
      const top = height + 5 + chip.lane * LANE_PIXELS;
      const tall = LANE_PIXELS - 4;
      context.save();
      context.beginPath();
      context.roundRect(chip.left, top, chip.right - chip.left, tall, 5);
      context.clip();
      context.fillStyle = this.colour(chip.event.label);
      context.globalAlpha = 0.12;
      context.fillRect(chip.left, top, chip.right - chip.left, tall);
      context.fillRect(chip.start, top, chip.end - chip.start, tall);
      context.globalAlpha = 1;
      context.fillRect(chip.left, top, 3, tall);
      context.fillStyle = this.ink;
      // A label fades out before the left edge cuts it off.
      context.globalAlpha = Math.min(1, Math.max(0, chip.textLeft / LABEL_MARGIN));
      context.fillText(chip.text, chip.textLeft, top + tall / 2 + 0.5);
      context.restore();
    }
  }

  /**
   * Places the labels of events below the picture, in CSS pixels.
   *
   * A chip spans at least its label, and its event from `start` to `end`. Its lane never changes,
   * so that it does not jump; an event without a free lane has no chip.
   */
  layOutChips(width, visible) {
    const { context } = this;
    const chips = [];
    if (this.filled === 0) return chips;
    const now = this.newest - (1 - this.shown()) / this.rate;
    const at = (seconds) => width - ((now - seconds) * this.rate * width) / visible;
    const laneEnds = new Array(LANES).fill(-Infinity);
    context.font = `600 12px ${this.font}`;
    for (const event of this.events.values()) {
      const start = at(event.start_seconds) + 1;
      const end = Math.max(start + 4, at(event.end_seconds ?? now) - 1);
      const { text, textWidth } = this.fit(event.label, width);
      const chipWidth = Math.max(end - start, textWidth + 2 * LABEL_MARGIN);
      // The label of an event that has just started must not stick out on the right.
      const left = Math.min(start, width - chipWidth - 1);
      const right = left + chipWidth;
      if (right < 0 || start > width) continue;
      const lane = this.lanes.get(event.id) ?? laneEnds.findIndex((laneEnd) => laneEnd <= left);
      if (lane < 0) continue;
      this.lanes.set(event.id, lane);
      laneEnds[lane] = right + 2;
      // The label of a long event stays in sight until the event leaves.
      const textLeft = Math.min(Math.max(left, 0) + LABEL_MARGIN, right - textWidth - LABEL_MARGIN);
      chips.push({ event, lane, start, end, left, right, text, textLeft, textWidth });
    }
    return chips;
  }

  /** Shortens a label to the width of the picture. */
  fit(label, width) {
    let fitted = this.labels.get(label);
    if (!fitted) {
      const { context } = this;
      const most = Math.min(MOST_LABEL_PIXELS, width - 2 * LABEL_MARGIN - 2);
      const characters = [...label];
      let text = label;
      while (characters.length && context.measureText(text).width > most) {
        characters.pop();
        text = `${characters.join("")}…`;
      }
      fitted = { text, textWidth: context.measureText(text).width };
      this.labels.set(label, fitted);
    }
    return fitted;
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

  /** Fractional index of the band at a frequency. */
  bandOf(hz) {
    const above = this.bandsHz.findIndex((band) => band >= hz);
    if (above < 0) return Infinity;
    if (above === 0) return 0;
    const [low, high] = [this.bandsHz[above - 1], this.bandsHz[above]];
    return above - 1 + (hz - low) / (high - low);
  }
}

/** Interpolates 256 RGBA colours between the stops. */
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
