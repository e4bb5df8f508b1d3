"""Retrieval-augmented fashion editing: a ComfyUI node pack and the package `fashion_rag`."""

WEB_DIRECTORY = "./web"


async def comfy_entrypoint():
    """Register the pack's model folders and return its ComfyExtension (called by ComfyUI alone)."""
    from .nodes import FashionRAGExtension
    from .nodes.host.folders import register_folders
    from .nodes.host.odd_names import escape_log

    escape_log(__name__)
    register_folders()
    return FashionRAGExtension()
