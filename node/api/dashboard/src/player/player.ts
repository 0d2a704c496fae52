// Plays a live stream into a <video> element and keeps at it: waits until the stream is live, follows the edge,
// comes back after every interruption.

import type Hls from "hls.js";
import type { StreamKey } from "./address";
import { bufferedAhead } from "./element";
import { playNatively, playsNatively } from "./native";
import type { Ending, Phase, Stats } from "./phase";
import { probe, retryDelay, type Probe } from "./probe";
import { playByScript } from "./scripted";

export type { Phase, Stats } from "./phase";

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
  /** Writes what hls.js does to the console. */
  debug?: boolean;
  onPhase(phase: Phase): void;
}

// A session that went on for this long was a good one: what comes next is its first retry.
const GOOD_SESSION_MS = 10_000;
// After a pause longer than this the picture goes on at the edge.
const STALE_AFTER_PAUSE = 3;

/** Starts to play and goes on until `destroy`. Playback itself starts when `video.autoplay` is set, or by the viewer. */
export function play(video: HTMLVideoElement, { key, query = "", debug = false, onPhase }: Options): Player {
  const abort = new AbortController();
  const { signal } = abort;
  let hls: Hls | null = null;
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

  const run = async (): Promise<void> => {
    let attempt = 0;
    let live = false;
    tell({ name: "loading" });
    for (;;) {
      const found = await probe(key, query, signal);
      if (signal.aborted) return;
      let wait = found.kind;
      if (found.kind === "found") {
        const started = performance.now();
        const ending = await session(found.url);
        if (signal.aborted) return;
        if (performance.now() - started > GOOD_SESSION_MS) attempt = 0;
        live = ending.kind === "broken";
        wait = ending.kind === "failed" ? "refused" : ending.kind === "broken" ? "found" : "absent";
        tell(ending.kind === "broken" ? { name: "reconnecting", reason: ending.reason } : phaseOfEnding(ending));
      } else {
        // What just ended keeps saying so.
        if (!(found.kind === "absent" && told === JSON.stringify({ name: "ended" }))) tell(phaseOfProbe(found, live));
        if (found.kind === "absent" && attempt > 10) live = false;
      }
      await sleep(retryDelay(wait, attempt++, Math.random()), signal);
      if (signal.aborted) return;
    }
  };
  void run();

  return {
    stats: () => {
      const quality = video.getVideoPlaybackQuality?.();
      return {
        latency: hls !== null && hls.latency > 0 ? hls.latency : null,
        target: hls?.targetLatency ?? null,
        buffered: bufferedAhead(video),
        decoded: quality?.totalVideoFrames ?? null,
        dropped: quality?.droppedVideoFrames ?? null,
        stalls,
        rate: video.playbackRate,
        width: video.videoWidth,
        height: video.videoHeight,
      };
    },
    destroy: () => {
      abort.abort();
      video.removeAttribute("src");
      video.load();
    },
  };
}

const sleep = (ms: number, signal: AbortSignal): Promise<void> =>
  new Promise((resolve) => {
    const done = (): void => {
      clearTimeout(timer);
      signal.removeEventListener("abort", done);
      resolve();
    };
    const timer = setTimeout(done, ms);
    signal.addEventListener("abort", done);
  });

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
