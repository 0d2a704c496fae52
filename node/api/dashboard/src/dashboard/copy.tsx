import { useEffect, useState } from "preact/hooks";

/** Puts text on the clipboard; also where the page is not in a secure context (plain HTTP from another host). */
async function copyText(text: string): Promise<boolean> {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = document.createElement("textarea");
    area.value = text;
    area.className = "offscreen";
    document.body.append(area);
    area.select();
    // Deprecated, and the only way there is without HTTPS.
    const done = document.execCommand("copy");
    area.remove();
    return done;
  }
}

/** A text to copy, with its label and a button. */
export function CopyField({ label, text, href }: { label: string; text: string; href?: string }) {
  const [outcome, setOutcome] = useState<"" | "copied" | "failed">("");
  useEffect(() => {
    if (outcome === "") return;
    const timer = setTimeout(() => setOutcome(""), 2000);
    return () => clearTimeout(timer);
  }, [outcome]);
  return (
    <div class="copy">
      <span class="copy-label">{label}</span>
      <div class="copy-row">
        {href === undefined ? (
          <code>{text}</code>
        ) : (
          <a href={href} target="_blank" rel="noopener">
            <code>{text}</code>
          </a>
        )}
        <button
          type="button"
          class="quiet"
          aria-label={`Copy ${label}`}
          onClick={() => void copyText(text).then((done) => setOutcome(done ? "copied" : "failed"))}
        >
          {outcome === "copied" ? "Copied" : outcome === "failed" ? "Select it" : "Copy"}
        </button>
      </div>
      <span class="offscreen" role="status">
        {outcome === "copied" ? `${label} copied` : ""}
      </span>
    </div>
  );
}
