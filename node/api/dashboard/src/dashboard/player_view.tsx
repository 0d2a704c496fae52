import { useEffect, useRef, useState } from "preact/hooks";
import type { StreamKey } from "../player/address";
import { play, type Phase, type Player, type Stats } from "../player/player";
import { seconds } from "./format";

const MESSAGES: Record<Phase["name"], string> = {
  loading: "Loading",
  waiting: "Waiting for the stream",
  playing: "",
  paused: "",
  buffering: "Buffering",
  ended: "The stream has ended",
  reconnecting: "Reconnecting",
  refused: "Not allowed to watch",
  failed: "This stream cannot be played here",
};

/** The picture, what it is doing, and how well. */
export function PlayerView({ stream }: { stream: StreamKey }) {
  const video = useRef<HTMLVideoElement>(null);
  const player = useRef<Player | null>(null);
  const [phase, setPhase] = useState<Phase>({ name: "loading" });
  const [stats, setStats] = useState<Stats | null>(null);

  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    // Set as a property: browsers look at it, not at the attribute, when they decide about autoplay.
    element.muted = true;
    const running = play(element, { key: stream, onPhase: setPhase });
    player.current = running;
    const timer = setInterval(() => setStats(running.stats()), 500);
    return () => {
      clearInterval(timer);
      player.current = null;
      running.destroy();
    };
  }, [stream.app, stream.id]);

  const message = MESSAGES[phase.name];
  const reason = "reason" in phase ? phase.reason : "";
  return (
    <div class="player">
      <div class="screen">
        <video ref={video} controls playsinline autoplay muted aria-label={`Live picture of ${stream.id}`} />
        {message !== "" && (
          <div class={`overlay ${phase.name}`} role="status">
            <strong>{message}</strong>
            {reason !== "" && <span>{reason}</span>}
          </div>
        )}
      </div>
      <dl class="player-stats">
        <Stat label="Behind live" value={seconds(stats?.latency)} />
        <Stat label="Buffered" value={seconds(stats?.buffered)} />
        <Stat label="Frames shown" value={shown(stats)} />
        <Stat label="Frames dropped" value={stats?.dropped?.toLocaleString("en") ?? "–"} />
        <Stat label="Stalls" value={stats === null ? "–" : String(stats.stalls)} />
      </dl>
    </div>
  );
}

const shown = (stats: Stats | null): string =>
  stats?.decoded == null ? "–" : (stats.decoded - (stats.dropped ?? 0)).toLocaleString("en");

function Stat({ label, value }: { label: string; value: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}
