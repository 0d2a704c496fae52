// The Link headers of WHIP and WHEP answers: which STUN and TURN servers to use (RFC 9725, 4.6). Pure.

/** Parameters and relations of one link (RFC 8288). */
interface Link {
  target: string;
  params: Map<string, string>;
}

const MOST_LINKS = 16;

/** Splits at `separator`, but not inside `<…>` and quotes. */
function split(text: string, separator: string): string[] {
  const parts: string[] = [];
  let part = "";
  let quoted = false;
  let target = false;
  for (let i = 0; i < text.length; i++) {
    const char = text[i] ?? "";
    if (quoted && char === "\\") {
      part += char + (text[++i] ?? "");
      continue;
    }
    if (char === '"' && !target) quoted = !quoted;
    else if (char === "<" && !quoted) target = true;
    else if (char === ">" && !quoted) target = false;
    if (char === separator && !quoted && !target) {
      parts.push(part);
      part = "";
    } else part += char;
  }
  parts.push(part);
  return parts;
}

function unquote(value: string): string {
  const text = value.trim();
  return text.length >= 2 && text.startsWith('"') && text.endsWith('"') ? text.slice(1, -1).replace(/\\(.)/g, "$1") : text;
}

function parse(header: string): Link[] {
  const links: Link[] = [];
  for (const text of split(header, ",").slice(0, MOST_LINKS)) {
    const [first = "", ...rest] = split(text, ";");
    const target = /^\s*<([^>]*)>\s*$/.exec(first)?.[1];
    if (target === undefined) continue;
    const params = new Map<string, string>();
    for (const param of rest) {
      const at = param.indexOf("=");
      const name = (at < 0 ? param : param.slice(0, at)).trim().toLowerCase();
      // The first of several counts (RFC 8288, 3.3).
      if (!params.has(name)) params.set(name, at < 0 ? "" : unquote(param.slice(at + 1)));
    }
    links.push({ target, params });
  }
  return links;
}

/** The ICE servers that a `Link` header names; others and those that no browser takes are left out. */
export function iceServers(header: string | null): RTCIceServer[] {
  return parse(header ?? "")
    .filter(({ target, params }) => (params.get("rel") ?? "").split(/\s+/).includes("ice-server") && /^(stun|turn)s?:[^\s]+$/.test(target))
    .flatMap(({ target, params }) => {
      if (target.startsWith("stun")) return [{ urls: target }];
      const [username, credential] = [params.get("username"), params.get("credential")];
      // A browser throws on a TURN server without them.
      return username === undefined || credential === undefined ? [] : [{ urls: target, username, credential }];
    });
}
