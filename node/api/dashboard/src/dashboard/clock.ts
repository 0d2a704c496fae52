// The node's clock: start times are by it, and this browser's may be wrong.

import type { SystemResources } from "./types";

/** How far the node's clock is ahead of this one, in ms; 0 when the node does not tell. */
export function clockOffset(resources: SystemResources | null, readAt: number): number {
  const timing = resources?.["server-timing"];
  const start = timing?.["start-time"];
  const up = timing?.["up-time"];
  return start !== undefined && up !== undefined && start > 0 ? start + up - readAt : 0;
}
