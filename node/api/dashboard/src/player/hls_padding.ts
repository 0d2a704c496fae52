// A flaw of hls.js that low latency runs into, and the way around it.
//
// hls.js takes a segment for complete when it is buffered to within 0.2 s of its end. When a playlist that completes
// a segment arrives while its last part but one is on its way, and the last part is no longer than that, the last
// part is never loaded, and playback stalls at the segment's end. Parts here are 0.2 s at most, and the last part of
// an audio segment is shorter. The segments are contiguous to the millisecond, so a smaller allowance does.

/** What hls.js allows at both ends of a segment, in seconds; a frame of audio at most. */
export const PADDING = 0.03;

interface Tracker {
  bufferPadding: number;
}

const isTracker = (component: unknown): component is Tracker =>
  typeof component === "object" && component !== null && typeof (component as Partial<Tracker>).bufferPadding === "number";

/** Sets the allowance of an hls.js instance, which has no option for it. Says whether it was found. */
export function tightenPadding(hls: object): boolean {
  const { coreComponents } = hls as { coreComponents?: unknown };
  const tracker = Array.isArray(coreComponents) ? coreComponents.find(isTracker) : undefined;
  if (tracker === undefined) return false;
  tracker.bufferPadding = PADDING;
  return true;
}
