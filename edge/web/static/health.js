// The health panel.

import { duration } from "./format.js";

const list = document.getElementById("health");

/** Shows the health values. */
export function showHealth(health) {
  const classified = health.windows - health.gated_windows;
  const mean = classified ? ms(health.inference_seconds / classified) : "–";
  const rows = [
    ["Source", health.source, sourceState(health)],
    ["Running for", duration(health.uptime_seconds, 0)],
    ["Windows", windows(health)],
    ["Inference", classified ? `${ms(health.last_inference_seconds)}, mean ${mean}` : "–"],
    ["Gaps", gaps(health), health.gaps ? "warn" : ""],
    ["Reconnects", health.reconnects],
    ["Events", total(Object.values(health.events))],
    ["Memory", health.rss_bytes ? `${(health.rss_bytes / 2 ** 20).toFixed(0)} MiB` : "–"],
    ...outputs(Object.entries(health.outputs)),
  ];
  list.replaceChildren(
    ...rows.flatMap(([name, value, state]) => [node("dt", name), node("dd", value, state)]),
  );
}

function sourceState({ source_up, muted }) {
  if (!source_up) return "bad";
  return muted ? "warn" : "good";
}

function windows({ windows, gated_windows }) {
  const count = windows.toLocaleString();
  return gated_windows ? `${count}, ${gated_windows.toLocaleString()} too quiet` : count;
}

function gaps({ gaps, gap_seconds }) {
  return gaps ? `${gaps}, ${duration(gap_seconds)} in total` : "none";
}

/** One row for all outputs in order, and one per output with a backlog or failure. */
function outputs(all) {
  const healthy = all.filter(([, { ok, queued, dropped }]) => ok && !queued && !dropped);
  const works = healthy.map(([name]) => name).join(", ");
  const others = all.filter((output) => !healthy.includes(output));
  return [
    ["Outputs", works || "–", works && "good"],
    ...others.map(([name, output]) => [name, outputText(output), output.ok ? "warn" : "bad"]),
  ];
}

function outputText({ ok, error, queued, dropped }) {
  const parts = ok ? [] : [error || "failing"];
  if (queued) parts.push(`${queued} queued`);
  if (dropped) parts.push(`${dropped} dropped`);
  return parts.join(", ");
}

function total(counts) {
  return counts.reduce((sum, count) => sum + count, 0).toLocaleString();
}

function ms(seconds) {
  return `${(seconds * 1000).toFixed(seconds < 0.01 ? 1 : 0)} ms`;
}

function node(tag, text, className) {
  const made = document.createElement(tag);
  made.textContent = String(text);
  if (className) made.className = className;
  return made;
}
