import { useState } from "preact/hooks";
import { systemResources, token, ApiError } from "./api";

/** Asks for the admin token, tries it, and keeps it for this tab. */
export function SignIn({ reason, onSignedIn }: { reason: string; onSignedIn(): void }) {
  const [value, setValue] = useState("");
  const [busy, setBusy] = useState(false);
  const [problem, setProblem] = useState(token.get() === "" ? "" : "The admin token is no longer accepted.");

  const submit = async (event: Event): Promise<void> => {
    event.preventDefault();
    setBusy(true);
    token.set(value.trim());
    try {
      await systemResources();
      onSignedIn();
    } catch (error) {
      token.set("");
      const refused = error instanceof ApiError && error.failure === "auth";
      setProblem(refused ? "This is not the node's admin token." : error instanceof Error ? error.message : String(error));
    }
    setBusy(false);
  };

  return (
    <form class="sign-in card" onSubmit={(event) => void submit(event)}>
      <h1>Sign in to this node</h1>
      <p>
        Away from the node itself, managing it needs its admin token: the value of <code>SLUICE_ADMIN_TOKEN</code>, or the
        one that the node printed when it first started.
      </p>
      <label>
        Admin token
        <input
          type="password"
          autocomplete="current-password"
          required
          value={value}
          onInput={(event) => setValue(event.currentTarget.value)}
          aria-describedby="sign-in-problem"
          autofocus
        />
      </label>
      <p id="sign-in-problem" class={problem === "" ? "note" : "alert"} role={problem === "" ? undefined : "alert"}>
        {problem === "" ? `The node says: ${reason}` : problem}
      </p>
      <button type="submit" class="solid" disabled={busy || value.trim() === ""}>
        {busy ? "Checking…" : "Sign in"}
      </button>
    </form>
  );
}
