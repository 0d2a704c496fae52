import { useEffect, useRef, useState } from "preact/hooks";
import type { StreamKey } from "../player/address";
import type { Sent } from "../rtc/stats";
import { capture, devices, type Capture, type Devices } from "./capture";
import type { PublishRequest, Settings } from "./settings";
import { publish, type Publisher, type State } from "./whip";
import { deviceProblem } from "./words";

const FIGURES_EVERY_MS = 500;

/** All that the page can do, and what comes of it. */
export interface Studio {
  settings: Settings;
  devices: Devices;
  media: MediaStream | null;
  /** Why there is no picture, or why what was live is not. */
  problem: string;
  /** Null before the first start. */
  state: State | null;
  figures: Sent | null;
  /** Whether it is live, or on the way there. */
  running: boolean;
  muted: boolean;
  dark: boolean;
  change(settings: Partial<Settings>): void;
  turnOn(): void;
  turnOff(): void;
  goLive(): void;
  stop(): void;
  mute(muted: boolean): void;
  darken(dark: boolean): void;
}

/** Keeps the devices and the publisher together. */
export function useStudio(request: PublishRequest, key: StreamKey | null): Studio {
  const [settings, setSettings] = useState(request.settings);
  const [found, setFound] = useState<Devices>({ cameras: [], microphones: [] });
  const [captured, setCaptured] = useState<Capture | null>(null);
  const [problem, setProblem] = useState("");
  const [state, setState] = useState<State | null>(null);
  const [figures, setFigures] = useState<Sent | null>(null);
  const [muted, setMuted] = useState(false);
  const [dark, setDark] = useState(false);
  const publisher = useRef<Publisher | null>(null);
  const running = state !== null && state.name !== "stopped";
  // Devices answer late: only the newest question counts.
  const question = useRef(0);
  const holder = useRef<Capture | null>(null);

  const look = (): void => void devices().then(setFound);
  const hold = (next: Capture | null): void => {
    holder.current?.stop();
    holder.current = next;
    setCaptured(next);
  };

  const stop = (): void => {
    publisher.current?.stop();
    publisher.current = null;
  };

  const turnOn = async (wanted: Settings): Promise<void> => {
    const mine = ++question.current;
    setProblem("");
    // Some devices are given to one at a time: let go first, unless somebody watches.
    if (publisher.current === null) hold(null);
    let next: Capture;
    try {
      next = await capture(wanted);
    } catch (error) {
      if (mine === question.current) setProblem(deviceProblem(error, wanted.source));
      return look();
    }
    if (mine !== question.current) return next.stop();
    for (const track of next.media.getTracks()) {
      track.enabled = track.kind === "audio" ? !muted : !dark;
      track.addEventListener("ended", () => {
        if (holder.current !== next) return;
        if (track.kind === "audio") return setProblem("The microphone is gone. Choose another.");
        if (wanted.source === "camera") return setProblem("The camera is gone. Choose another.");
        stop();
        hold(null);
        setProblem("Sharing the screen has ended, and so has the stream.");
      });
    }
    // The new tracks take the place of the old ones before those end.
    publisher.current?.replace(next.media);
    hold(next);
    look();
  };

  useEffect(() => {
    const list = navigator.mediaDevices as MediaDevices | undefined;
    if (list === undefined) return;
    look();
    list.addEventListener("devicechange", look);
    return () => list.removeEventListener("devicechange", look);
  }, []);

  useEffect(() => {
    const timer = setInterval(() => setFigures(publisher.current?.figures() ?? null), FIGURES_EVERY_MS);
    return () => clearInterval(timer);
  }, []);

  const set = (kind: "audio" | "video", enabled: boolean): void =>
    captured?.media.getTracks().forEach((track) => track.kind === kind && (track.enabled = enabled));

  return {
    settings,
    devices: found,
    media: captured?.media ?? null,
    problem,
    state,
    figures,
    running,
    muted,
    dark,
    change: (part) => {
      const next = { ...settings, ...part };
      setSettings(next);
      const same = (["source", "camera", "microphone", "height"] as const).every((name) => next[name] === settings[name]);
      if (same) return;
      // A screen is shared only on a press of a button.
      if (next.source !== settings.source && next.source === "screen") return hold(null);
      if (captured !== null && next.source === "camera") void turnOn(next);
    },
    turnOn: () => void turnOn(settings),
    turnOff: () => {
      question.current++;
      stop();
      hold(null);
    },
    goLive: () => {
      if (key === null || captured === null || publisher.current !== null) return;
      setProblem("");
      publisher.current = publish({
        key,
        query: request.query,
        token: request.token,
        settings,
        media: captured.media,
        onState: (next) => {
          if (next.name === "stopped") publisher.current = null;
          setState(next);
        },
      });
    },
    stop,
    mute: (on) => {
      setMuted(on);
      set("audio", !on);
    },
    darken: (on) => {
      setDark(on);
      set("video", !on);
    },
  };
}
