// Playback by hls.js, close to the live edge.

import type Hls from "hls.js";
import type { ErrorData } from "hls.js";
import { bufferedAhead, watch } from "./element";
import { tightenPadding } from "./hls_padding";
import { nextRate, shouldJump } from "./pace";
import type { Ending, Phase } from "./phase";

const PACE_MS = 100;
// Behind by more than this after a seek, the viewer has gone back on purpose.
const GONE_BACK = 6;
const BACK_AT_LIVE = 2;
const WORTH_A_JUMP = 1;
// At the end of a list the picture stands still with less than this ahead (seconds), for so long.
const NEARLY_OUT = 0.3;
const PLAYED_OUT_MS = 1000;

/** What a session tells its player. */
export interface Listener {
  tell(phase: Phase): void;
  start(): void;
  engine(hls: Hls | null): void;
  stalled(): void;
}

const policy = (firstByteMs: number, retries: number) => ({
  default: {
    maxTimeToFirstByteMs: firstByteMs,
    maxLoadTimeMs: 20_000,
    timeoutRetry: { maxNumRetry: 1, retryDelayMs: 0, maxRetryDelayMs: 0 },
    errorRetry: { maxNumRetry: retries, retryDelayMs: 300, maxRetryDelayMs: 2000 },
  },
});

/** Plays `url` until it ends, breaks, or `signal` is aborted. */
export async function playByScript(
  video: HTMLVideoElement,
  url: string,
  signal: AbortSignal,
  debug: boolean,
  listener: Listener,
): Promise<Ending> {
  let module: typeof import("hls.js");
  try {
    module = await import("hls.js");
  } catch {
    return { kind: "broken", reason: "The player could not be loaded." };
  }
  if (signal.aborted) return { kind: "ended" };
  const { default: Engine, Events, ErrorDetails, ErrorTypes } = module;
  if (!Engine.isSupported()) {
    return { kind: "failed", reason: "This browser cannot play live video (it has no Media Source Extensions)." };
  }

  const hls = new Engine({
    debug,
    lowLatencyMode: true,
    // The distance from the edge is the playlist's PART-HOLD-BACK; each stall adds a little to it.
    liveSyncOnStallIncrease: 0.15,
    // The pace is ours: see pace.ts.
    maxLiveSyncPlaybackRate: 1,
    maxBufferLength: 10,
    // The browser drops what was played when it needs the room. hls.js must not: when it does so while a part is
    // on its way, it forgets the parts before that one, and loads nothing more at the end of some segments.
    backBufferLength: Infinity,
    liveDurationInfinity: true,
    enableInterstitialPlayback: false,
    // Retries beyond these are made by the player, which tells the viewer about them.
    manifestLoadPolicy: policy(5000, 1),
    playlistLoadPolicy: policy(12_000, 4),
    fragLoadPolicy: policy(10_000, 4),
  });
  tightenPadding(hls);
  if (debug) Object.assign(window, { hls });
  const session = new AbortController();
  const stop = AbortSignal.any([signal, session.signal]);
  try {
    return await new Promise<Ending>((end) => {
      signal.addEventListener("abort", () => end({ kind: "ended" }), { once: true });
      let recovered = -Infinity;
      hls.on(Events.ERROR, (_, data) => {
        if (data.details === ErrorDetails.BUFFER_STALLED_ERROR) listener.stalled();
        if (!data.fatal) return;
        const now = performance.now();
        if (data.type === ErrorTypes.MEDIA_ERROR && !isCodecProblem(data) && now - recovered > 5000) {
          recovered = now;
          hls.recoverMediaError();
          listener.start();
          return;
        }
        end(endingOf(data));
      });
      let live = false;
      let over = false;
      hls.on(Events.LEVEL_LOADED, (_, { details }) => {
        if (details.live) live = true;
        // A playlist that is complete when it is first read is what an ended stream left behind.
        else if (!live) end({ kind: "ended" });
        else if (!over) {
          over = true;
          endWhenPlayedOut(video, stop, end);
        }
      });
      hls.on(Events.MANIFEST_PARSED, () => listener.start());
      watch(video, stop, listener.tell, end);
      followEdge(video, hls, stop);
      listener.engine(hls);
      hls.loadSource(url);
      hls.attachMedia(video);
    });
  } finally {
    session.abort();
    listener.engine(null);
    hls.destroy();
    video.playbackRate = 1;
  }
}

/**
 * Ends the session when the picture has come to a halt at the end of the list. hls.js does not load the last part of a
 * list that is complete when it had the one before, and so the element never says that it is over.
 */
function endWhenPlayedOut(video: HTMLVideoElement, signal: AbortSignal, end: (ending: Ending) => void): void {
  let last = video.currentTime;
  let moved = performance.now();
  const timer = setInterval(() => {
    const now = performance.now();
    if (video.paused || video.currentTime !== last || bufferedAhead(video) > NEARLY_OUT) {
      last = video.currentTime;
      moved = now;
    } else if (now - moved > PLAYED_OUT_MS) {
      end({ kind: "ended" });
    }
  }, PACE_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

/** Keeps the picture at the wanted distance, unless the viewer has gone back on purpose. */
function followEdge(video: HTMLVideoElement, hls: Hls, signal: AbortSignal): void {
  let goneBack = false;
  const isFar = (): boolean => hls.latency - (hls.targetLatency ?? 0) > GONE_BACK;
  let before = 0;
  video.addEventListener(
    "seeking",
    () => {
      if (video.currentTime < before - 1 && isFar()) goneBack = true;
    },
    { signal },
  );
  const timer = setInterval(() => {
    const target = hls.targetLatency;
    if (target === null || video.seeking || video.readyState < HTMLMediaElement.HAVE_CURRENT_DATA) return;
    before = video.currentTime;
    if (video.paused) return;
    const position = { latency: hls.latency, target, ahead: bufferedAhead(video) };
    if (goneBack && position.latency - target < BACK_AT_LIVE) goneBack = false;
    // While no new pictures are published the edge stands still, however late it gets: then there is nowhere to go.
    const edge = hls.liveSyncPosition;
    if (!goneBack && edge !== null && edge > video.currentTime + WORTH_A_JUMP && shouldJump(position)) {
      video.currentTime = edge;
      return;
    }
    const rate = goneBack ? 1 : nextRate(position, video.playbackRate);
    if (rate !== video.playbackRate) video.playbackRate = rate;
  }, PACE_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}

const isCodecProblem = ({ details }: ErrorData): boolean =>
  details === "bufferAddCodecError" ||
  details === "bufferIncompatibleCodecsError" ||
  details === "manifestIncompatibleCodecsError";

function endingOf(data: ErrorData): Ending {
  if (isCodecProblem(data)) return { kind: "failed", reason: "This browser cannot play the codecs of this stream." };
  const reason = data.type === "networkError" ? "The connection was interrupted." : "The stream could not be decoded.";
  return { kind: "broken", reason };
}
