// What a publisher does after a session has ended: come back soon, so that viewers hardly notice, or give up. Pure.

import type { End } from "../rtc/connection";

/** What comes next. Reasons are sentences for the reader. */
export type Next = { kind: "again"; after: number; reason: string } | { kind: "stop"; reason: string };

// A node keeps the stream of a broken connection for ten seconds by default: six attempts fall into them.
const WAITS = [300, 600, 1200, 2000, 3000, 3000];
const CALM = 5000;
// A node may need a moment to see that the session that holds the id is our own, lost one.
const TAKEN_ATTEMPTS = 8;

/** The wait before attempt `n` (0 first) in ms; `spread` (0..1) keeps publishers apart. */
export const backOff = (attempt: number, spread: number): number => (WAITS[attempt] ?? CALM) * (0.8 + 0.4 * spread);

/** Decides. `attempt` counts from 0 since it was last live; `wasLive`: it has been live before. */
export function afterWhip(end: End, attempt: number, wasLive: boolean, spread: number): Next {
  const again = (reason: string, least = 0): Next => ({ kind: "again", reason, after: Math.max(least, backOff(attempt, spread)) });
  const stop = (reason: string): Next => ({ kind: "stop", reason });
  switch (end.kind) {
    case "absent":
      return stop("The server does not know this application.");
    case "taken":
      return wasLive && attempt < TAKEN_ATTEMPTS ? again(end.reason) : stop(`${end.reason} Choose another id, or wait until it is free.`);
    case "forbidden":
    case "unfit":
      return stop(end.reason);
    case "unconnected":
      return wasLive || attempt < 2 ? again(end.reason) : stop(`${end.reason} A firewall may stand between this browser and the server's WebRTC port.`);
    case "busy":
      return again(end.reason, end.after);
    case "unreachable":
    case "broken":
      return again(end.reason);
    case "closed":
      return again("The server ended the connection.");
    case "stopped":
      return stop("");
  }
}
