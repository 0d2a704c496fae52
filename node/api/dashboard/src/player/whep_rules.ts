// What to do after a WebRTC session: wait, try again, or play by HLS. Pure.

import type { End } from "../rtc/connection";
import type { Phase } from "./phase";
import type { Probe } from "./probe";

/** What the sessions so far have come to. */
export interface Tried {
  /** One was connected. */
  connected: boolean;
  /** Attempts in a row that did not connect. */
  failures: number;
  /** Answers in a row that nobody publishes it. */
  absences: number;
}

/** What comes next; waits are `retryDelay`'s, and `after` ms at least. */
export type Next =
  | { kind: "fallback"; reason: string }
  | { kind: "again"; wait: Probe["kind"]; after: number; phase: Phase | null };

// After a session that worked, the way to the server may be bad for a moment only.
const PATIENCE = 3;

const instead = (reason: string): Next => ({ kind: "fallback", reason: `${reason} Playing HLS instead, with a longer delay.` });
const again = (wait: Probe["kind"], phase: Phase | null, after = 0): Next => ({ kind: "again", wait, after, phase });

/** Decides, and counts in `tried`. `elsewhere`: the stream is there by HLS, though WebRTC knows nothing of it. */
export function afterWhep(end: End, tried: Tried, elsewhere: boolean): Next {
  if (end.kind !== "absent") tried.absences = 0;
  if (end.kind !== "unconnected") tried.failures = 0;
  switch (end.kind) {
    case "absent":
      tried.absences++;
      return elsewhere ? instead("This server does not offer this stream by WebRTC.") : again("absent", { name: "waiting" });
    case "unfit":
      return instead(end.reason);
    case "unconnected":
      tried.failures++;
      if (!tried.connected || tried.failures >= PATIENCE) return instead(end.reason);
      return again("found", { name: "reconnecting", reason: end.reason });
    case "forbidden":
      return again("refused", { name: "refused", reason: end.reason });
    case "busy":
      return again("unreachable", { name: "reconnecting", reason: end.reason }, end.after);
    case "taken":
    case "unreachable":
      return again("unreachable", { name: "reconnecting", reason: end.reason });
    case "broken":
      return again("found", { name: "reconnecting", reason: end.reason });
    case "closed":
    case "stopped":
      return again("found", null);
  }
}
