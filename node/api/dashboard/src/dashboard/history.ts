// The last minutes of a figure, and its line.

/** One reading; time in ms on any steady clock. */
export interface Sample {
  at: number;
  value: number;
}

/** Adds a reading and forgets what is older than `span` ms. Answers a new list, so that views see the change. */
export function record(history: readonly Sample[], sample: Sample, span: number): Sample[] {
  const from = sample.at - span;
  return [...history.filter(({ at }) => at >= from && at < sample.at), sample];
}

/** The area and the line of a sparkline, as SVG paths. */
export interface Paths {
  line: string;
  area: string;
}

/**
 * Draws readings into a box of `width` x `height`: the newest at the right edge, `span` ms wide, from 0 to `top`
 * (or to the highest reading when that is more).
 */
export function sparkline(history: readonly Sample[], span: number, width: number, height: number, top: number): Paths {
  const newest = history.at(-1);
  if (newest === undefined || history.length < 2) return { line: "", area: "" };
  const highest = Math.max(top, ...history.map(({ value }) => value)) || 1;
  const x = (at: number): number => round(width - ((newest.at - at) / span) * width);
  const y = (value: number): number => round(height - (Math.max(0, value) / highest) * height);
  const points = history.map(({ at, value }) => `${x(at)},${y(value)}`);
  const line = `M${points.join("L")}`;
  const first = history[0] ?? newest;
  return { line, area: `${line}L${x(newest.at)},${height}L${x(first.at)},${height}Z` };
}

const round = (value: number): number => Math.round(value * 10) / 10;
