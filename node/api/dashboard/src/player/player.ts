// Plays a live stream into a <video> element and keeps at it: waits until the stream is live, follows the edge,
// comes back after every interruption.

import type Hls from "hls.js";
import type { StreamKey } from "./address";
import { bufferedAhead } from "./element";
import { playNatively, playsNatively } from "./native";
import type { Ending, Phase, Stats, Way } from "./phase";
import { probe, retryDelay, type Probe } from "./probe";
import { playByScript } from "./scripted";
import { sleep } from "./sleep";
import { playByWhep, type Figures } from "./whep";
import { afterWhep } from "./whep_rules";

export type { Phase, Stats, Way } from "./phase";

/** A running player. */
export interface Player {
  stats(): Stats;
  destroy(): void;
}

/** What to play, and whom to tell. */
export interface Options {
  key: StreamKey;
  /** Query for the playlists, with its `?`. */
  query?: string;
  /** What to play by; WebRTC falls back to HLS where it does not work. */
  way?: Way;
  /** Writes what hls.js does to the console. */
  debug?: boolean;
  onPhase(phase: Phase): void;
  /** WebRTC does not work here: it goes on with HLS. The reason is a sentence for the viewer. */
  onFallback?(reason: string): void;
}

// A session that went on for this long was a good one: what comes next is its first retry.
const GOOD_SESSION_MS = 10_000;
// After a pause longer than this the picture goes on at the edge.
const STALE_AFTER_PAUSE = 3;

/** Starts to play and goes on until `destroy`. Playback itself starts when `video.autoplay` is set, or by the viewer. */
export function play(video: HTMLVideoElement, { key, query = "", way = "hls", debug = false, onPhase, onFallback }: Options): Player {
  const abort = new AbortController();
  const { signal } = abort;
  let hls: Hls | null = null;
  let figures: Figures = () => null;
  let stalls = 0;
  let told = "";

  const tell = (phase: Phase): void => {
    const text = JSON.stringify(phase);
    if (signal.aborted || text === told) return;
    told = text;
    onPhase(phase);
  };

  // Whether the viewer wants it to run: an interruption changes nothing about that.
  let wanted = video.autoplay;
  video.addEventListener("pause", () => (wanted &&= video.ended), { signal });
  video.addEventListener(
    "play",
    () => {
      wanted = true;
      const edge = hls?.liveSyncPosition;
      if (hls !== null && edge != null && hls.latency - (hls.targetLatency ?? 0) > STALE_AFTER_PAUSE) video.currentTime = edge;
    },
    { signal },
  );
  /** Asks for playback; a refusal (no gesture yet) is the page's to handle, which sees the element paused. */
  const start = (): void => {
    if (wanted) video.play().catch(() => undefined);
  };

  const session = (url: string): Promise<Ending> => {
    if (playsNatively(video)) return playNatively(video, url, signal, tell, start);
    return playByScript(video, url, signal, debug, { tell, start, engine: (engine) => (hls = engine), stalled: () => stalls++ });
  };

  let attempt = 0;
  let live = false;

  /** Plays by HLS until it ends; answers for how long to wait, in ms. */
  const byHls = async (): Promise<number> => {
    const found = await probe(key, query, signal);
    if (signal.aborted) return 0;
    let wait = found.kind;
    if (found.kind === "found") {
      const started = performance.now();
      const ending = await session(found.url);
      if (signal.aborted) return 0;
      if (performance.now() - started > GOOD_SESSION_MS) attempt = 0;
      live = ending.kind === "broken";
      wait = ending.kind === "failed" ? "refused" : ending.kind === "broken" ? "found" : "absent";
      tell(ending.kind === "broken" ? { name: "reconnecting", reason: ending.reason } : phaseOfEnding(ending));
    } else {
      // What just ended keeps saying so.
      if (!(found.kind === "absent" && told === JSON.stringify({ name: "ended" }))) tell(phaseOfProbe(found, live));
      if (found.kind === "absent" && attempt > 10) live = false;
    }
    return retryDelay(wait, attempt++, Math.random());
  };

  // What WebRTC has come to: see whep_rules.ts.
  const tried = { connected: false, failures: 0, absences: 0 };

  /** The same by WebRTC. */
  const byWhep = async (): Promise<number> => {
    const started = performance.now();
    const end = await playByWhep(video, key, query, signal, { tell, start, figures: (now) => (figures = now), connected: () => (tried.connected = true) });
    if (signal.aborted) return 0;
    if (performance.now() - started > GOOD_SESSION_MS) attempt = 0;
    const elsewhere = end.kind === "absent" && tried.absences >= 2 && (await probe(key, query, signal)).kind === "found";
    if (signal.aborted) return 0;
    const next = afterWhep(end, tried, elsewhere);
    if (next.kind === "fallback") {
      way = "hls";
      video.srcObject = null;
      onFallback?.(next.reason);
      return 0;
    }
    if (next.wait === "absent") {
      if (told !== JSON.stringify({ name: "ended" })) tell(tried.connected ? { name: "ended" } : { name: "waiting" });
    } else if (next.phase !== null) tell(next.phase);
    return Math.max(next.after, retryDelay(next.wait, attempt++, Math.random()));
  };

  const run = async (): Promise<void> => {
    tell({ name: "loading" });
    while (!signal.aborted) {
      const wait = await (way === "webrtc" ? byWhep() : byHls());
      await sleep(wait, signal);
    }
  };
  void run();

  return {
    stats: () => {
      const quality = video.getVideoPlaybackQuality?.();
      const now = figures();
      return {
        way,
        latency: now !== null ? now.delay : hls !== null && hls.latency > 0 ? hls.latency : null,
        target: hls?.targetLatency ?? null,
        buffered: bufferedAhead(video),
        decoded: now?.decoded ?? quality?.totalVideoFrames ?? null,
        dropped: now?.dropped ?? quality?.droppedVideoFrames ?? null,
        stalls,
        rate: video.playbackRate,
        width: video.videoWidth,
        height: video.videoHeight,
        bitrate: now?.bitrate ?? null,
        lost: now?.lost ?? null,
        codec: now?.codec ?? null,
      };
    },
    destroy: () => {
      abort.abort();
      video.srcObject = null;
      video.removeAttribute("src");
      video.load();
    },
  };
}

const phaseOfEnding = (ending: Exclude<Ending, { kind: "broken" }>): Phase =>
  ending.kind === "failed" ? { name: "failed", reason: ending.reason } : { name: "ended" };

function phaseOfProbe(found: Exclude<Probe, { kind: "found" }>, interrupted: boolean): Phase {
  switch (found.kind) {
    case "absent":
      return interrupted ? { name: "reconnecting", reason: "The stream was interrupted." } : { name: "waiting" };
    case "refused":
      return { name: "refused", reason: found.reason };
    case "unreachable":
      return { name: "reconnecting", reason: found.reason };
  }
}
