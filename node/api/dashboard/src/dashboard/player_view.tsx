import { useEffect, useRef, useState } from "preact/hooks";
import type { StreamKey } from "../player/address";
import { play, type Phase, type Player, type Stats, type Way } from "../player/player";
import { rememberedWay, rememberWay } from "../player/remember";
import { figuresOf } from "../play/figures";

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
  const [way, setWay] = useState<Way>(rememberedWay);
  // WebRTC did not work: what is played instead says why.
  const [fallback, setFallback] = useState("");

  useEffect(() => {
    const element = video.current;
    if (element === null) return;
    // Set as a property: browsers look at it, not at the attribute, when they decide about autoplay.
    element.muted = true;
    setFallback("");
    const running = play(element, { key: stream, way, onPhase: setPhase, onFallback: setFallback });
    player.current = running;
    const timer = setInterval(() => setStats(running.stats()), 500);
    return () => {
      clearInterval(timer);
      player.current = null;
      running.destroy();
    };
  }, [stream.app, stream.id, way]);

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
      <div class="player-way">
        <label>
          <span>Play by</span>
          <select
            value={way}
            onChange={(event) => {
              const chosen = event.currentTarget.value as Way;
              rememberWay(chosen);
              setWay(chosen);
            }}
          >
            <option value="hls">LL-HLS</option>
            <option value="webrtc">WebRTC</option>
          </select>
        </label>
        <p class="note" role="status">
          {fallback}
        </p>
      </div>
      <dl class="player-stats">
        {figuresOf(stats).map(([label, value]) => (
          <Stat key={label} label={label} value={value} />
        ))}
      </dl>
    </div>
  );
}

function Stat({ label, value }: { label: string; value: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}
