"""What saved workflows rely on: node ids, inputs with order, defaults and ranges, output types.

Each input is (name, type, options); only the options named here are compared. Names, order and
meaning never change; new widgets are appended last.
"""

from __future__ import annotations

PAPER_PROMPT = "a photo of a model wearing {category} made of {garments}"
INDEX, GARMENTS = "FASHIONRAG_INDEX", "FASHIONRAG_GARMENTS"
ADAPTER, TOKENS = "FASHIONRAG_ADAPTER", "FASHIONRAG_TOKENS"
FRAME = "FASHIONRAG_FRAME"
PARSER, LABELS = "FASHIONRAG_PARSER", "FASHIONRAG_LABELS"
HOST_PAIR = [("clip", "CLIP", {}), ("clip_vision", "CLIP_VISION", {})]

NODES = {
    "GarmentIndexBuild": {
        "required": [
            ("catalogue", "COMBO", {}),
            ("encoder", "COMBO", {}),
            ("index_name", "STRING", {}),
            ("overwrite", "BOOLEAN", {"default": False}),
            ("batch_size", "INT", {"default": 32, "min": 1, "max": 1024}),
        ],
        "optional": [*HOST_PAIR, ("recipe", "COMBO", {"default": "plain", "advanced": True})],
        "outputs": [("index", INDEX)],
        "output_node": True,
    },
    "GarmentIndexLoader": {
        "required": [("index_name", "COMBO", {})],
        "optional": HOST_PAIR,
        "outputs": [("index", INDEX)],
    },
    "TextGarmentRetrieve": {
        "required": [
            ("index", INDEX, {}),
            ("text", "STRING", {"multiline": True, "dynamicPrompts": True}),
            ("category", "COMBO", {"default": "any"}),
            ("top_k", "INT", {"default": 3, "min": 1, "max": 64}),
        ],
        "optional": [
            ("reference_images", "IMAGE", {}),
            ("image_weight", "FLOAT", {"default": 0.3, "min": 0.0, "max": 1.0, "advanced": True}),
            ("negative_text", "STRING", {"default": "", "advanced": True}),
            (
                "negative_weight",
                "FLOAT",
                {"default": 0.3, "min": 0.0, "max": 2.0, "advanced": True},
            ),
            ("chunks", "COMBO", {"default": "together", "advanced": True}),
            ("filter", "STRING", {"default": "", "advanced": True}),
            ("min_score", "FLOAT", {"default": -1.0, "min": -1.0, "max": 1.0, "advanced": True}),
            ("diversity", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "advanced": True}),
            ("draw_from", "INT", {"default": 0, "min": 0, "max": 4096, "advanced": True}),
            ("temperature", "FLOAT", {"default": 0.05, "min": 0.0, "advanced": True}),
            ("draw_seed", "INT", {"default": 0, "min": 0, "max": 2**64 - 1, "advanced": True}),
            ("pinned", "STRING", {"default": "", "multiline": True, "advanced": True}),
            ("excluded", "STRING", {"default": "", "multiline": True, "advanced": True}),
            ("words", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "advanced": True}),
            ("auto_min_score", "BOOLEAN", {"default": False, "advanced": True}),
        ],
        "outputs": [("garments", GARMENTS), ("images", "IMAGE"), ("scores", "STRING")],
    },
    "OutfitRetrieve": {
        "required": [
            ("index", INDEX, {}),
            ("text", "STRING", {"multiline": True, "dynamicPrompts": True}),
            ("top_k", "INT", {"default": 1, "min": 1, "max": 64}),
        ],
        "optional": [
            ("negative_text", "STRING", {"default": "", "advanced": True}),
            (
                "negative_weight",
                "FLOAT",
                {"default": 0.3, "min": 0.0, "max": 2.0, "advanced": True},
            ),
            ("chunks", "COMBO", {"default": "together", "advanced": True}),
            ("filter", "STRING", {"default": "", "advanced": True}),
            ("min_score", "FLOAT", {"default": -1.0, "min": -1.0, "max": 1.0, "advanced": True}),
            ("diversity", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "advanced": True}),
            ("draw_from", "INT", {"default": 0, "min": 0, "max": 4096, "advanced": True}),
            ("temperature", "FLOAT", {"default": 0.05, "min": 0.0, "advanced": True}),
            ("draw_seed", "INT", {"default": 0, "min": 0, "max": 2**64 - 1, "advanced": True}),
            ("excluded", "STRING", {"default": "", "multiline": True, "advanced": True}),
            ("words", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0, "advanced": True}),
            ("auto_min_score", "BOOLEAN", {"default": False, "advanced": True}),
        ],
        "outputs": [
            ("garments", GARMENTS),
            ("images", "IMAGE"),
            ("scores", "STRING"),
            ("dresses", GARMENTS),
            ("upper_body", GARMENTS),
            ("lower_body", GARMENTS),
        ],
    },
    "InversionAdapterLoader": {
        "required": [("adapter_name", "COMBO", {})],
        "outputs": [("adapter", ADAPTER)],
    },
    "GarmentTextualInversion": {
        "required": [
            ("clip", "CLIP", {}),
            ("clip_vision", "CLIP_VISION", {}),
            ("adapter", ADAPTER, {}),
            ("prompt", "STRING", {"default": PAPER_PROMPT}),
            ("strength", "FLOAT", {"default": 1.0, "min": 0.0, "max": 2.0}),
            ("preprocess", "COMBO", {"default": "from adapter"}),
        ],
        "optional": [
            ("garments", GARMENTS, {}),
            ("images", "IMAGE", {}),
            ("category", "STRING", {"default": ""}),
            ("caption", "STRING", {"default": ""}),
        ],
        "outputs": [("conditioning", "CONDITIONING"), ("tokens", TOKENS), ("prompt", "STRING")],
    },
    "GarmentTokensSave": {
        "required": [
            ("tokens", TOKENS, {}),
            ("name", "STRING", {}),
            ("overwrite", "BOOLEAN", {"default": False}),
        ],
        "outputs": [("name", "STRING")],
        "output_node": True,
    },
    "FashionUNetLoader": {
        "required": [("unet_name", "COMBO", {}), ("weight_dtype", "COMBO", {})],
        "outputs": [("model", "MODEL")],
    },
    "FashionPersonLoader": {
        "required": [("person_name", "COMBO", {})],
        "outputs": [("image", "IMAGE"), ("mask", "MASK"), ("pose", "POSE_KEYPOINT")],
    },
    "FashionFrame": {
        "required": [
            ("image", "IMAGE", {}),
            ("mask", "MASK", {}),
            ("width", "INT", {"default": 384, "min": 64, "max": 4096, "step": 8}),
            ("height", "INT", {"default": 512, "min": 64, "max": 4096, "step": 8}),
            ("context", "FLOAT", {"default": 0.25, "min": 0.0, "max": 4.0}),
            ("person", "INT", {"default": 0, "min": 0}),
        ],
        "optional": [("pose", "POSE_KEYPOINT", {})],
        "outputs": [
            ("image", "IMAGE"),
            ("mask", "MASK"),
            ("pose", "POSE_KEYPOINT"),
            ("frame", FRAME),
        ],
    },
    "FashionInpaintConditioning": {
        "required": [
            ("positive", "CONDITIONING", {}),
            ("negative", "CONDITIONING", {}),
            ("vae", "VAE", {}),
            ("image", "IMAGE", {}),
            ("mask", "MASK", {}),
            ("noise_mask", "BOOLEAN", {"default": True}),
            ("person", "INT", {"default": 0, "min": 0}),
        ],
        "optional": [("pose", "POSE_KEYPOINT", {})],
        "outputs": [
            ("positive", "CONDITIONING"),
            ("negative", "CONDITIONING"),
            ("latent", "LATENT"),
        ],
    },
    "FashionPromptDepth": {
        "required": [
            ("model", "MODEL", {}),
            ("garment_conditioning", "CONDITIONING", {}),
            ("caption_conditioning", "CONDITIONING", {}),
            ("levels", "STRING", {"default": "2 3"}),
            ("start_percent", "FLOAT", {"default": 0.0, "min": 0.0, "max": 1.0}),
        ],
        "outputs": [("model", "MODEL"), ("positive", "CONDITIONING")],
    },
    "FashionComposite": {
        "required": [
            ("original", "IMAGE", {}),
            ("generated", "IMAGE", {}),
            ("mask", "MASK", {}),
            ("feather", "INT", {"default": 8, "min": 0}),
        ],
        "optional": [("frame", FRAME, {})],
        "outputs": [("image", "IMAGE")],
    },
    "FashionRAGLoader": {
        "required": [("model_name", "COMBO", {})],
        "outputs": [
            ("model", "MODEL"),
            ("clip", "CLIP"),
            ("vae", "VAE"),
            ("clip_vision", "CLIP_VISION"),
            ("adapter", ADAPTER),
        ],
    },
    "GarmentReferences": {
        "required": [
            ("garments", GARMENTS, {}),
            ("dialect", "COMBO", {"default": "qwen"}),
            ("megapixels", "FLOAT", {"default": 1.0, "min": 0.1, "max": 4.0}),
            ("empty_slots", "COMBO", {"default": "stop"}),
        ],
        "outputs": [
            ("image_1", "IMAGE"),
            ("image_2", "IMAGE"),
            ("image_3", "IMAGE"),
            ("image_4", "IMAGE"),
            ("image_list", "IMAGE"),
            ("board", "IMAGE"),
            ("masks", "MASK"),
            ("captions", "STRING"),
            ("prompt", "STRING"),
            ("prompt_list", "STRING"),
        ],
    },
    "ReferenceLatents": {
        "required": [
            ("positive", "CONDITIONING", {}),
            ("negative", "CONDITIONING", {}),
            ("vae", "VAE", {}),
            ("garments", GARMENTS, {}),
            ("megapixels", "FLOAT", {"default": 1.0, "min": 0.1, "max": 4.0}),
        ],
        "optional": [("person", "IMAGE", {})],
        "outputs": [("positive", "CONDITIONING"), ("negative", "CONDITIONING")],
    },
    "HumanParserLoader": {
        "required": [("parser_name", "COMBO", {})],
        "outputs": [("parser", PARSER)],
    },
    "HumanParse": {
        "required": [("parser", PARSER, {}), ("image", "IMAGE", {})],
        "outputs": [("labels", LABELS)],
    },
    "GarmentMask": {
        "required": [
            ("image", "IMAGE", {}),
            ("category", "COMBO", {"default": "upper_body"}),
            ("mode", "COMBO", {"default": "bounding_box"}),
            ("grow", "INT", {"default": 10, "min": 0, "max": 128}),
            ("person", "INT", {"default": 0, "min": 0}),
        ],
        "optional": [
            ("labels", LABELS, {}),
            ("garment", "MASK", {}),
            ("keep", "MASK", {}),
            ("pose", "POSE_KEYPOINT", {}),
        ],
        "outputs": [
            ("mask", "MASK"),
            ("garment", "MASK"),
            ("keep", "MASK"),
            ("preview", "IMAGE"),
        ],
    },
    "GarmentFidelity": {
        "required": [
            ("images", "IMAGE", {}),
            ("mask", "MASK", {}),
            ("garments", GARMENTS, {}),
            ("index", INDEX, {}),
        ],
        "outputs": [("best", "IMAGE"), ("score", "FLOAT"), ("report", "STRING")],
        "output_node": True,
    },
}
