// Finds out what there is to play: AMS's order, the adaptive playlist first, then the plain one.

import { adaptivePlaylist, plainPlaylist, type StreamKey } from "./address";

/** The answer: something to play, or why not. */
export type Probe =
  | { kind: "found"; url: string }
  | { kind: "absent" }
  | { kind: "refused"; reason: string }
  | { kind: "unreachable"; reason: string };

/** Asks the node. Never throws; `signal` gives up early. */
export async function probe(key: StreamKey, query: string, signal: AbortSignal): Promise<Probe> {
  for (const url of [adaptivePlaylist(key, query), plainPlaylist(key, query)]) {
    let answer: Response;
    try {
      answer = await fetch(url, { method: "HEAD", cache: "no-store", signal });
    } catch {
      return { kind: "unreachable", reason: "The server does not answer." };
    }
    if (answer.ok) return { kind: "found", url };
    if (answer.status === 401 || answer.status === 403) {
      return { kind: "refused", reason: "This stream needs a permission that the address of this page does not carry." };
    }
    if (answer.status >= 500) return { kind: "unreachable", reason: `The server answers with an error (${answer.status}).` };
  }
  return { kind: "absent" };
}

const WAITS: Record<Probe["kind"], { first: number; most: number }> = {
  // It was there a moment ago.
  found: { first: 300, most: 5000 },
  absent: { first: 1000, most: 3000 },
  refused: { first: 5000, most: 30_000 },
  unreachable: { first: 1000, most: 8000 },
};

/** How long to wait before asking again, in ms: soon at first, calmer later; `spread` (0..1) keeps viewers apart. */
export function retryDelay(kind: Probe["kind"], attempt: number, spread: number): number {
  const { first, most } = WAITS[kind];
  return Math.min(most, first * 1.3 ** attempt) * (0.8 + 0.4 * spread);
}
