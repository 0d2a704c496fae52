// What a player tells about itself.

/** What the player is doing. Reasons are sentences for the viewer. */
export type Phase =
  | { name: "loading" }
  /** The stream is not live (yet). */
  | { name: "waiting" }
  | { name: "playing" }
  /** There is a picture, and the viewer has to start it. */
  | { name: "paused" }
  | { name: "buffering" }
  | { name: "ended" }
  | { name: "reconnecting"; reason: string }
  | { name: "refused"; reason: string }
  | { name: "failed"; reason: string };

/** Figures about the playback: seconds and frames; null where the browser or the stream tells nothing. */
export interface Stats {
  /** How far the picture is behind the end of the playlist. */
  latency: number | null;
  /** How far behind it should be. */
  target: number | null;
  buffered: number;
  decoded: number | null;
  dropped: number | null;
  stalls: number;
  rate: number;
  width: number;
  height: number;
}

/** How a session with one playlist ended. */
export type Ending = { kind: "ended" } | { kind: "broken"; reason: string } | { kind: "failed"; reason: string };
