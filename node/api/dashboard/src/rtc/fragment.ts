// SDP fragments (RFC 8840), by which WHIP and WHEP trickle candidates and restart ICE (RFC 9725, 4.3). Pure.

/** The credentials and the sections that candidates belong to. */
export interface Ice {
  ufrag: string;
  pwd: string;
  /** `BUNDLE` group, as its line says it. */
  group: string | null;
  /** The section that carries the transport: its `m=` line and its mid. */
  media: string;
  mid: string;
}

const lines = (sdp: string): string[] => sdp.split(/\r\n|\r|\n/).filter((line) => line !== "");
const value = (all: readonly string[], name: string): string | null =>
  all.find((line) => line.startsWith(`a=${name}:`))?.slice(name.length + 3) ?? null;

/** What a description says of ICE: of its first section, for everything is bundled there. `null` where it says too little. */
export function iceOf(sdp: string): Ice | null {
  const all = lines(sdp);
  const first = all.findIndex((line) => line.startsWith("m="));
  if (first < 0) return null;
  const next = all.findIndex((line, at) => at > first && line.startsWith("m="));
  const section = all.slice(first, next < 0 ? undefined : next);
  const head = all.slice(0, first);
  const ufrag = value(section, "ice-ufrag") ?? value(head, "ice-ufrag");
  const pwd = value(section, "ice-pwd") ?? value(head, "ice-pwd");
  const mid = value(section, "mid");
  if (ufrag === null || pwd === null || mid === null) return null;
  return { ufrag, pwd, mid, media: section[0] ?? "", group: value(head, "group") };
}

/** A fragment with these credentials and candidates (`candidate:…`); `last` says that no more follow. */
export function fragment({ ufrag, pwd, group, media, mid }: Ice, candidates: readonly string[], last = false): string {
  return [
    ...(group === null ? [] : [`a=group:${group}`]),
    `a=ice-ufrag:${ufrag}`,
    `a=ice-pwd:${pwd}`,
    media,
    `a=mid:${mid}`,
    ...candidates.map((candidate) => `a=${candidate}`),
    ...(last ? ["a=end-of-candidates"] : []),
    "",
  ].join("\r\n");
}

/**
 * The answer after a restart: the one before, with the credentials and candidates of the fragment that the server sent.
 * `null` when the fragment has no credentials.
 */
export function restarted(answer: string, received: string): string | null {
  const fragmentLines = lines(received);
  const ufrag = value(fragmentLines, "ice-ufrag");
  const pwd = value(fragmentLines, "ice-pwd");
  if (ufrag === null || pwd === null) return null;
  const isCandidate = (line: string): boolean => line.startsWith("a=candidate:") || line === "a=end-of-candidates";
  const candidates = fragmentLines.filter(isCandidate);
  let first = true;
  const out: string[] = [];
  for (const line of lines(answer)) {
    if (candidates.length > 0 && isCandidate(line)) continue;
    if (line.startsWith("a=ice-ufrag:")) out.push(`a=ice-ufrag:${ufrag}`);
    else if (line.startsWith("a=ice-pwd:")) {
      out.push(`a=ice-pwd:${pwd}`);
      // Beside the first credentials, in the section that carries the transport.
      if (first && out.some((before) => before.startsWith("m="))) {
        out.push(...candidates);
        first = false;
      }
    } else out.push(line);
  }
  // Credentials of the session level: then the candidates go to the end of the first section.
  if (first && candidates.length > 0) {
    const start = out.findIndex((line) => line.startsWith("m="));
    const next = out.findIndex((line, at) => at > start && line.startsWith("m="));
    out.splice(next < 0 ? out.length : next, 0, ...candidates);
  }
  return `${out.join("\r\n")}\r\n`;
}
