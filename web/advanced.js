import { app } from "../../scripts/app.js";

// The classic canvas hides widgets that say so themselves; the schema's word reaches only their
// options, which Nodes 2.0 goes by. The node's menu shows them ("Show Advanced").
app.registerExtension({
  name: "FashionRAG.advanced",
  nodeCreated(node) {
    if (node.comfyClass !== "TextGarmentRetrieve") return;
    for (const widget of node.widgets ?? []) {
      if (widget.options?.advanced) widget.advanced = true;
    }
    // The size was made for all of them.
    node.setSize([node.size[0], node.computeSize()[1]]);
  },
});
