// Numbers and names as people read them. Pure; everything missing is shown as a dash.

const NONE = "–";

const digits = (value: number): string => (value >= 100 ? value.toFixed(0) : value >= 10 ? value.toFixed(1) : value.toFixed(2));

function scaled(value: number, step: number, units: readonly string[]): string {
  let index = 0;
  let rest = value;
  while (rest >= step * 0.9995 && index < units.length - 1) {
    rest /= step;
    index++;
  }
  return index === 0 ? `${Math.round(rest)} ${units[0]}` : `${digits(rest)} ${units[index]}`;
}

const isMeasure = (value: number | null | undefined): value is number =>
  typeof value === "number" && Number.isFinite(value) && value >= 0;

/** A bit rate given in bit/s. */
export const bitrate = (bps: number | null | undefined): string =>
  isMeasure(bps) ? scaled(bps, 1000, ["bit/s", "kbit/s", "Mbit/s", "Gbit/s", "Tbit/s"]) : NONE;

/** An amount of memory or data given in bytes. */
export const bytes = (amount: number | null | undefined): string =>
  isMeasure(amount) ? scaled(amount, 1024, ["B", "KiB", "MiB", "GiB", "TiB", "PiB"]) : NONE;

/** A share in percent. */
export const percent = (value: number | null | undefined): string =>
  isMeasure(value) ? `${value < 10 && !Number.isInteger(value) ? value.toFixed(1) : Math.round(value)} %` : NONE;

/** A time span given in ms: two units are enough. */
export function duration(ms: number | null | undefined): string {
  if (ms === null || ms === undefined || !Number.isFinite(ms)) return NONE;
  const seconds = Math.max(0, Math.floor(ms / 1000));
  const [d, h, m, s] = [Math.floor(seconds / 86400), Math.floor(seconds / 3600) % 24, Math.floor(seconds / 60) % 60, seconds % 60];
  if (d > 0) return `${d} d ${h} h`;
  if (h > 0) return `${h} h ${m} min`;
  if (m > 0) return `${m} min ${s} s`;
  return `${s} s`;
}

/** Seconds with two decimals, for latencies. */
export const seconds = (value: number | null | undefined): string => (isMeasure(value) ? `${value.toFixed(2)} s` : NONE);

const CODECS: Record<string, string> = {
  h264: "H.264",
  avc: "H.264",
  h265: "HEVC",
  hevc: "HEVC",
  av1: "AV1",
  vp8: "VP8",
  vp9: "VP9",
  aac: "AAC",
  opus: "Opus",
  mp3: "MP3",
};

/** A codec's usual name. */
export const codec = (name: string | null | undefined): string => (name ? (CODECS[name.toLowerCase()] ?? name) : NONE);

/** Picture size and frame rate. */
export function picture(width: number, height: number, frameRate: number): string {
  if (!(width > 0 && height > 0)) return NONE;
  const rate = frameRate > 0 ? ` @ ${Number(frameRate.toFixed(2))}` : "";
  return `${width}×${height}${rate}`;
}

/** A count of things. */
export const count = (n: number, one: string, many = `${one}s`): string => `${n.toLocaleString("en")} ${n === 1 ? one : many}`;
