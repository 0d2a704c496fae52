// The figures of a player as people read them: labels and values. Pure.

import { bitrate, codec, seconds } from "../dashboard/format";
import type { Stats } from "../player/player";

const NONE = "–";

/** Labels and values for what the stream is played by; dashes before anything is known. */
export function figuresOf(stats: Stats | null): [label: string, value: string][] {
  const shown = stats?.decoded == null ? NONE : Math.max(0, stats.decoded - (stats.dropped ?? 0)).toLocaleString("en");
  const dropped = stats?.dropped?.toLocaleString("en") ?? NONE;
  if (stats?.way === "webrtc") {
    return [
      ["Bitrate", bitrate(stats.bitrate)],
      // Of the way from the node: what the publisher's side takes cannot be seen here.
      ["Delay (buffer + ½ round trip)", seconds(stats.latency)],
      ["Picture", stats.height > 0 ? `${stats.height}p ${codec(stats.codec)}` : NONE],
      ["Packets lost", stats.lost?.toLocaleString("en") ?? NONE],
      ["Frames shown", shown],
      ["Frames dropped", dropped],
    ];
  }
  return [
    ["Behind live", seconds(stats?.latency)],
    ["Buffered", seconds(stats?.buffered)],
    ["Frames shown", shown],
    ["Frames dropped", dropped],
    ["Stalls", stats === null ? NONE : String(stats.stalls)],
  ];
}
