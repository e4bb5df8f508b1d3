import { app } from "../../scripts/app.js";

// ComfyUI shows pictures that a node returns, but not its text: the report of a build, the name
// of a saved embedding, which garment is in which slot, what a parser saw, what a mask lacks.
const NODES = [
  "GarmentIndexBuild",
  "GarmentTokensSave",
  "GarmentReferences",
  "HumanParse",
  "GarmentMask",
];

app.registerExtension({
  name: "FashionRAG.report",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    const report = document.createElement("div");
    report.className = "fashion-rag-report";
    Object.assign(report.style, {
      boxSizing: "border-box",
      padding: "4px 8px",
      overflow: "auto",
      whiteSpace: "pre-wrap",
      overflowWrap: "anywhere",
      userSelect: "text",
      fontSize: "12px",
      color: "var(--input-text)",
    });
    const widget = node.addDOMWidget("report", "fashion_rag_report", report, {
      serialize: false,
      getMinHeight: () => 60,
    });
    // Nor in a saved workflow, where it would stand among the values of the node's inputs.
    widget.serialize = false;
    const { onExecuted } = node;
    node.onExecuted = function (output) {
      onExecuted?.apply(this, arguments);
      report.textContent = output?.text?.join("") ?? "";
    };
  },
});
