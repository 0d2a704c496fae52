import { useMemo } from "preact/hooks";
import { bitrate } from "../dashboard/format";
import { isStreamId } from "../player/address";
import { BITRATES, bitrateOf, CODECS, HEIGHTS, NONE, sendable, type CodecName, type Source } from "./settings";
import type { Studio } from "./use_publisher";

/** What can be chosen. What the encoder was started with stays until the stream is stopped; devices can change. */
export function Form({ studio, id, onId, disabled }: { studio: Studio; id: string; onId(id: string): void; disabled: boolean }) {
  const { settings, running, change } = studio;
  const able = useMemo(() => sendable(globalThis.RTCRtpSender?.getCapabilities?.("video")?.codecs ?? []), []);
  const valid = isStreamId(id);
  return (
    <form class="publish-form" onSubmit={(event) => event.preventDefault()}>
      <label>
        Stream id
        <input
          value={id}
          disabled={running}
          aria-invalid={!valid}
          aria-describedby="id-rule"
          spellcheck={false}
          autocapitalize="off"
          onInput={(event) => onId(event.currentTarget.value.trim())}
        />
      </label>
      {!valid && (
        <p id="id-rule" class="note bad">
          Letters, digits, - _ and . only.
        </p>
      )}
      <fieldset disabled={running || disabled}>
        <legend>Picture from</legend>
        {(["camera", "screen"] as Source[]).map((source) => (
          <label key={source} class="choice">
            <input type="radio" name="source" checked={settings.source === source} onChange={() => change({ source })} />
            {source === "camera" ? "Camera" : "Screen"}
          </label>
        ))}
      </fieldset>
      {settings.source === "camera" && (
        <Choice label="Camera" value={settings.camera} disabled={disabled} onChange={(camera) => change({ camera })}>
          <option value="">The browser’s choice</option>
          {studio.devices.cameras.map((device) => (
            <option key={device.id} value={device.id}>
              {device.name}
            </option>
          ))}
        </Choice>
      )}
      <Choice label="Microphone" value={settings.microphone} disabled={disabled} onChange={(microphone) => change({ microphone })}>
        <option value="">The browser’s choice</option>
        {studio.devices.microphones.map((device) => (
          <option key={device.id} value={device.id}>
            {device.name}
          </option>
        ))}
        {/* A sound that was announced cannot be taken back while live: mute it instead. */}
        {(!running || settings.microphone === NONE) && <option value={NONE}>None</option>}
      </Choice>
      <Choice label="Resolution" value={settings.height} disabled={running || disabled} onChange={(height) => change({ height: Number(height) })}>
        {HEIGHTS.map((height) => (
          <option key={height} value={height}>
            {height}p
          </option>
        ))}
      </Choice>
      <Choice label="Bitrate" value={settings.bitrate} disabled={running || disabled} onChange={(rate) => change({ bitrate: Number(rate) })}>
        <option value={0}>What suits it ({bitrate(bitrateOf({ ...settings, bitrate: 0 }))})</option>
        {BITRATES.map((rate) => (
          <option key={rate} value={rate}>
            {bitrate(rate)}
          </option>
        ))}
      </Choice>
      <Choice label="Codec" value={settings.codec} disabled={running || disabled} onChange={(codec) => change({ codec: codec as CodecName })}>
        {CODECS.map(({ name, label }) => (
          <option key={name} value={name} disabled={able.length > 0 && !able.includes(name)}>
            {label}
            {able.length > 0 && !able.includes(name) ? " (not in this browser)" : ""}
          </option>
        ))}
      </Choice>
      <label class="choice">
        <input
          type="checkbox"
          checked={settings.simulcast}
          disabled={running || disabled}
          onChange={(event) => change({ simulcast: event.currentTarget.checked })}
        />
        Several sizes (simulcast)
      </label>
      <p class="note">Several sizes let each viewer have what their connection carries; this computer encodes and sends more.</p>
      {running && <p class="note">Stop to change what cannot be chosen now.</p>}
    </form>
  );
}

function Choice(props: {
  label: string;
  value: string | number;
  disabled: boolean;
  onChange(value: string): void;
  children: preact.ComponentChildren;
}) {
  return (
    <label>
      {props.label}
      <select value={props.value} disabled={props.disabled} onChange={(event) => props.onChange(event.currentTarget.value)}>
        {props.children}
      </select>
    </label>
  );
}
