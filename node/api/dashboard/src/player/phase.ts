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

/** By what a stream is played: HLS with its low-latency part, or WebRTC. */
export type Way = "hls" | "webrtc";

/** Figures about the playback: seconds and frames; null where the browser or the stream tells nothing. */
export interface Stats {
  way: Way;
  /** HLS: how far the picture is behind the end of the playlist. WebRTC: an estimate, see `Received.delay` in rtc/stats.ts. */
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
  /** WebRTC: bit/s that arrive. */
  bitrate: number | null;
  /** WebRTC: packets lost since the session began. */
  lost: number | null;
  /** WebRTC: the codec of the picture. */
  codec: string | null;
}

/** How a session with one playlist ended. */
export type Ending = { kind: "ended" } | { kind: "broken"; reason: string } | { kind: "failed"; reason: string };
