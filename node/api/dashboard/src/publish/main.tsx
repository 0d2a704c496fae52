import { render } from "preact";
import { PublishPage } from "./page";
import { readPublishRequest } from "./settings";

const root = document.getElementById("app");
if (root === null) throw new Error("publish.html has no #app");
render(<PublishPage request={readPublishRequest(location.pathname, location.search)} />, root);
