import { app } from "../../scripts/app.js";

// The classic canvas hides widgets that say so themselves; the schema's word reaches only their
// options, which Nodes 2.0 goes by. The node's menu shows them ("Show Advanced"). While they are
// hidden the canvas would keep their room, unless they are hidden in its layout too.
const NODES = ["TextGarmentRetrieve", "OutfitRetrieve"];

app.registerExtension({
  name: "FashionRAG.advanced",
  nodeCreated(node) {
    if (!NODES.includes(node.comfyClass)) return;
    for (const widget of node.widgets ?? []) {
      if (!widget.options?.advanced) continue;
      widget.advanced = true;
      let hidden = widget.hidden;
      Object.defineProperty(widget, "hidden", {
        configurable: true,
        get: () => hidden || (!LiteGraph.vueNodesMode && !node.showAdvanced),
        set: (value) => (hidden = value),
      });
    }
    // The size was made for all of them.
    node.setSize([node.size[0], node.computeSize()[1]]);
  },
});
