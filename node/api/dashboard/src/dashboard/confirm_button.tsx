import type { ComponentChildren } from "preact";
import { useRef, useState } from "preact/hooks";

/** A button that asks before it does something. */
export function ConfirmButton(props: {
  /** On the button. */
  label: string;
  /** For those who do not see which row it is in. */
  describe: string;
  /** It cuts somebody off. */
  danger?: boolean;
  question: string;
  children: ComponentChildren;
  /** On the buttons of the question. */
  no: string;
  yes: string;
  busy: string;
  act(): Promise<void>;
  onDone(): void;
}) {
  const dialog = useRef<HTMLDialogElement>(null);
  const [open, setOpen] = useState(false);
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState("");

  const ask = (): void => {
    setProblem("");
    setOpen(true);
    // The dialog is in the document only while it is open: a list of a hundred rows has none.
    queueMicrotask(() => setTimeout(() => dialog.current?.showModal()));
  };
  const act = async (): Promise<void> => {
    setBusy(true);
    try {
      await props.act();
      dialog.current?.close();
      props.onDone();
    } catch (error) {
      setProblem(error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };

  return (
    <>
      <button type="button" class={props.danger ? "quiet danger" : "quiet"} onClick={ask} aria-label={props.describe}>
        {props.label}
      </button>
      {open && (
        <dialog ref={dialog} onClose={() => setOpen(false)} aria-labelledby="question">
          <h2 id="question">{props.question}</h2>
          {props.children}
          {problem !== "" && (
            <p class="alert" role="alert">
              {problem}
            </p>
          )}
          <div class="dialog-actions">
            <button type="button" class="quiet" onClick={() => dialog.current?.close()}>
              {props.no}
            </button>
            <button type="button" class={props.danger ? "danger solid" : "solid"} onClick={() => void act()} disabled={busy}>
              {busy ? props.busy : props.yes}
            </button>
          </div>
        </dialog>
      )}
    </>
  );
}
