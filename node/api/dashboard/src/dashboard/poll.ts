// Asks again and again while the page is looked at.

import { useEffect, useRef, useState } from "preact/hooks";
import { ApiError } from "./api";

/** The newest answer, and what went wrong with the newest question. A failure keeps the last answer on show. */
export interface Polled<T> {
  data: T | null;
  error: ApiError | null;
  /** When `data` was read: ms of `Date.now()`. */
  readAt: number;
  /** Asks now. */
  refresh(): void;
}

/** Calls `ask` every `period` ms; not while the page is hidden, and never twice at once. */
export function usePoll<T>(ask: (signal: AbortSignal) => Promise<T>, period: number, enabled = true): Polled<T> {
  const [state, setState] = useState<Omit<Polled<T>, "refresh">>({ data: null, error: null, readAt: 0 });
  const [round, setRound] = useState(0);
  const latest = useRef(ask);
  latest.current = ask;

  useEffect(() => {
    if (!enabled) return;
    const abort = new AbortController();
    let timer: ReturnType<typeof setTimeout> | undefined;
    let asking = false;
    const next = async (): Promise<void> => {
      clearTimeout(timer);
      if (asking || document.hidden) return;
      asking = true;
      try {
        const data = await latest.current(abort.signal);
        if (!abort.signal.aborted) setState({ data, error: null, readAt: Date.now() });
      } catch (problem) {
        const error = problem instanceof ApiError ? problem : new ApiError("server", String(problem));
        if (!abort.signal.aborted) setState((before) => ({ ...before, error }));
      }
      asking = false;
      if (!abort.signal.aborted) timer = setTimeout(next, period);
    };
    const onVisible = (): void => void next();
    document.addEventListener("visibilitychange", onVisible);
    void next();
    return () => {
      abort.abort();
      clearTimeout(timer);
      document.removeEventListener("visibilitychange", onVisible);
    };
  }, [period, enabled, round]);

  return { ...state, refresh: () => setRound((n) => n + 1) };
}
