import { useEffect, useRef, useState } from "preact/hooks";
import { nodeState, placeKey, placeViewers, type Pick } from "./cluster";
import { drawMap, fit, HEAD, lit, ROW, type MapBox, type MapLink } from "./cluster_map";
import { count } from "./format";
import type { ClusterNode, StreamPlace } from "./types";

/** The width of an element, as it changes. */
function useWidth(): [{ current: HTMLDivElement | null }, number] {
  const element = useRef<HTMLDivElement>(null);
  const [width, setWidth] = useState(0);
  useEffect(() => {
    const { current } = element;
    if (current === null) return;
    const observer = new ResizeObserver(([entry]) => setWidth(Math.floor(entry?.contentRect.width ?? 0)));
    observer.observe(current);
    return () => observer.disconnect();
  }, []);
  return [element, width];
}

const onKey = (act: () => void) => (event: KeyboardEvent) => {
  if (event.key !== "Enter" && event.key !== " ") return;
  event.preventDefault();
  act();
};

/** Which node has which streams, and where they go. */
export function ClusterMapView(props: { nodes: ClusterNode[]; streams: StreamPlace[]; pick: Pick; onPick(pick: Pick): void }) {
  const { nodes, streams, pick, onPick } = props;
  const [frame, width] = useWidth();
  const map = width > 0 ? drawMap(nodes, streams, width, pick) : null;
  const light = map === null ? null : lit(map, streams, pick);
  const toggle = (next: NonNullable<Pick>): void => onPick(JSON.stringify(next) === JSON.stringify(pick) ? null : next);
  return (
    <div ref={frame} class="map-frame">
      {map !== null && (
        <svg
          class="map"
          width={map.width}
          height={map.height}
          viewBox={`0 0 ${map.width} ${map.height}`}
          role="group"
          aria-label="Map of the cluster: nodes with their streams, and the ways between them"
        >
          <defs>
            {["", " lit"].map((tone) => (
              <marker
                key={tone}
                id={`arrow${tone.trim()}`}
                viewBox="0 0 8 8"
                refX="7"
                refY="4"
                markerWidth="9"
                markerHeight="9"
                markerUnits="userSpaceOnUse"
                orient="auto"
              >
                <path class={`map-arrow${tone}`} d="M0,0.5L8,4L0,7.5Z" />
              </marker>
            ))}
          </defs>
          {map.links.map((link) => (
            <Line key={link.key} link={link} tone={light === null ? "" : light.links.has(link.key) ? "lit" : "dim"} />
          ))}
          {map.boxes.map((box) => (
            <Box
              key={box.id}
              box={box}
              tone={light === null ? "" : light.nodes.has(box.id) ? "lit" : "dim"}
              picked={pick?.kind === "node" && pick.id === box.id}
              pick={pick}
              rows={light?.rows ?? null}
              onPick={toggle}
            />
          ))}
          {pick?.kind !== "stream" &&
            map.links.map((link) => (
              <Label key={link.key} link={link} tone={light === null ? "" : light.links.has(link.key) ? "lit" : "dim"} />
            ))}
        </svg>
      )}
    </div>
  );
}

function Line({ link, tone }: { link: MapLink; tone: string }) {
  return (
    <path class={`map-line ${tone}`} d={link.path} stroke-width={link.thickness} marker-end={`url(#arrow${tone === "lit" ? "lit" : ""})`}>
      <title>{`${link.from} → ${link.to}: ${count(link.streams.length, "stream")}`}</title>
    </path>
  );
}

function Label({ link, tone }: { link: MapLink; tone: string }) {
  if (tone === "dim" || (tone === "" && !link.roomy)) return null;
  const text = link.streams.length.toLocaleString("en");
  const width = 10 + text.length * 7;
  return (
    <g class={`map-label ${tone}`} aria-hidden="true">
      <rect x={link.label.x - width / 2} y={link.label.y - 8} width={width} height={16} rx={8} />
      <text x={link.label.x} y={link.label.y + 4} text-anchor="middle">
        {text}
      </text>
    </g>
  );
}

function Box(props: {
  box: MapBox;
  tone: string;
  picked: boolean;
  pick: Pick;
  /** The streams that belong to the pick; all, when nothing is picked. */
  rows: Set<string> | null;
  onPick(pick: NonNullable<Pick>): void;
}) {
  const { box, tone, picked, pick, onPick } = props;
  const { node } = box;
  const state = nodeState(node);
  const narrow = box.width < 220;
  const has = [
    node.streams > 0 || box.side === "left" ? count(node.streams, "stream") : "",
    node.relayed > 0 && !narrow ? `${node.relayed.toLocaleString("en")} relayed` : "",
    narrow && box.side === "left" ? "" : count(node.viewers, "viewer"),
  ].filter((part) => part !== "");
  const select = (): void => onPick({ kind: "node", id: box.id });
  const right = box.x + box.width;
  const bar = box.width - 24;
  const badge = [node.role === "both" ? "" : node.role, state.word === "Alive" ? "" : state.word.toLowerCase()].filter((part) => part !== "").join(" · ");
  return (
    <g class={`map-box ${tone} ${state.tone}`}>
      <g
        class="map-head"
        role="button"
        tabIndex={0}
        aria-pressed={picked}
        aria-label={`Node ${box.id}, ${node.role}, ${state.word}: ${has.join(", ")}`}
        onClick={select}
        onKeyDown={onKey(select)}
      >
        <rect class={picked ? "map-card picked" : "map-card"} x={box.x} y={box.y} width={box.width} height={box.height} rx={9} />
        <circle class="map-dot" cx={box.x + 16} cy={box.y + 19} r={4} />
        <text class="map-name" x={box.x + 27} y={box.y + 24}>
          {fit(box.id, box.width - 39 - (narrow ? 0 : badge.length * 6.4 + 8), 8.2)}
        </text>
        {!narrow && (
          <text class="map-badge" x={right - 12} y={box.y + 23} text-anchor="end">
            {badge}
          </text>
        )}
        <text class="map-note" x={box.x + 12} y={box.y + 43}>
          {fit(has.join(" · "), bar, 6.6)}
        </text>
        <rect class="map-bar" x={box.x + 12} y={box.y + 52} width={bar} height={3} rx={1.5} />
        <rect
          class={node.cpuPercent >= 85 ? "map-bar-used high" : "map-bar-used"}
          x={box.x + 12}
          y={box.y + 52}
          width={(bar * Math.min(100, Math.max(0, node.cpuPercent))) / 100}
          height={3}
          rx={1.5}
        />
        <title>{`${box.id}: ${state.hint}. CPU ${Math.round(node.cpuPercent)} %`}</title>
      </g>
      {box.rows.map(({ key, place, y }) => {
        const chosen = pick?.kind === "stream" && pick.key === key;
        const choose = (): void => onPick({ kind: "stream", key });
        const viewers = placeViewers(place);
        const looks = [chosen && "picked", place.interrupted && "away", tone === "lit" && props.rows?.has(key) === false && "other"];
        return (
          <g
            key={key}
            class={["map-stream", ...looks].filter(Boolean).join(" ")}
            role="button"
            tabIndex={0}
            aria-pressed={chosen}
            aria-label={`Stream ${key}, ${count(viewers, "viewer")}, fetched by ${count(place.carriers.length, "node")}`}
            onClick={choose}
            onKeyDown={onKey(choose)}
          >
            <rect x={box.x + 6} y={y} width={box.width - 12} height={ROW - 2} rx={5} />
            <text x={box.x + 14} y={y + 15}>
              {fit(place.streamId, box.width - 28 - viewers.toLocaleString("en").length * 8 - 10, 7.1)}
            </text>
            <text class="map-number" x={right - 14} y={y + 15} text-anchor="end">
              {viewers.toLocaleString("en")}
            </text>
            <title>{`${placeKey(place)}: ${count(viewers, "viewer")}`}</title>
          </g>
        );
      })}
      {box.more > 0 && (
        <text class="map-more" x={box.x + 14} y={box.y + HEAD + box.rows.length * ROW + 15}>
          {`and ${box.more.toLocaleString("en")} more`}
        </text>
      )}
    </g>
  );
}
