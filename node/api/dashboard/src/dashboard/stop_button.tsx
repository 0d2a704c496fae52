import { useRef, useState } from "preact/hooks";
import { stopStream } from "./api";

/** Stops a stream, after asking: its publisher and all viewers are cut off. */
export function StopButton(props: { app: string; id: string; viewers: string; onStopped(): void }) {
  const { app, id } = props;
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  const ask = (): void => {
    setProblem("");
    setOpen(true);
    // The dialog is in the document only while it is open: a list of a hundred streams has none.
    queueMicrotask(() => setTimeout(() => dialog.current?.showModal()));
  };
  const stop = async (): Promise<void> => {
    setBusy(true);
    try {
      await stopStream(app, id);
      dialog.current?.close();
      props.onStopped();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };

  return (
    <>
      <button type="button" class="quiet danger" onClick={ask} aria-label={`Stop ${id}`}>
        Stop
      </button>
      {open && (
        <dialog ref={dialog} onClose={() => setOpen(false)} aria-labelledby="stop-title">
          <h2 id="stop-title">Stop this stream?</h2>
          <p>
            <strong>
              {app}/{id}
            </strong>{" "}
            ends for everyone ({props.viewers}). The publisher is disconnected; it can publish again.
          </p>
          {problem !== "" && (
            <p class="alert" role="alert">
              {problem}
            </p>
          )}
          <div class="dialog-actions">
            <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
              Keep it live
            </button>
            <button type="button" class="danger solid" onClick={() => void stop()} disabled={busy}>
              {busy ? "Stopping…" : "Stop the stream"}
            </button>
          </div>
        </dialog>
      )}
    </>
  );
}
