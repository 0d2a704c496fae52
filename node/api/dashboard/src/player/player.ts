// Plays a live stream into a <video> element and keeps at it: waits until the stream is live, follows the edge,
// comes back after every interruption. What it is doing is told by phases; how it goes by `stats`.

import type Hls from "hls.js";
import type { ErrorData } from "hls.js";
import type { StreamKey } from "./address";
import { nextRate, shouldJump } from "./pace";
import { probe, retryDelay, type Probe } from "./probe";

/** What the player is doing. Texts are sentences for the viewer. */
export type Phase =
  | { name: "loading" }
  | { name: "waiting" }
  | { name: "playing" }
  | { name: "buffering" }
  | { name: "ended" }
  | { name: "reconnecting"; reason: string }
  | { name: "refused"; reason: string }
  | { name: "failed"; reason: string };

/** Figures about the playback. Seconds, frames; null where the browser or the stream tells nothing. */
export interface Stats {
  latency: number | null;
  target: number | null;
  buffered: number;
  decoded: number | null;
  dropped: number | null;
  stalls: number;
  rate: number;
  width: number;
  height: number;
}

/** A running player. */
export interface Player {
  stats(): Stats;
  /** Goes to the live edge, as after a long pause. */
  toLive(): void;
  destroy(): void;
}

/** How to play. */
export interface Options {
  key: StreamKey;
  /** Query for the playlists, with its `?`. */
  query?: string;
  onPhase(phase: Phase): void;
}

const STUCK_AFTER_MS = 6000;
const TICK_MS = 100;

type Ending = { kind: "ended" } | { kind: "broken"; reason: string } | { kind: "failed"; reason: string };

/** Safari plays HLS, low latency included, better by itself than scripts do. */
const playsNatively = (video: HTMLVideoElement): boolean =>
  video.canPlayType("application/vnd.apple.mpegurl") !== "" &&
  (navigator.vendor.startsWith("Apple") || !("MediaSource" in window || "ManagedMediaSource" in window));

/** Seconds buffered ahead of the picture. */
function bufferedAhead(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) > currentTime) return buffered.end(i) - currentTime;
  }
  return 0;
}

/** Starts to play and goes on until `destroy`. */
export function play(video: HTMLVideoElement, { key, query = "", onPhase }: Options): Player {
  const abort = new AbortController();
  const { signal } = abort;
  let hls: Hls | null = null;
  let stalls = 0;
  let phase = "";

  const tell = (next: Phase): void => {
    const text = JSON.stringify(next);
    if (signal.aborted || text === phase) return;
    phase = text;
    onPhase(next);
  };

  const sleep = (ms: number): Promise<void> =>
    new Promise((resolve) => {
      const timer = setTimeout(resolve, ms);
      signal.addEventListener("abort", () => (clearTimeout(timer), resolve()), { once: true });
    });

  const toLive = (): void => {
    const edge = hls?.liveSyncPosition ?? (video.seekable.length > 0 ? video.seekable.end(video.seekable.length - 1) - 1 : null);
    if (edge !== null && edge > video.currentTime) video.currentTime = edge;
  };

  const run = async (): Promise<void> => {
    let attempt = 0;
    let seen = false;
    let over = false;
    tell({ name: "loading" });
    while (!signal.aborted) {
      const found = await probe(key, query, signal);
      if (signal.aborted) return;
      if (found.kind === "found") {
        const session = new AbortController();
        signal.addEventListener("abort", () => session.abort(), { once: true });
        const started = performance.now();
        const ending = await session_(found.url, session.signal);
        session.abort();
        if (signal.aborted) return;
        if (performance.now() - started > 10_000) attempt = 0;
        seen = true;
        over = ending.kind === "ended";
        if (ending.kind === "ended") tell({ name: "ended" });
        else if (ending.kind === "failed") tell({ name: "failed", reason: ending.reason });
        else tell({ name: "reconnecting", reason: ending.reason });
        await sleep(retryDelay(ending.kind === "failed" ? "refused" : "absent", attempt++, Math.random()));
        continue;
      }
      tell(phaseOf(found, seen && !over));
      if (found.kind === "absent") over = true;
      await sleep(retryDelay(found.kind, attempt++, Math.random()));
    }
  };

  const session_ = (url: string, ended: AbortSignal): Promise<Ending> =>
    playsNatively(video) ? nativeSession(url, ended) : scriptedSession(url, ended);

  /** Watches the element itself: picture moving, stuck, or over. */
  const watch = (ended: AbortSignal, end: (ending: Ending) => void): void => {
    let last = -1;
    let moved = performance.now();
    const options = { signal: ended };
    video.addEventListener("playing", () => tell({ name: "playing" }), options);
    video.addEventListener("waiting", () => tell({ name: "buffering" }), options);
    video.addEventListener("ended", () => end({ kind: "ended" }), options);
    const timer = setInterval(() => {
      const now = performance.now();
      if (video.paused || document.hidden || video.currentTime !== last) {
        if (last >= 0 && !video.paused && video.currentTime > last) tell({ name: "playing" });
        last = video.currentTime;
        moved = now;
      } else if (now - moved > STUCK_AFTER_MS) {
        end({ kind: "broken", reason: "The picture stopped." });
      }
    }, TICK_MS * 5);
    ended.addEventListener("abort", () => clearInterval(timer), { once: true });
  };

  const nativeSession = (url: string, ended: AbortSignal): Promise<Ending> =>
    new Promise((resolve) => {
      watch(ended, resolve);
      video.addEventListener("error", () => resolve({ kind: "broken", reason: "The connection was interrupted." }), { signal: ended });
      ended.addEventListener("abort", () => resolve({ kind: "ended" }), { once: true });
      video.src = url;
      start(video);
    });

  const scriptedSession = async (url: string, ended: AbortSignal): Promise<Ending> => {
    let module: typeof import("hls.js");
    try {
      module = await import("hls.js");
    } catch {
      return { kind: "broken", reason: "The player could not be loaded." };
    }
    const { default: Hls, Events, ErrorDetails, ErrorTypes } = module;
    if (!Hls.isSupported()) return { kind: "failed", reason: "This browser cannot play live video (no Media Source Extensions)." };
    if (ended.aborted) return { kind: "ended" };

    return new Promise((resolve) => {
      const engine = new Hls({
        lowLatencyMode: true,
        // The distance from the edge is the playlist's PART-HOLD-BACK; each stall moves a little away from it.
        liveSyncOnStallIncrease: 0.2,
        // The pace is ours: see pace.ts.
        maxLiveSyncPlaybackRate: 1,
        maxBufferLength: 10,
        backBufferLength: 10,
        liveDurationInfinity: true,
        enableInterstitialPlayback: false,
        enableWebVTT: false,
        enableIMSC1: false,
        // Retries beyond these are made here, where the viewer is told about them.
        manifestLoadPolicy: { default: policy(5000, 1) },
        playlistLoadPolicy: { default: policy(10_000, 3) },
        fragLoadPolicy: { default: policy(10_000, 3) },
      });
      hls = engine;
      let finished = false;
      const end = (ending: Ending): void => {
        if (finished) return;
        finished = true;
        clearInterval(pacing);
        if (hls === engine) hls = null;
        engine.destroy();
        video.playbackRate = 1;
        resolve(ending);
      };
      ended.addEventListener("abort", () => end({ kind: "ended" }), { once: true });

      let recovered = -Infinity;
      engine.on(Events.ERROR, (_, data) => {
        if (data.details === ErrorDetails.BUFFER_STALLED_ERROR) stalls++;
        if (!data.fatal) return;
        const now = performance.now();
        if (data.type === ErrorTypes.MEDIA_ERROR && !isCodecProblem(data) && now - recovered > 5000) {
          recovered = now;
          engine.recoverMediaError();
          start(video);
          return;
        }
        end(endingOf(data));
      });
      let live = false;
      engine.on(Events.LEVEL_LOADED, (_, { details }) => {
        if (details.live) live = true;
        // A playlist that is complete when it is first read is what an ended stream left behind.
        else if (!live) end({ kind: "ended" });
      });
      engine.on(Events.MANIFEST_PARSED, () => start(video));

      const pacing = followEdge(video, engine);
      watch(ended, end);
      engine.loadSource(url);
      engine.attachMedia(video);
    });
  };

  video.addEventListener("play", () => {
    const latency = hls?.latency ?? 0;
    if (latency > (hls?.targetLatency ?? 0) + 3) toLive();
  }, { signal });

  void run();

  return {
    toLive,
    stats: () => {
      const quality = video.getVideoPlaybackQuality?.();
      return {
        latency: hls && hls.latency > 0 ? hls.latency : null,
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

/** Keeps the picture at the wanted distance, unless the viewer has gone back on purpose. Answers its timer. */
function followEdge(video: HTMLVideoElement, hls: Hls): ReturnType<typeof setInterval> {
  let ours = false;
  let goneBack = false;
  video.addEventListener("seeking", () => {
    if (!ours && (hls.latency ?? 0) > 6) goneBack = true;
    ours = false;
  });
  return setInterval(() => {
    const target = hls.targetLatency;
    if (target === null || video.paused || video.seeking || video.readyState < 2) return;
    const position = { latency: hls.latency, target, ahead: bufferedAhead(video) };
    if (goneBack) {
      if (position.latency - target < 2) goneBack = false;
      else {
        if (video.playbackRate !== 1) video.playbackRate = 1;
        return;
      }
    }
    if (shouldJump(position) && hls.liveSyncPosition !== null) {
      ours = true;
      video.currentTime = hls.liveSyncPosition;
      return;
    }
    const rate = nextRate(position, video.playbackRate);
    if (rate !== video.playbackRate) video.playbackRate = rate;
  }, TICK_MS);
}

/** Asks for playback; a refusal (no gesture yet) is left to the page, which sees the element paused. */
function start(video: HTMLVideoElement): void {
  if (!video.autoplay) return;
  video.play().catch(() => undefined);
}

const policy = (firstByteMs: number, retries: number) => ({
  maxTimeToFirstByteMs: firstByteMs,
  maxLoadTimeMs: 20_000,
  timeoutRetry: { maxNumRetry: 1, retryDelayMs: 0, maxRetryDelayMs: 0 },
  errorRetry: { maxNumRetry: retries, retryDelayMs: 300, maxRetryDelayMs: 2000 },
});

function phaseOf(found: Exclude<Probe, { kind: "found" }>, interrupted: boolean): Phase {
  switch (found.kind) {
    case "absent":
      return interrupted ? { name: "reconnecting", reason: "The stream was interrupted." } : { name: "waiting" };
    case "refused":
      return { name: "refused", reason: found.reason };
    case "unreachable":
      return { name: "reconnecting", reason: found.reason };
  }
}

const isCodecProblem = (data: ErrorData): boolean =>
  data.details === "bufferAddCodecError" ||
  data.details === "bufferIncompatibleCodecsError" ||
  data.details === "manifestIncompatibleCodecsError";

function endingOf(data: ErrorData): Ending {
  if (isCodecProblem(data)) return { kind: "failed", reason: "This browser cannot play the codecs of this stream." };
  return data.type === "networkError"
    ? { kind: "broken", reason: "The connection was interrupted." }
    : { kind: "broken", reason: "The stream could not be decoded." };
}
