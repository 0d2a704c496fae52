import { useState } from "preact/hooks";
import { bitrate, codec, count, duration, picture } from "./format";
import { PublishGuide } from "./publish_guide";
import { streamRoute } from "./route";
import { StopButton } from "./stop_button";
import { arrange, title, viewers, viewersInWords, type Order } from "./streams";
import type { LiveStream } from "./types";

const SEARCH_FROM = 6;

const COLUMNS: { label: string; order?: Order; number?: boolean }[] = [
  { label: "Stream", order: "name" },
  { label: "Picture" },
  { label: "Codecs" },
  { label: "Bitrate", order: "bitrate", number: true },
  { label: "Viewers", order: "viewers", number: true },
  { label: "Live for", order: "uptime", number: true },
  { label: "" },
];

/** The streams that are live now, and how to add one. */
export function StreamsPage(props: {
  streams: LiveStream[] | null;
  /** The last question failed; without streams there is then nothing to wait for here. */
  failed: boolean;
  apps: string[];
  rtmpPort: number | undefined;
  now: number;
  /** The node that answers. */
  here: string | undefined;
  refresh(): void;
}) {
  const { streams, apps, rtmpPort, now } = props;
  const [search, setSearch] = useState("");
  const [order, setOrder] = useState<Order>("name");

  if (streams === null) {
    return props.failed ? null : (
      <section class="card" aria-busy="true" aria-label="Loading the streams">
        {[0, 1, 2].map((row) => (
          <div key={row} class="skeleton" />
        ))}
      </section>
    );
  }
  if (streams.length === 0) {
    return (
      <section class="card" aria-labelledby="empty-heading">
        <h2 id="empty-heading">Nothing is live right now</h2>
        <p class="note">Send a stream to this node and it appears here within two seconds.</p>
        <PublishGuide apps={apps} rtmpPort={rtmpPort} />
      </section>
    );
  }

  const shown = arrange(streams, search, order);
  const isCluster = streams.some(({ node }) => node !== undefined && node !== props.here);
  return (
    <>
      <section class="card streams" aria-labelledby="streams-heading">
        <div class="card-head">
          <h2 id="streams-heading">Live now</h2>
          {(streams.length >= SEARCH_FROM || search !== "") && (
            <input
              type="search"
              placeholder="Find by id, name or application"
              aria-label="Find a stream"
              value={search}
              onInput={(event) => setSearch(event.currentTarget.value)}
            />
          )}
        </div>
        {shown.length === 0 ? (
          <p class="note">No live stream matches “{search}”.</p>
        ) : (
          <table>
            <thead>
              <tr>
                {COLUMNS.map(({ label, order: by, number }) => (
                  <th
                    key={label}
                    scope="col"
                    class={number ? "number" : undefined}
                    aria-sort={by === undefined ? undefined : by !== order ? "none" : by === "name" ? "ascending" : "descending"}
                  >
                    {by === undefined ? (
                      <span class={label === "" ? "offscreen" : undefined}>{label || "Actions"}</span>
                    ) : (
                      <button type="button" class="sort" onClick={() => setOrder(by)}>
                        {label}
                      </button>
                    )}
                  </th>
                ))}
              </tr>
            </thead>
            <tbody>
              {shown.map((stream) => (
                <Row key={`${stream.app}/${stream.streamId}`} stream={stream} now={now} tellNode={isCluster} refresh={props.refresh} />
              ))}
            </tbody>
          </table>
        )}
      </section>
      <details class="card">
        <summary>How to publish another stream</summary>
        <PublishGuide apps={apps} rtmpPort={rtmpPort} />
      </details>
    </>
  );
}

function Row({ stream, now, tellNode, refresh }: { stream: LiveStream; now: number; tellNode: boolean; refresh(): void }) {
  const key = { app: stream.app, id: stream.streamId };
  return (
    <tr>
      <th scope="row" class="stream">
        <a href={streamRoute(key)}>{title(stream)}</a>
        <span class="note">
          {stream.app}
          {title(stream) === stream.streamId ? "" : ` · ${stream.streamId}`}
          {stream.publishType ? ` · ${stream.publishType}` : ""}
          {tellNode ? ` · on ${stream.node}` : ""}
        </span>
        {stream.interrupted && <span class="badge warn">Publisher away</span>}
        {stream.packetsSkipped > 0 && (
          <span class="badge" title="Groups of pictures that slow viewers left out">
            {stream.packetsSkipped.toLocaleString("en")} skipped
          </span>
        )}
      </th>
      <td data-label="Picture">{picture(stream.width, stream.height, stream.frameRate)}</td>
      <td data-label="Codecs">
        {[stream.videoCodec, stream.audioCodec].filter(Boolean).map(codec).join(" + ") || "–"}
      </td>
      <td data-label="Bitrate" class="number">
        {bitrate(stream.bitrate)}
      </td>
      <td data-label="Viewers" class="number" title={viewersInWords(stream)}>
        {viewers(stream).toLocaleString("en")}
      </td>
      <td data-label="Live for" class="number">
        {duration(stream.startTime > 0 ? now - stream.startTime : null)}
      </td>
      <td class="actions">
        <StopButton app={key.app} id={key.id} viewers={count(viewers(stream), "viewer")} onStopped={refresh} />
      </td>
    </tr>
  );
}
