import { useState } from "preact/hooks";
import { clusterNodes, clusterStreams, health } from "./api";
import { allViewers, findStreams, placeKey, placeViewers, streamsOf, summary, type Pick } from "./cluster";
import { ClusterMapView } from "./cluster_map_view";
import { CopyField } from "./copy";
import { bitrate, count, duration } from "./format";
import { NodeTable } from "./node_table";
import { usePoll } from "./poll";
import { streamRoute } from "./route";
import type { ClusterNode, Health, StreamPlace } from "./types";

const EVERY_MS = 2000;
const LISTED = 40;
const FOUND = 8;

const MODES: Record<string, string> = {
  mongodb: "through MongoDB",
  multicast: "by multicast, without a database",
  static: "from a list, without a database",
};

/** The nodes of the cluster and the ways of the streams. */
export function ClusterPage({ offset }: { offset: number }) {
  const state = usePoll(health, EVERY_MS);
  const nodes = usePoll(clusterNodes, EVERY_MS);
  const streams = usePoll(clusterStreams, EVERY_MS);
  const [pick, setPick] = useState<Pick>(null);
  const problem = nodes.error ?? streams.error;

  if (state.data !== null && state.data.cluster === null) return <Alone />;
  if (nodes.data === null || streams.data === null) {
    return problem !== null ? (
      <div class="banner" role="alert">
        <strong>{problem.message}</strong> Trying again every two seconds.
      </div>
    ) : (
      <section class="card" aria-busy="true" aria-label="Loading the cluster">
        {[0, 1, 2].map((row) => (
          <div key={row} class="skeleton" />
        ))}
      </section>
    );
  }
  const picked = pick?.kind === "node" ? pick.id : "";
  const refresh = (): void => {
    nodes.refresh();
    state.refresh();
  };
  return (
    <>
      {state.data !== null && <Notices health={state.data} nodes={nodes.data} />}
      <Summary nodes={nodes.data} streams={streams.data} mode={state.data?.cluster?.mode} />
      <section class="card" aria-labelledby="map-heading">
        <div class="card-head">
          <h2 id="map-heading">Where the streams are</h2>
          <Finder streams={streams.data} onPick={setPick} />
        </div>
        <ClusterMapView nodes={nodes.data} streams={streams.data} pick={pick} onPick={setPick} />
        <p class="note map-legend">
          {pick === null
            ? "Lines are relays, with the number of streams that go that way. Pick a node or a stream to follow it."
            : "Pick it once more to see all again."}
        </p>
        {pick !== null && <Details pick={pick} nodes={nodes.data} streams={streams.data} onPick={setPick} />}
      </section>
      <NodeTable
        nodes={nodes.data}
        now={nodes.readAt + offset}
        picked={picked}
        onPick={(id) => setPick(id === picked ? null : { kind: "node", id })}
        refresh={refresh}
      />
    </>
  );
}

function Notices({ health, nodes }: { health: Health; nodes: ClusterNode[] }) {
  const cutOff = nodes.filter(({ status, reachable }) => status === "alive" && !reachable).map(({ id }) => id);
  return (
    <>
      {!health.store.answers && (
        <div class="banner" role="alert">
          <strong>
            The database {health.store.awayMs === null ? "does not answer" : `has not answered for ${duration(health.store.awayMs)}`}.
          </strong>{" "}
          What is live goes on. Records and settings cannot be changed until it is back.
        </div>
      )}
      {cutOff.length > 0 && (
        <div class="banner warn" role="alert">
          <strong>This node has no link to {cutOff.join(", ")}.</strong> Check that the cluster port is open between them.
        </div>
      )}
    </>
  );
}

function Summary({ nodes, streams, mode }: { nodes: ClusterNode[]; streams: StreamPlace[]; mode: string | undefined }) {
  const all = summary(nodes, streams);
  const alive = nodes.filter(({ status }) => status === "alive");
  const sum = (of: (node: ClusterNode) => number): number => alive.reduce((total, node) => total + of(node), 0);
  const draining = alive.filter((node) => node.draining).length;
  const figures = [
    {
      label: "Nodes",
      value: all.alive.toLocaleString("en"),
      note: [all.dead > 0 ? `${all.dead} dead` : "", draining > 0 ? `${draining} draining` : ""].filter(Boolean).join(", ") || "all are well",
    },
    { label: "Live streams", value: all.streams.toLocaleString("en"), note: `${count(sum((n) => n.relayed), "relay")} between nodes` },
    { label: "Viewers", value: all.viewers.toLocaleString("en"), note: "on all nodes" },
    { label: "Traffic out", value: bitrate(sum((n) => n.bytesOut) * 8), note: `${bitrate(sum((n) => n.bytesIn) * 8)} in` },
  ];
  return (
    <section aria-labelledby="cluster-heading">
      <div class="cluster-head">
        <h1 id="cluster-heading">Cluster</h1>
        {mode !== undefined && <span class="note">Nodes find each other {MODES[mode] ?? mode}</span>}
      </div>
      <dl class="figures cluster-figures">
        {figures.map(({ label, value, note }) => (
          <div class="figure" key={label}>
            <dt>{label}</dt>
            <dd>
              <span class="value">{value}</span>
              <span class="note">{note}</span>
            </dd>
          </div>
        ))}
      </dl>
    </section>
  );
}

function Finder({ streams, onPick }: { streams: StreamPlace[]; onPick(pick: Pick): void }) {
  const [search, setSearch] = useState("");
  const found = search.trim() === "" ? [] : findStreams(streams, search);
  return (
    <div class="finder">
      <input
        type="search"
        placeholder="Find a stream"
        aria-label="Find a stream on the map"
        value={search}
        onInput={(event) => setSearch(event.currentTarget.value)}
      />
      {search.trim() !== "" && (
        <ul class="found">
          {found.length === 0 && <li class="note">No live stream is called like that.</li>}
          {found.slice(0, FOUND).map((place) => (
            <li key={placeKey(place)}>
              <button
                type="button"
                onClick={() => {
                  onPick({ kind: "stream", key: placeKey(place) });
                  setSearch("");
                }}
              >
                <span>{placeKey(place)}</span>
                <span class="note">{place.owner ?? "owner lost"}</span>
              </button>
            </li>
          ))}
          {found.length > FOUND && <li class="note">and {found.length - FOUND} more</li>}
        </ul>
      )}
    </div>
  );
}

function Details(props: { pick: NonNullable<Pick>; nodes: ClusterNode[]; streams: StreamPlace[]; onPick(pick: Pick): void }) {
  const { pick, streams, onPick } = props;
  if (pick.kind === "stream") {
    const place = streams.find((one) => placeKey(one) === pick.key);
    return (
      <div class="details" aria-live="polite">
        <div class="details-head">
          <h3>{pick.key}</h3>
          {place !== undefined && <a href={streamRoute({ app: place.app, id: place.streamId })}>Watch it</a>}
        </div>
        {place === undefined ? (
          <p class="note">It is not live any more.</p>
        ) : (
          <>
            <p>
              {place.owner === null ? "Its owner is lost; a publisher that comes back finds it free." : `Published to ${place.owner}`}
              {place.interrupted ? ", whose publisher is away" : ""} · {bitrate(place.bitrate)} · {count(placeViewers(place), "viewer")}
            </p>
            <ul class="ways">
              {place.carriers.map((carrier) => (
                <li key={carrier.node}>
                  <span>{[...carrier.path, carrier.node].join(" → ")}</span>
                  <span class="note">{count(allViewers(carrier.viewers), "viewer")}</span>
                </li>
              ))}
            </ul>
            {place.carriers.length === 0 && <p class="note">No other node fetches it.</p>}
          </>
        )}
      </div>
    );
  }
  const { owned, fetched } = streamsOf(pick.id, streams);
  const chip = (place: StreamPlace, note: string) => (
    <li key={placeKey(place)}>
      <button type="button" class="chip" onClick={() => onPick({ kind: "stream", key: placeKey(place) })}>
        {placeKey(place)} <span class="note">{note}</span>
      </button>
    </li>
  );
  return (
    <div class="details" aria-live="polite">
      <div class="details-head">
        <h3>{pick.id}</h3>
      </div>
      {owned.length + fetched.length === 0 && <p class="note">It has no streams.</p>}
      {owned.length > 0 && (
        <>
          <p class="note">{count(owned.length, "stream")} published to it</p>
          <ul class="chips">
            {findStreams(owned, "")
              .slice(0, LISTED)
              .map((place) => chip(place, count(placeViewers(place), "viewer")))}
            {owned.length > LISTED && <li class="note">and {owned.length - LISTED} more</li>}
          </ul>
        </>
      )}
      {fetched.length > 0 && (
        <>
          <p class="note">{count(fetched.length, "stream")} fetched from other nodes</p>
          <ul class="chips">
            {fetched.slice(0, LISTED).map(({ place, from }) => chip(place, from === null ? "" : `from ${from}`))}
            {fetched.length > LISTED && <li class="note">and {fetched.length - LISTED} more</li>}
          </ul>
        </>
      )}
    </div>
  );
}

/** What a node that is in no cluster shows. */
function Alone() {
  return (
    <section class="card alone" aria-labelledby="alone-heading">
      <h1 id="alone-heading">This node stands alone</h1>
      <p>
        It takes publishers and serves viewers by itself, with its own database. In a cluster any node plays any stream, and when one dies
        its streams are free within seconds.
      </p>
      <p class="note">To make it part of a cluster, run this on each node and restart it. All nodes need the same database and the same cluster key.</p>
      <CopyField label="A cluster with MongoDB" text="sluice-node mode cluster mongodb://db.example:27017" />
      <p class="note">
        Without a database, nodes find each other by multicast (<code>SLUICE_CLUSTER_MODE=multicast</code>) or from a list (
        <code>SLUICE_CLUSTER_MODE=static</code>, <code>SLUICE_STATIC_MEMBERS</code>). Back again:
      </p>
      <CopyField label="A node that stands alone" text="sluice-node mode standalone" />
    </section>
  );
}
