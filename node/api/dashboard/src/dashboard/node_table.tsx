import { drainNode, removeNode } from "./api";
import { arrangeNodes, nodeState } from "./cluster";
import { ConfirmButton } from "./confirm_button";
import { bitrate, count, duration, percent } from "./format";
import type { ClusterNode } from "./types";

const COLUMNS: { label: string; number?: boolean }[] = [
  { label: "Node" },
  { label: "State" },
  { label: "CPU", number: true },
  { label: "Memory", number: true },
  { label: "Streams", number: true },
  { label: "Viewers", number: true },
  { label: "In", number: true },
  { label: "Out", number: true },
  { label: "Database", number: true },
  { label: "" },
];

/** The members of the cluster, with what can be done with each. */
export function NodeTable(props: { nodes: ClusterNode[]; now: number; picked: string; onPick(id: string): void; refresh(): void }) {
  return (
    <section class="card nodes" aria-labelledby="nodes-heading">
      <div class="card-head">
        <h2 id="nodes-heading">Nodes</h2>
      </div>
      <table>
        <thead>
          <tr>
            {COLUMNS.map(({ label, number }) => (
              <th key={label} scope="col" class={number ? "number" : undefined}>
                <span class={label === "" ? "offscreen" : undefined}>{label || "Actions"}</span>
              </th>
            ))}
          </tr>
        </thead>
        <tbody>
          {arrangeNodes(props.nodes).map((node) => (
            <Row key={node.id} node={node} {...props} />
          ))}
        </tbody>
      </table>
    </section>
  );
}

function Row(props: { node: ClusterNode; now: number; picked: string; onPick(id: string): void; refresh(): void }) {
  const { node } = props;
  const state = nodeState(node);
  const dead = node.status !== "alive";
  const facts = [node.role, node.group === "default" ? "" : node.group, node.ip === node.id ? "" : node.ip, node.version && `v${node.version}`];
  return (
    <tr class={dead ? "gone" : undefined} data-node={node.id}>
      <th scope="row" class="stream">
        <button type="button" class="link" aria-pressed={props.picked === node.id} onClick={() => props.onPick(node.id)}>
          {node.id}
        </button>
        <span class="note">
          {facts.filter(Boolean).join(" · ")}
          {node.this ? " · answers you" : ""}
        </span>
      </th>
      <td data-label="State">
        <span>
          <span class={`badge ${state.tone}`} title={state.hint}>
            {state.word}
          </span>
          {dead && node.lastUpdateTime > 0 && <span class="note since">for {duration(props.now - node.lastUpdateTime)}</span>}
        </span>
      </td>
      <td data-label="CPU" class="number">
        {dead ? "–" : percent(Math.round(node.cpuPercent))}
      </td>
      <td data-label="Memory" class="number">
        {dead ? "–" : percent(Math.round(node.memoryPercent))}
      </td>
      <td
        data-label="Streams"
        class="number"
        title={`${count(node.streams, "stream")} published to it${node.capacityStreams > 0 ? ` of at most ${node.capacityStreams}` : ""}, ${node.relayed} fetched from other nodes`}
      >
        {dead ? (
          "–"
        ) : (
          <span>
            {node.streams.toLocaleString("en")}
            {node.relayed > 0 && <span class="note"> + {node.relayed.toLocaleString("en")}</span>}
          </span>
        )}
      </td>
      <td data-label="Viewers" class="number">
        {dead ? "–" : node.viewers.toLocaleString("en")}
      </td>
      <td data-label="In" class="number">
        {dead ? "–" : bitrate(node.bytesIn * 8)}
      </td>
      <td data-label="Out" class="number">
        {dead ? "–" : bitrate(node.bytesOut * 8)}
      </td>
      <td data-label="Database" class={!dead && (node.storeMs < 0 || node.storeMs > 100) ? "number bad" : "number"}>
        {dead ? "–" : node.storeMs < 0 ? "away" : `${node.storeMs < 10 ? node.storeMs.toFixed(1) : Math.round(node.storeMs)} ms`}
      </td>
      <td class="actions">
        {dead ? (
          <RemoveButton id={node.id} onDone={props.refresh} />
        ) : node.draining ? (
          <ConfirmButton
            label="Undrain"
            describe={`Undrain ${node.id}`}
            question={`Use ${node.id} again?`}
            no="Leave it draining"
            yes="Undrain it"
            busy="Asking…"
            act={() => drainNode(node.id, false)}
            onDone={props.refresh}
          >
            <p>It takes new publishers and viewers again.</p>
          </ConfirmButton>
        ) : (
          <ConfirmButton
            label="Drain"
            describe={`Drain ${node.id}`}
            question={`Drain ${node.id}?`}
            no="Leave it as it is"
            yes="Drain it"
            busy="Asking…"
            act={() => drainNode(node.id, true)}
            onDone={props.refresh}
          >
            <p>
              It takes no new publishers and viewers, and load balancers send nobody there. Those that it has ({count(node.streams, "stream")},{" "}
              {count(node.viewers, "viewer")}) go on.
            </p>
          </ConfirmButton>
        )}
      </td>
    </tr>
  );
}

function RemoveButton({ id, onDone }: { id: string; onDone(): void }) {
  return (
    <ConfirmButton
      label="Remove"
      describe={`Remove ${id}`}
      danger
      question={`Remove ${id} from the list?`}
      no="Keep it"
      yes="Remove it"
      busy="Removing…"
      act={() => removeNode(id)}
      onDone={onDone}
    >
      <p>It is dead. Should it start again, it is back at once.</p>
    </ConfirmButton>
  );
}
