// Formats numbers and times in the visitor's locale and time zone.

const clock = new Intl.DateTimeFormat([], { timeStyle: "medium" });
const dayAndClock = new Intl.DateTimeFormat([], {
  weekday: "short",
  day: "numeric",
  month: "short",
  hour: "numeric",
  minute: "2-digit",
  second: "2-digit",
});
const LABEL_COLOURS = 8;

/** Formats Unix seconds; the date is omitted for today. */
export function moment(unixSeconds) {
  const date = new Date(unixSeconds * 1000);
  const today = date.toDateString() === new Date().toDateString();
  return (today ? clock : dayAndClock).format(date);
}

/** Formats a position in a recording: 1:02:03.4. */
export function place(seconds) {
  const tenths = Math.max(0, Math.round(seconds * 10));
  const two = (number) => String(number).padStart(2, "0");
  const hours = Math.floor(tenths / 36000);
  const minutes = Math.floor(tenths / 600) % 60;
  const rest = `${two(Math.floor(tenths / 10) % 60)}.${tenths % 10}`;
  return hours ? `${hours}:${two(minutes)}:${rest}` : `${minutes}:${rest}`;
}

/** Formats a duration: 0.8 s (1 s with `digits` 0), 12 s, 3 min 5 s, 2 h 10 min, 41 d 3 h. */
export function duration(seconds, digits = 1) {
  if (seconds < 9.95) return `${seconds.toFixed(digits)} s`;
  const whole = Math.round(seconds);
  const units = [[86400, "d"], [3600, "h"], [60, "min"], [1, "s"]];
  const first = units.findIndex(([size]) => whole >= size);
  let rest = whole;
  const parts = units.slice(first, first + 2).map(([size, unit]) => {
    const count = Math.floor(rest / size);
    rest %= size;
    return count ? `${count} ${unit}` : "";
  });
  return parts.filter(Boolean).join(" ");
}

/** Formats a level with a true minus sign. */
export function decibels(level) {
  return `${level < -119 ? "−∞" : Math.round(level).toString().replace("-", "−")} dB`;
}

/** Formats a score from 0 to 1 as a percentage. */
export function percent(score) {
  return `${Math.round(score * 100)} %`;
}

/** The CSS custom property with a label's colour. */
export function labelColour(label) {
  let hash = 0;
  for (const character of label) hash = (hash * 31 + character.codePointAt(0)) >>> 0;
  return `--label-${hash % LABEL_COLOURS}`;
}
