// What the viewer last chose to play by, kept in this browser.

import type { Way } from "./phase";

const NAME = "sluice.way";

/** What was chosen; HLS where nothing was, or where the page may keep nothing (in some frames). */
export function rememberedWay(): Way {
  try {
    return localStorage.getItem(NAME) === "webrtc" ? "webrtc" : "hls";
  } catch {
    return "hls";
  }
}

/** Remembers it for the next stream. */
export function rememberWay(way: Way): void {
  try {
    if (way === "hls") localStorage.removeItem(NAME);
    else localStorage.setItem(NAME, way);
  } catch {
    // Then it counts for this page.
  }
}
