import { plainPlaylist, rtmpAddress, watchPage, whepEndpoint, type StreamKey } from "../player/address";
import { CopyField } from "./copy";
import { bitrate, codec, count, duration, picture } from "./format";
import { PlayerView } from "./player_view";
import { StopButton } from "./stop_button";
import { title, viewers, viewersInWords } from "./streams";
import type { LiveStream } from "./types";

/** One stream: its picture, figures and addresses. */
export function StreamPage(props: {
  stream: StreamKey;
  live: LiveStream[] | null;
  rtmpPort: number | undefined;
  now: number;
  refresh(): void;
}) {
  const { stream: key, live, rtmpPort, now } = props;
  const stream = live?.find(({ app, streamId }) => app === key.app && streamId === key.id);
  const { origin, hostname } = location;
  return (
    <article class="stream-page">
      <div class="stream-head">
        <a href="#/" class="back">
          All streams
        </a>
        <h1>{stream === undefined ? key.id : title(stream)}</h1>
        {stream?.interrupted ? (
          <span class="badge warn">Publisher away</span>
        ) : stream !== undefined ? (
          <span class="badge live">Live</span>
        ) : live !== null ? (
          <span class="badge">Not live</span>
        ) : null}
        <span class="spacer" />
        {stream !== undefined && (
          <StopButton app={key.app} id={key.id} viewers={count(viewers(stream), "viewer")} onStopped={props.refresh} />
        )}
      </div>
      <div class="stream-body">
        <PlayerView stream={key} />
        <div class="stream-side">
          <section class="card" aria-labelledby="figures-heading">
            <h2 id="figures-heading">Stream</h2>
            <dl class="facts">
              <Fact label="Application" value={key.app} />
              <Fact label="Stream id" value={key.id} />
              {stream !== undefined && (
                <>
                  {stream.node && <Fact label="Node" value={stream.node} />}
                  <Fact label="Picture" value={picture(stream.width, stream.height, stream.frameRate)} />
                  <Fact label="Video" value={codec(stream.videoCodec)} />
                  <Fact label="Audio" value={codec(stream.audioCodec)} />
                  <Fact label="Bitrate" value={bitrate(stream.bitrate)} />
                  <Fact label="Viewers" value={`${viewers(stream).toLocaleString("en")} (${viewersInWords(stream)})`} />
                  <Fact label="Live for" value={duration(stream.startTime > 0 ? now - stream.startTime : null)} />
                  <Fact label="Published by" value={publisher(stream)} />
                  {stream.packetsSkipped > 0 && (
                    <Fact label="Skipped for slow viewers" value={stream.packetsSkipped.toLocaleString("en")} />
                  )}
                </>
              )}
            </dl>
          </section>
          <section class="card" aria-labelledby="links-heading">
            <h2 id="links-heading">Addresses</h2>
            <CopyField label="Watch page" text={`${origin}${watchPage(key)}`} href={watchPage(key)} />
            <CopyField label="HLS" text={`${origin}${plainPlaylist(key)}`} />
            <CopyField label="WebRTC (WHEP)" text={`${origin}${whepEndpoint(key)}`} />
            <CopyField label="RTMP (publish and play)" text={rtmpAddress(key, hostname, rtmpPort)} />
          </section>
        </div>
      </div>
    </article>
  );
}

function publisher({ publishType, remoteIp, userAgent }: LiveStream): string {
  const agent = userAgent && userAgent !== "N/A" ? userAgent : null;
  return [publishType, remoteIp, agent].filter((part) => part !== null && part !== "").join(" · ") || "–";
}

function Fact({ label, value }: { label: string; value: string }) {
  return (
    <div>
      <dt>{label}</dt>
      <dd>{value}</dd>
    </div>
  );
}
