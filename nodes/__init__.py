"""The nodes: thin V3 classes over the plain functions of `retriever` and `adapter`."""

from __future__ import annotations

from comfy_api.latest import ComfyExtension, io

from .inpaint import FashionComposite, FashionInpaintConditioning
from .models import FashionPromptDepth, FashionRAGLoader, FashionUNetLoader
from .parse import GarmentMask, HumanParse, HumanParserLoader
from .person import FashionPersonLoader
from .retrieve import GarmentIndexBuild, GarmentIndexLoader, TextGarmentRetrieve
from .textual_inversion import GarmentTextualInversion, GarmentTokensSave, InversionAdapterLoader


class FashionRAGExtension(ComfyExtension):
    async def get_node_list(self) -> list[type[io.ComfyNode]]:
        return [
            GarmentIndexBuild,
            GarmentIndexLoader,
            TextGarmentRetrieve,
            InversionAdapterLoader,
            GarmentTextualInversion,
            GarmentTokensSave,
            FashionUNetLoader,
            FashionPersonLoader,
            FashionInpaintConditioning,
            FashionPromptDepth,
            FashionComposite,
            FashionRAGLoader,
            HumanParserLoader,
            HumanParse,
            GarmentMask,
        ]
