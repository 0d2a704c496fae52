import { useEffect, useRef, useState } from "preact/hooks";
import { CopyField } from "../dashboard/copy";
import { isStreamId, watchPage, type StreamKey } from "../player/address";
import { Figures } from "./figures";
import { Form } from "./form";
import type { PublishRequest } from "./settings";
import { useStudio, type Studio } from "./use_publisher";
import type { State } from "./whip";
import { captureProblem } from "./words";

/** The page that publishes from a camera or a screen. */
export function PublishPage({ request }: { request: PublishRequest }) {
  const app = request.key?.app ?? null;
  const [id, setId] = useState(request.key?.id ?? "");
  const key: StreamKey | null = app !== null && isStreamId(id) ? { app, id } : null;
  const studio = useStudio(request, key);
  const blocked = captureProblem(isSecureContext, "mediaDevices" in navigator, location.href);

  useEffect(() => {
    document.title = `${studio.state?.name === "live" ? "● " : ""}Publish ${key?.id ?? ""}`;
    // For those who embed the page or test it.
    Object.assign(window, { sluicePublisher: { state: studio.state, figures: studio.figures } });
  });
  useEffect(() => {
    if (!studio.running) return;
    const ask = (event: BeforeUnloadEvent): void => event.preventDefault();
    addEventListener("beforeunload", ask);
    return () => removeEventListener("beforeunload", ask);
  }, [studio.running]);

  if (app === null) {
    return (
      <main>
        <section class="card">
          <h1>Nothing to publish to</h1>
          <p>{request.problem}</p>
        </section>
      </main>
    );
  }
  return (
    <main>
      <div class="stream-head">
        <h1>Publish {key === null ? "" : `${key.app}/${key.id}`}</h1>
        <Badge state={studio.state} />
      </div>
      {blocked !== "" && (
        <div class="banner" role="alert">
          {blocked}
        </div>
      )}
      <div class="stream-body">
        <Preview studio={studio} ready={key !== null} possible={blocked === ""} />
        <div class="stream-side">
          <section class="card" aria-labelledby="settings-heading">
            <h2 id="settings-heading">Settings</h2>
            <Form studio={studio} id={id} onId={setId} disabled={blocked !== ""} />
          </section>
          {key !== null && (
            <section class="card" aria-labelledby="watch-heading">
              <h2 id="watch-heading">Watch</h2>
              <CopyField label="With the shortest delay (WebRTC)" text={watchAddress(key, "&mode=webrtc")} href={watchAddress(key, "&mode=webrtc")} />
              <CopyField label="For any number of viewers (HLS)" text={watchAddress(key)} href={watchAddress(key)} />
            </section>
          )}
        </div>
      </div>
    </main>
  );
}

const watchAddress = (key: StreamKey, more = ""): string => `${location.origin}${watchPage(key)}${more}`;

function Badge({ state }: { state: State | null }) {
  switch (state?.name) {
    case "live":
      return <span class="badge live">Live</span>;
    case "connecting":
      return <span class="badge">Connecting</span>;
    case "disturbed":
    case "waiting":
      return <span class="badge warn">Reconnecting</span>;
    default:
      return <span class="badge">Not live</span>;
  }
}

function Preview({ studio, ready, possible }: { studio: Studio; ready: boolean; possible: boolean }) {
  const video = useRef<HTMLVideoElement>(null);
  const { media, settings, running, state } = studio;
  useEffect(() => {
    if (video.current === null) return;
    video.current.muted = true;
    video.current.srcObject = media;
  }, [media]);
  const screen = settings.source === "screen";
  return (
    <div class="player">
      <div class="screen">
        <video ref={video} playsinline autoplay muted aria-label="Preview of what is published" />
        {media === null && <div class="overlay">{screen ? "No screen is shared yet" : "The camera is off"}</div>}
        {media !== null && studio.dark && <div class="overlay">Viewers see a black picture</div>}
      </div>
      <p class={studio.problem !== "" || state?.name === "stopped" ? "say bad" : "say"} role="status">
        {studio.problem || <Say state={state} />}
      </p>
      <div class="publish-actions">
        {media === null ? (
          <button type="button" class="solid" disabled={!possible} onClick={studio.turnOn}>
            {screen ? "Share the screen" : "Turn camera on"}
          </button>
        ) : running ? (
          <button type="button" class="solid danger" onClick={studio.stop}>
            Stop
          </button>
        ) : (
          <button type="button" class="solid" disabled={!ready} onClick={studio.goLive}>
            Go live
          </button>
        )}
        {media !== null && (
          <>
            <button type="button" aria-pressed={studio.muted} disabled={media.getAudioTracks().length === 0} onClick={() => studio.mute(!studio.muted)}>
              {studio.muted ? "Unmute" : "Mute"}
            </button>
            <button type="button" aria-pressed={studio.dark} onClick={() => studio.darken(!studio.dark)}>
              {studio.dark ? "Show the picture" : "Hide the picture"}
            </button>
            {!running && (
              <button type="button" onClick={studio.turnOff}>
                {screen ? "Stop sharing" : "Turn camera off"}
              </button>
            )}
          </>
        )}
      </div>
      <Figures figures={studio.figures} />
    </div>
  );
}

function Say({ state }: { state: State | null }) {
  const [now, setNow] = useState(performance.now());
  const waiting = state?.name === "waiting";
  useEffect(() => {
    if (!waiting) return;
    setNow(performance.now());
    const timer = setInterval(() => setNow(performance.now()), 250);
    return () => clearInterval(timer);
  }, [waiting, state]);
  switch (state?.name) {
    case "disturbed":
      return <>The server does not answer. Looking for another way to it.</>;
    case "waiting":
      return (
        <>
          {state.reason} Trying again in {Math.max(0, Math.ceil((state.until - now) / 1000))} s.
        </>
      );
    case "stopped":
      return <>{state.reason}</>;
    default:
      return null;
  }
}
