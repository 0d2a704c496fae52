import { stopStream } from "./api";
import { ConfirmButton } from "./confirm_button";

/** Stops a stream, after asking: its publisher and all viewers are cut off. */
export function StopButton(props: { app: string; id: string; viewers: string; onStopped(): void }) {
  const { app, id } = props;
  return (
    <ConfirmButton
      label="Stop"
      describe={`Stop ${id}`}
      danger
      question="Stop this stream?"
      no="Keep it live"
      yes="Stop the stream"
      busy="Stopping…"
      act={() => stopStream(app, id)}
      onDone={props.onStopped}
    >
      <p>
        <strong>
          {app}/{id}
        </strong>{" "}
        ends for everyone ({props.viewers}). The publisher is disconnected; it can publish again.
      </p>
    </ConfirmButton>
  );
}
