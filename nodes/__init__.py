"""ComfyUI nodes: thin V3 classes over the functions of `retriever` and `adapter`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .fidelity import GarmentFidelity
from .framing import FashionComposite, FashionFrame
from .host.gallery_routes import add_routes
from .host.odd_names import with_escaped_errors
from .inpaint import FashionInpaintConditioning
from .models import FashionPromptDepth, FashionRAGLoader, FashionUNetLoader
from .outfit import OutfitRetrieve
from .parse import GarmentMask, HumanParse, HumanParserLoader
from .person import FashionPersonLoader
from .references import GarmentReferences, ReferenceLatents
from .retrieve import GarmentIndexBuild, GarmentIndexLoader, TextGarmentRetrieve
from .textual_inversion import GarmentTextualInversion, GarmentTokensSave, InversionAdapterLoader


class FashionRAGExtension(ComfyExtension):
    """The pack's nodes and HTTP routes, as ComfyUI loads them."""

    async def on_load(self) -> None:
        add_routes()

    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        nodes = [
            GarmentIndexBuild,
            GarmentIndexLoader,
            TextGarmentRetrieve,
            OutfitRetrieve,
            InversionAdapterLoader,
            GarmentTextualInversion,
            GarmentTokensSave,
            FashionUNetLoader,
            FashionPersonLoader,
            FashionFrame,
            FashionInpaintConditioning,
            FashionPromptDepth,
            FashionComposite,
            FashionRAGLoader,
            GarmentReferences,
            ReferenceLatents,
            HumanParserLoader,
            HumanParse,
            GarmentMask,
            GarmentFidelity,
        ]
        return [with_escaped_errors(node) for node in nodes]
