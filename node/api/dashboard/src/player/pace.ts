// How fast to play so that a live picture stays close to the edge and does not run dry.
//
// hls.js catches up only while more than a second is buffered, which a stream played 0.6 s behind the edge never
// has: left alone it keeps every delay that a hiccup added. Hence this rule, pure so that it can be tested.

/** What the rule looks at, in seconds. */
export interface Position {
  /** How far the picture is behind the live edge. */
  latency: number;
  /** How far behind it should be. */
  target: number;
  /** How much is buffered ahead of the picture. */
  ahead: number;
}

const CATCH_UP_FROM = 0.12;
const CATCH_UP_UNTIL = 0.02;
const LOW_WATER = 0.12;
const SAFE_WATER = 0.3;
const SLOW = 0.95;

/** The playback rate to use next, given the one in use. Few distinct values: each change costs an audible seam. */
export function nextRate({ latency, target, ahead }: Position, rate: number): number {
  if (ahead < LOW_WATER || (rate < 1 && ahead < SAFE_WATER)) return SLOW;
  const late = latency - target;
  const catchingUp = rate > 1;
  if (late > (catchingUp ? CATCH_UP_UNTIL : CATCH_UP_FROM) && ahead > SAFE_WATER) {
    if (late > 1.5) return 1.25;
    return late > 0.5 ? 1.1 : 1.05;
  }
  return 1;
}

/**
 * Whether to jump to the edge instead: catching up from further behind would take too long, and a picture that has
 * run dry well behind the edge waits for something that does not come.
 */
export const shouldJump = ({ latency, target, ahead }: Position): boolean =>
  latency - target > (ahead < LOW_WATER ? 1.5 : 4);
