// What can be told from the <video> element alone, whoever feeds it.

import type { Ending, Phase } from "./phase";

const TICK_MS = 250;
// With pictures at hand, a still one means a stuck decoder; without, the loader is at work and says when it gives up.
const STUCK_MS = 5000;
const STARVED_MS = 30_000;
const STARVED_NOTICE_MS = 3000;

/** Seconds buffered ahead of the picture. */
export function bufferedAhead(video: HTMLVideoElement): number {
  const { buffered, currentTime } = video;
  for (let i = 0; i < buffered.length; i++) {
    if (buffered.start(i) <= currentTime + 0.1 && buffered.end(i) > currentTime) return buffered.end(i) - currentTime;
  }
  return 0;
}

/** Tells the phases that the element shows, and ends the session when the picture stays still or is over. */
export function watch(
  video: HTMLVideoElement,
  signal: AbortSignal,
  tell: (phase: Phase) => void,
  end: (ending: Ending) => void,
): void {
  let last = video.currentTime;
  let moved = performance.now();
  video.addEventListener("playing", () => tell({ name: "playing" }), { signal });
  video.addEventListener("waiting", () => tell({ name: "buffering" }), { signal });
  video.addEventListener("ended", () => end({ kind: "ended" }), { signal });
  const timer = setInterval(() => {
    const now = performance.now();
    if (video.paused) {
      if (video.readyState >= HTMLMediaElement.HAVE_CURRENT_DATA) tell({ name: "paused" });
      moved = now;
      return;
    }
    if (video.currentTime !== last) {
      if (video.currentTime > last && video.readyState > HTMLMediaElement.HAVE_CURRENT_DATA) tell({ name: "playing" });
      last = video.currentTime;
      moved = now;
      return;
    }
    // Browsers hold pictures back in hidden pages.
    if (document.hidden) return void (moved = now);
    const still = now - moved;
    const starved = bufferedAhead(video) < 0.3;
    if (still > (starved ? STARVED_MS : STUCK_MS)) end({ kind: "broken", reason: "The picture stopped." });
    else if (starved && still > STARVED_NOTICE_MS) tell({ name: "reconnecting", reason: "No new pictures are arriving." });
  }, TICK_MS);
  signal.addEventListener("abort", () => clearInterval(timer), { once: true });
}
