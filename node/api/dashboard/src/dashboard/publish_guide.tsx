import { useState } from "preact/hooks";
import { isStreamId, publishPage, rtmpAddress, rtmpServer, watchPage } from "../player/address";
import { CopyField } from "./copy";

const PREFERRED = "LiveApp";

/** How to send a stream to this node: for OBS and for ffmpeg, with this host's addresses. */
export function PublishGuide({ apps, rtmpPort }: { apps: string[]; rtmpPort: number | undefined }) {
  const names = apps.length > 0 ? apps : [PREFERRED];
  const [chosen, setChosen] = useState("");
  const [typed, setTyped] = useState("cam1");
  const app = names.includes(chosen) ? chosen : names.includes(PREFERRED) ? PREFERRED : (names[0] ?? PREFERRED);
  const id = typed.trim();
  const valid = isStreamId(id);
  const key = { app, id: valid ? id : "cam1" };
  const address = rtmpAddress(key, location.hostname, rtmpPort);
  return (
    <div class="guide">
      <div class="guide-choice">
        <label>
          Application
          <select value={app} onChange={(event) => setChosen(event.currentTarget.value)}>
            {names.map((name) => (
              <option key={name} value={name}>
                {name}
              </option>
            ))}
          </select>
        </label>
        <label>
          Stream id
          <input
            value={typed}
            onInput={(event) => setTyped(event.currentTarget.value)}
            aria-invalid={!valid}
            aria-describedby="id-rule"
            spellcheck={false}
            autocapitalize="off"
          />
        </label>
        <p id="id-rule" class={valid ? "note" : "note bad"}>
          {valid ? "Choose any id: it need not exist yet." : "Letters, digits, - _ and . only."}
        </p>
      </div>
      <div class="guide-ways">
        <div>
          <h3>This browser</h3>
          <p class="note">Camera or screen, by WebRTC. Other machines need https for it.</p>
          <CopyField label="Publish page" text={`${location.origin}${publishPage(key)}`} href={publishPage(key)} />
        </div>
        <div>
          <h3>OBS Studio</h3>
          <p class="note">Settings, Stream, Service “Custom…”. A keyframe interval of 1 or 2 s starts viewers fastest.</p>
          <CopyField label="Server" text={rtmpServer(app, location.hostname, rtmpPort)} />
          <CopyField label="Stream key" text={key.id} />
        </div>
        <div>
          <h3>ffmpeg</h3>
          <p class="note">A test picture with a tone, to see that everything works.</p>
          <CopyField
            label="Command"
            text={`ffmpeg -re -f lavfi -i testsrc2=size=1280x720:rate=30 -f lavfi -i sine -c:v libx264 -preset veryfast -tune zerolatency -g 30 -pix_fmt yuv420p -c:a aac -f flv ${address}`}
          />
        </div>
        <div>
          <h3>Watch</h3>
          <p class="note">The page waits until the stream is live.</p>
          <CopyField label="Watch page" text={`${location.origin}${watchPage(key)}`} href={watchPage(key)} />
        </div>
      </div>
    </div>
  );
}
