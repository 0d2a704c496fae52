import { useEffect, useState } from "preact/hooks";
import { bitrate, bytes, count, percent } from "./format";
import { record, sparkline, type Sample } from "./history";
import type { LiveStream, SystemResources } from "./types";
import { viewers } from "./streams";

const SPAN_MS = 5 * 60_000;
// A line of one minute already fills a young panel; it gets denser until all five minutes are there.
const YOUNG_SPAN_MS = 60_000;
const WIDTH = 240;
const HEIGHT = 44;

interface Readings {
  cpu: Sample[];
  memory: Sample[];
  in: Sample[];
  out: Sample[];
}

/** The node's figures of the last five minutes, from one reading to the next. */
export function useReadings(resources: SystemResources | null, readAt: number): Readings {
  const [readings, setReadings] = useState<Readings>({ cpu: [], memory: [], in: [], out: [] });
  useEffect(() => {
    if (resources === null) return;
    const add = (history: Sample[], value: number | undefined): Sample[] =>
      value === undefined ? history : record(history, { at: readAt, value }, SPAN_MS);
    setReadings((before) => ({
      cpu: add(before.cpu, resources.cpuUsage?.systemCPULoad),
      memory: add(before.memory, resources.systemMemoryInfo?.inUseMemory),
      in: add(before.in, resources.traffic?.bitsInPerSecond),
      out: add(before.out, resources.traffic?.bitsOutPerSecond),
    }));
  }, [resources, readAt]);
  return readings;
}

function Figure(props: { label: string; value: string; note: string; history?: Sample[]; top?: number }) {
  const history = props.history ?? [];
  const age = (history.at(-1)?.at ?? 0) - (history[0]?.at ?? 0);
  const paths = sparkline(history, Math.max(age, YOUNG_SPAN_MS), WIDTH, HEIGHT, props.top ?? 0);
  return (
    <div class="figure">
      <dt>{props.label}</dt>
      <dd>
        <span class="value">{props.value}</span>
        <span class="note">{props.note}</span>
      </dd>
      {props.history && (
        <svg class="spark" viewBox={`0 0 ${WIDTH} ${HEIGHT}`} preserveAspectRatio="none" aria-hidden="true">
          <path class="spark-area" d={paths.area} />
          <path class="spark-line" d={paths.line} />
        </svg>
      )}
    </div>
  );
}

/** The node at a glance. */
export function NodePanel(props: { resources: SystemResources | null; streams: LiveStream[] | null; readings: Readings }) {
  const { resources, streams, readings } = props;
  const cores = resources?.systemInfo?.processorCount;
  const memory = resources?.systemMemoryInfo;
  const disk = resources?.fileSystemInfo;
  const traffic = resources?.traffic;
  const own = resources?.jvmNativeMemoryUsage?.inUseMemory;
  const watching = streams?.reduce((sum, stream) => sum + viewers(stream), 0);
  return (
    <section aria-labelledby="node-heading">
      <h2 id="node-heading" class="offscreen">
        Node
      </h2>
      <dl class="figures">
        <Figure
          label="Live streams"
          value={streams === null ? "–" : streams.length.toLocaleString("en")}
          note={watching === undefined ? "" : count(watching, "viewer")}
        />
        <Figure
          label="CPU"
          value={percent(resources?.cpuUsage?.systemCPULoad)}
          note={resources === null ? "" : `Sluice ${percent(resources.cpuUsage?.processCPULoad)}${cores ? ` · ${count(cores, "core")}` : ""}`}
          history={readings.cpu}
          top={100}
        />
        <Figure
          label="Memory"
          value={bytes(memory?.inUseMemory)}
          note={resources === null ? "" : `of ${bytes(memory?.totalMemory)}${own ? ` · Sluice ${bytes(own)}` : ""}`}
          history={readings.memory}
          top={memory?.totalMemory ?? 0}
        />
        <Figure
          label="Traffic in"
          value={bitrate(traffic?.bitsInPerSecond)}
          note={resources === null ? "" : `${bytes(traffic?.bytesIn)} since start`}
          history={readings.in}
          top={1_000_000}
        />
        <Figure
          label="Traffic out"
          value={bitrate(traffic?.bitsOutPerSecond)}
          note={resources === null ? "" : `${bytes(traffic?.bytesOut)} since start`}
          history={readings.out}
          top={1_000_000}
        />
        {disk?.totalSpace !== undefined && disk.usableSpace !== undefined && disk.usableSpace < disk.totalSpace / 10 && (
          <Figure label="Disk nearly full" value={bytes(disk.usableSpace)} note={`free of ${bytes(disk.totalSpace)}`} />
        )}
      </dl>
    </section>
  );
}
