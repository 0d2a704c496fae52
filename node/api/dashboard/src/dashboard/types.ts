// What the node's REST API answers, as far as the dashboard reads it. Spellings are Ant Media Server's.

/** One entry of `GET /rest/v2/live-streams`. */
export interface LiveStream {
  app: string;
  streamId: string;
  /** The node that it is published to. */
  node?: string;
  name: string | null;
  status: string;
  /** How it is published: RTMP, SRT, WebRTC, Pull. */
  publishType: string | null;
  /** Unix time, ms, by the node's clock. */
  startTime: number;
  /** Bit/s. */
  bitrate: number;
  videoCodec: string | null;
  audioCodec: string | null;
  width: number;
  height: number;
  frameRate: number;
  hlsViewerCount: number;
  rtmpViewerCount: number;
  webRTCViewerCount: number;
  remoteIp: string | null;
  userAgent: string | null;
  /** Groups of pictures that slow viewers left out. */
  packetsSkipped: number;
  /** The publisher's connection broke; the stream waits for it to come back. */
  interrupted: boolean;
}

/** `GET /rest/v2/system-resources`; loads in percent, memory and disk in bytes, times in ms. */
export interface SystemResources {
  instanceId?: string;
  cpuUsage?: { systemCPULoad?: number; processCPULoad?: number; systemLoadAverageLastMinute?: number };
  jvmNativeMemoryUsage?: { inUseMemory?: number };
  systemInfo?: { osName?: string; osArch?: string; processorCount?: number };
  systemMemoryInfo?: { totalMemory?: number; inUseMemory?: number; freeMemory?: number; availableMemory?: number };
  fileSystemInfo?: { usableSpace?: number; totalSpace?: number; inUseSpace?: number };
  softwareVersion?: string | { versionName?: string };
  "server-timing"?: { "up-time"?: number; "start-time"?: number };
  "host-address"?: string;
  "rtmp-port"?: number;
  traffic?: { bytesIn?: number; bytesOut?: number; bitsInPerSecond?: number; bitsOutPerSecond?: number };
}

/** One entry of `GET /rest/v2/applications-info`. */
export interface ApplicationInfo {
  name: string;
  liveStreamCount: number;
  vodCount: number;
  storage: number;
}

/** What most calls that change something answer. */
export interface Result {
  success: boolean;
  message: string | null;
}

/** One entry of `GET /rest/v2/cluster/nodes/{offset}/{size}`: AMS's fields, and Sluice's. Memory and CPU in percent. */
export interface ClusterNode {
  id: string;
  ip: string;
  /** Unix time, ms, by the clock of the node that answers. */
  lastUpdateTime: number;
  status: "alive" | "dead";
  /** Whether it is the node that answers. */
  this: boolean;
  role: string;
  group: string;
  version: string;
  /** The node that answers has a link to it. */
  reachable: boolean;
  draining: boolean;
  cpuPercent: number;
  memoryPercent: number;
  streams: number;
  relayed: number;
  viewers: number;
  /** Bytes per second. */
  bytesIn: number;
  bytesOut: number;
  encoderSessions: number;
  /** The mean time of a call to the store, ms; negative while it does not answer. */
  storeMs: number;
  capacityStreams: number;
}

/** Viewers by protocol. */
export interface ViewerCounts {
  hls: number;
  rtmp: number;
  /** Nodes that know no WebRTC leave it out. */
  webrtc?: number;
}

/** One entry of `GET /rest/v2/cluster/streams`. */
export interface StreamPlace {
  app: string;
  streamId: string;
  epoch: number;
  /** Null while its owner is lost and others still carry it. */
  owner: string | null;
  interrupted: boolean;
  /** Bit/s. */
  bitrate: number;
  viewers: ViewerCounts;
  carriers: { node: string; path: string[]; viewers: ViewerCounts }[];
}

/** `GET /readyz`. */
export interface Health {
  accepting: boolean;
  reason: string | null;
  store: { answers: boolean; awayMs: number | null };
  /** Null when the node stands alone. */
  cluster: { mode: string; alive: number; dead: number } | null;
}
