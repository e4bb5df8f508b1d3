import { app } from "../../scripts/app.js";
import { loadWords, words } from "./gallery/api.js";

// ComfyUI shows pictures that a node returns, but not its text: the report of a build, the name
// of a saved embedding, which garment is in which slot, what a parser saw, what a mask lacks, the scores
// of painted pictures, the frames of photos. So many lines are seen at once, what follows is folded.
const NODES = {
  GarmentIndexBuild: 2,
  GarmentTokensSave: 2,
  GarmentReferences: 12,
  HumanParse: 4,
  GarmentMask: 4,
  GarmentFidelity: 4,
  FashionFrame: 2,
};

/** Show a text: its first lines, and the others behind a fold that stays open if it was. */
function show(report, text, count) {
  const lines = text.split("\n").filter((line) => line.trim());
  const wasOpen = report.querySelector("details")?.open ?? false;
  report.replaceChildren(...lines.slice(0, count).map((line) => {
    const shown = document.createElement("div");
    shown.textContent = line;
    return shown;
  }));
  const rest = lines.slice(count);
  if (!rest.length) return;
  const fold = document.createElement("details");
  const summary = document.createElement("summary");
  summary.textContent = words("details", { count: rest.length });
  summary.style.cursor = "pointer";
  const body = document.createElement("div");
  body.textContent = rest.join("\n");
  fold.append(summary, body);
  fold.open = wasOpen;
  report.append(fold);
}

app.registerExtension({
  name: "FashionRAG.report",
  setup: loadWords,
  nodeCreated(node) {
    const count = NODES[node.comfyClass];
    if (!count) return;
    const report = document.createElement("div");
    report.className = "fashion-rag-report";
    report.setAttribute("role", "status");
    Object.assign(report.style, {
      boxSizing: "border-box",
      padding: "4px 8px",
      overflow: "auto",
      whiteSpace: "pre-wrap",
      overflowWrap: "anywhere",
      userSelect: "text",
      fontSize: "12px",
      lineHeight: "1.4",
      color: "var(--input-text)",
    });
    const widget = node.addDOMWidget("report", "fashion_rag_report", report, {
      serialize: false,
      getMinHeight: () => 80,
    });
    // Nor in a saved workflow, where it would stand among the values of the node's inputs.
    widget.serialize = false;
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      show(report, output?.text?.join("\n") ?? "", count);
    };
  },
});
