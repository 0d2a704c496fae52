// Camera, microphone and screen.

import { deviceConstraints, screenConstraints, type Settings } from "./settings";

/** What was captured. */
export interface Capture {
  media: MediaStream;
  /** Lets go of the devices. */
  stop(): void;
}

/** The devices to choose from; they have names once one of them was allowed. */
export interface Devices {
  cameras: { id: string; name: string }[];
  microphones: { id: string; name: string }[];
}

/** Lists the devices. Never throws. */
export async function devices(): Promise<Devices> {
  const all = await navigator.mediaDevices.enumerateDevices().catch(() => []);
  const named = (kind: MediaDeviceKind, what: string): { id: string; name: string }[] =>
    all
      .filter((device) => device.kind === kind && device.deviceId !== "")
      .map(({ deviceId, label }, index) => ({ id: deviceId, name: label === "" ? `${what} ${index + 1}` : label }));
  return { cameras: named("videoinput", "Camera"), microphones: named("audioinput", "Microphone") };
}

/** Captures what the settings say. Throws what the browser throws. */
export async function capture(settings: Settings): Promise<Capture> {
  if (settings.source === "camera") {
    const media = await navigator.mediaDevices.getUserMedia(deviceConstraints(settings) ?? { video: true });
    hint(media, "motion");
    return { media, stop: () => end(media) };
  }
  const screen = await navigator.mediaDevices.getDisplayMedia(screenConstraints(settings));
  hint(screen, "detail");
  const wanted = deviceConstraints(settings);
  if (wanted === null) return { media: screen, stop: () => end(screen) };
  let voice: MediaStream;
  try {
    voice = await navigator.mediaDevices.getUserMedia(wanted);
  } catch (error) {
    end(screen);
    throw error;
  }
  const mixer = screen.getAudioTracks().length === 0 ? null : mix([screen, voice]);
  const media = new MediaStream([...screen.getVideoTracks(), ...(mixer?.tracks ?? voice.getAudioTracks())]);
  return {
    media,
    stop: () => {
      end(screen);
      end(voice);
      void mixer?.context.close();
    },
  };
}

const end = (media: MediaStream): void => media.getTracks().forEach((track) => track.stop());

function hint(media: MediaStream, content: "motion" | "detail"): void {
  for (const track of media.getVideoTracks()) track.contentHint = content;
}

/** The screen's sound and the voice as one: a stream carries one sound. */
function mix(sources: MediaStream[]): { context: AudioContext; tracks: MediaStreamTrack[] } {
  const context = new AudioContext();
  const out = context.createMediaStreamDestination();
  for (const source of sources) context.createMediaStreamSource(source).connect(out);
  return { context, tracks: out.stream.getAudioTracks() };
}
