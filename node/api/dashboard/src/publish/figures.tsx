import { bitrate, codec } from "../dashboard/format";
import type { Sent } from "../rtc/stats";
import { limitation } from "./words";

const NONE = "–";

/** What is sent, and how well. */
export function Figures({ figures }: { figures: Sent | null }) {
  const largest = figures?.layers[0];
  const more = figures?.layers.slice(1) ?? [];
  const size = largest === undefined ? NONE : `${largest.width}×${largest.height}${more.map(({ height }) => ` + ${height}p`).join("")}`;
  return (
    <dl class="player-stats">
      <Figure label="Sent" value={bitrate(figures?.bitrate)} />
      <Figure label="Picture" value={size} />
      <Figure label="Frames/s" value={largest === undefined ? NONE : String(Math.round(largest.fps))} />
      <Figure label="Codec" value={codec(figures?.codec)} />
      <Figure label="Round trip" value={figures?.rtt == null ? NONE : `${Math.round(figures.rtt * 1000)} ms`} />
      <Figure label="Lost" value={figures?.lost == null ? NONE : `${(figures.lost * 100).toFixed(1)} %`} />
      <Figure label="Held down by" value={figures === null ? NONE : limitation(figures.limited)} />
    </dl>
  );
}

function Figure({ label, value }: { label: string; value: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}
