// The best labels, the level, and the labels of open events.

import { decibels, labelColour, percent } from "./format.js";

const ROWS = 5;
const LEVEL_FLOOR_DB = -80;
const PEAK_FALL_DB_PER_SECOND = 12;
const LEVEL_TEXT_MS = 250;

export class Heard {
  constructor() {
    this.panel = document.querySelector(".hears");
    this.quiet = document.getElementById("quiet");
    this.line = document.getElementById("heard");
    this.level = document.getElementById("level");
    this.levelText = document.getElementById("level-text");
    this.rows = Array.from({ length: ROWS }, () => topRow(document.getElementById("top")));
    this.running = new Map();
    this.peakDb = LEVEL_FLOOR_DB;
    this.peakAt = 0;
    this.textAt = 0;
    this.showWindow({ top: [], gated: false });
  }

  /** Shows the best labels of a window. */
  showWindow({ top, gated }) {
    this.panel.classList.toggle("quiet", gated);
    this.quiet.hidden = !gated;
    this.gated = gated;
    this.showLine();
    this.rows.forEach((row, index) => {
      const [label, score] = (gated ? [] : top)[index] ?? ["–", 0];
      row.name.textContent = label;
      row.score.textContent = label === "–" ? "" : percent(score);
      row.fill.style.setProperty("--value", score);
      row.fill.style.setProperty("--colour", `var(${labelColour(label)})`);
    });
  }

  /** Shows the current level. */
  showLevel(levelDb, peakDb) {
    const now = performance.now();
    const fallen = this.peakDb - ((now - this.peakAt) / 1000) * PEAK_FALL_DB_PER_SECOND;
    this.peakDb = Math.max(peakDb, fallen);
    this.peakAt = now;
    this.level.style.setProperty("--value", fraction(levelDb));
    this.level.style.setProperty("--peak", fraction(this.peakDb));
    if (now - this.textAt < LEVEL_TEXT_MS) return;
    this.textAt = now;
    this.levelText.textContent = decibels(levelDb);
    this.level.setAttribute("aria-valuenow", Math.max(LEVEL_FLOOR_DB, Math.round(levelDb)));
    this.level.setAttribute("aria-valuetext", decibels(levelDb));
  }

  /** Forgets all open events. */
  reset() {
    this.running.clear();
    this.showLine();
  }

  /** Takes the start or the end of an event. */
  event(event) {
    if (event.state === "ended") this.running.delete(event.id);
    else this.running.set(event.id, event);
    this.showLine();
  }

  /** Shows the labels of open events. */
  showLine() {
    const labels = [...new Set([...this.running.values()].map((event) => event.label))];
    const nothing = labels.length === 0;
    this.line.classList.toggle("nothing", nothing);
    this.line.textContent = nothing ? (this.gated ? "Quiet" : "Nothing in particular") : labels.join(" · ");
    document.title = nothing ? "semanticac-edge" : `${labels.join(", ")} · semanticac-edge`;
  }
}

function topRow(list) {
  const item = list.appendChild(document.createElement("li"));
  const name = item.appendChild(element("span", "name"));
  const score = item.appendChild(element("span", "score"));
  const fill = item.appendChild(element("div", "bar")).appendChild(document.createElement("i"));
  return { name, score, fill };
}

function element(tag, className) {
  const made = document.createElement(tag);
  made.className = className;
  return made;
}

function fraction(level) {
  return Math.min(1, Math.max(0, 1 - level / LEVEL_FLOOR_DB));
}
