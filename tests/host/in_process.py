"""Checks that run inside ComfyUI's own process, each a function; see test_memory.py.

    python in_process.py COMFYUI PACK MODEL_FOLDER ENCODER_FOLDER TRANSFORMERS_FOLDER

prints one JSON object: the name of each check and the traceback of its failure, or "".
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import io
import json
import logging
import os
import shutil
import string
import sys
import tempfile
import threading
import traceback
from pathlib import Path
from types import SimpleNamespace

if __name__ == "__main__":
    COMFYUI, PACK, MODEL, ENCODER, SIGLIP = map(Path, sys.argv[1:])
    sys.argv = ["main.py", "--cpu"]
    sys.path.insert(0, str(COMFYUI))
    import comfy.options

    comfy.options.enable_args_parsing()

    import comfy.ldm.modules.diffusionmodules.openaimodel
    import comfy.model_management
    import comfy.model_patcher
    import comfy.ops
    import comfy.sample
    import comfy.sd1_clip
    import comfy.utils
    import folder_paths
    import server
    import torch
    from aiohttp import web
    from aiohttp.test_utils import TestClient, TestServer
    from PIL import Image
    from safetensors.torch import load_file, save_file

    spec = importlib.util.spec_from_file_location(
        "pack", PACK / "__init__.py", submodule_search_locations=[str(PACK)]
    )
    sys.modules["pack"] = importlib.util.module_from_spec(spec)

    from comfy_api.latest import io as comfy_io
    from pack.nodes.host import (
        encoders,
        folders,
        gallery_routes,
        memory,
        model_folder,
        odd_names,
        text,
        unet,
        watch,
    )
    from pack.nodes.host.progress import progress_bar
    from pack.nodes.models import FashionPromptDepth, FashionUNetLoader
    from pack.nodes.references import one_picture
    from pack.nodes.textual_inversion import (
        GarmentTextualInversion,
        embedding_path,
        save_embedding,
    )
    from pack.retriever.encoders.open_clip import load_encoder
    from pack.retriever.encoders.recipe import with_recipe
    from pack.retriever.upkeep.build import build_index

    META = torch.device("meta")
    management = comfy.model_management


class Replaced:
    """Replaces attributes of a module for a while."""

    def __init__(self, module, **values):
        self.module, self.values = module, values

    def __enter__(self):
        self.former = {name: getattr(self.module, name) for name in self.values}
        for name, value in self.values.items():
            setattr(self.module, name, value)

    def __exit__(self, *_):
        for name, value in self.former.items():
            setattr(self.module, name, value)


def devices(module) -> set[str]:
    return {tensor.device.type for tensor in (*module.parameters(), *module.buffers())}


def check_that_the_host_splits_modules():
    """What the pack's own patcher is for: with little memory a plain one leaves layers behind."""
    module = load_encoder(ENCODER).model
    patcher = comfy.model_patcher.ModelPatcher(module, META, torch.device("cpu"))
    patcher.partially_load(META, 0.95 * management.module_size(module))
    assert devices(module) == {"cpu", "meta"}, devices(module)


def check_that_an_encoder_is_loaded_whole():
    module = load_encoder(ENCODER).model
    patcher = memory.WholePatcher(module, META, torch.device("cpu"))
    patcher.partially_load(META, management.module_size(module) / 2)
    assert devices(module) == {"meta"}, devices(module)
    assert patcher.loaded_size() > 0
    assert patcher.partially_unload(torch.device("cpu"), 1) == 0
    patcher.partially_load(META, -1000)
    assert devices(module) == {"meta"}, devices(module)


def check_an_encoder_on_a_device_that_is_too_small():
    plain = load_encoder(ENCODER)
    with Replaced(management, text_encoder_device=lambda: META, get_total_memory=lambda device: 1):
        managed = encoders.ManagedEncoder(load_encoder(ENCODER, dtype=torch.float16))
    found = managed.encode_texts(["a red coat"])
    assert torch.allclose(found, plain.encode_texts(["a red coat"]), atol=5e-3)
    assert devices(managed._encoder.model) == {"cpu"}
    assert {p.dtype for p in managed._encoder.model.parameters()} == {torch.float32}


def check_an_encoder_that_runs_out_of_memory():
    """While it is loaded, and while it encodes a single photo."""
    plain = load_encoder(ENCODER)
    photo = Image.new("RGB", (64, 64), "red")

    def full(models, **options):
        if models[0].load_device == META:
            raise RuntimeError("MPS backend out of memory (MPS allocated: 9.0 GB)")

    with Replaced(
        management,
        text_encoder_device=lambda: META,
        get_total_memory=lambda device: 1e30,
        load_models_gpu=full,
    ):
        managed = encoders.ManagedEncoder(load_encoder(ENCODER))
        found = managed.encode_images([photo])
    assert torch.allclose(found, plain.encode_images([photo]), atol=1e-5)

    def full_at_work(models, **options):
        if models[0].load_device == META:
            models[0].model[0].encode_image = fail

    def fail(pixels):
        del managed._encoder.model.encode_image
        raise torch.OutOfMemoryError("CUDA out of memory")

    with Replaced(
        management,
        text_encoder_device=lambda: META,
        get_total_memory=lambda device: 1e30,
        load_models_gpu=full_at_work,
    ):
        managed = encoders.ManagedEncoder(load_encoder(ENCODER))
        found = managed.encode_images([photo])
    assert torch.allclose(found, plain.encode_images([photo]), atol=1e-5)
    assert managed._encoder.device.type == "cpu"


def check_a_transformers_folder_on_a_device_that_is_too_small():
    """Loaded in half precision, then on the CPU in full, with photos prepared as before."""
    plain, photo = load_encoder(SIGLIP), Image.new("RGB", (64, 90), "red")
    with Replaced(management, text_encoder_device=lambda: META, get_total_memory=lambda device: 1):
        managed = encoders.ManagedEncoder(load_encoder(SIGLIP, dtype=torch.float16))
    for found, expected in (
        (managed.encode_texts(["a red coat"]), plain.encode_texts(["a red coat"])),
        (managed.encode_images([photo]), plain.encode_images([photo])),
    ):
        assert torch.allclose(found, expected, atol=5e-3)
    assert managed.fingerprint == plain.fingerprint
    assert torch.equal(managed.prepare(photo), plain.prepare(photo))
    assert devices(managed._encoder.model) == {"cpu"}
    assert {p.dtype for p in managed._encoder.model.parameters()} == {torch.float32}


def check_a_model_folder_among_the_encoders():
    """Its pair of towers too runs on the CPU where the device is too small."""
    with Replaced(management, text_encoder_device=lambda: META, get_total_memory=lambda device: 1):
        managed = encoders.ManagedEncoder(load_encoder(MODEL, dtype=torch.float16))
    found, expected = managed.encode_images(photos()), load_encoder(MODEL).encode_images(photos())
    assert (found * expected).sum(dim=1).min() > 0.99


def dynamic_patcher() -> type:
    """A ModelPatcher that the host takes for a dynamic one, as NVIDIA GPUs have them."""

    class Dynamic(comfy.model_patcher.ModelPatcher):
        non_dynamic_delegate_model = None
        get_non_dynamic_delegate = comfy.model_patcher.ModelPatcherDynamic.get_non_dynamic_delegate

        def is_dynamic(self):
            return True

    return Dynamic


def noise_of(model, conditioning) -> torch.Tensor:
    """One step of sampling."""
    noise = torch.randn(1, 4, 16, 12, generator=torch.Generator().manual_seed(0))
    return comfy.sample.sample(
        model, noise, 1, 3.0, "euler", "normal", conditioning, conditioning,
        torch.zeros_like(noise), seed=0,
    )  # fmt: skip


def check_dynamic_models():
    """TorchCompile and hooks take a copy that is not dynamic, several GPUs one each."""
    with Replaced(comfy.model_patcher, CoreModelPatcher=dynamic_patcher()):
        model, clip, vae, _, _ = model_folder.load_model_folder(MODEL)
        assert model.is_dynamic() and clip.is_dynamic() and vae.patcher.is_dynamic()
        words = clip.encode_from_tokens_scheduled(clip.tokenize("a red coat"))
        values = {
            "concat_latent_image": torch.randn(1, 4, 16, 12),
            "concat_mask": torch.ones(1, 1, 16, 12),
            unet.POSE_KEY: torch.rand(1, 18, 16, 12),
            unet.GARMENT_CONTEXT_KEY: torch.randn_like(words[0][0]),
        }
        conditioning = [[words[0][0], {**words[0][1], **values}]]
        model = unet.with_prompt_depth(model, {2, 3}, 0.0)
        expected = noise_of(model, conditioning)
        without = {**values, unet.POSE_KEY: torch.zeros(1, 18, 16, 12)}
        assert not torch.equal(expected, noise_of(model, [[words[0][0], without]]))
        copies = {
            "compiled": model.clone(disable_dynamic=True),
            "hooks": model.get_non_dynamic_delegate(),
            "hooks again": model.get_non_dynamic_delegate(),
            "second GPU": model.deepclone_multigpu(new_load_device=torch.device("cpu")),
        }
        for name, copy in copies.items():
            assert copy.is_dynamic() == (name == "second GPU"), name
            assert copy.model is not model.model, name
            for patch in copy.object_patches.values():
                method = patch.method
                while isinstance(method, unet._Extended):
                    method = method.method
                assert method.__self__ is copy.model, name
            assert torch.equal(noise_of(copy, conditioning), expected), name
        hooked = clip.clone(disable_dynamic=True)
        assert not hooked.is_dynamic()
        again = hooked.encode_from_tokens(hooked.tokenize("a red coat"))
        assert torch.allclose(again, words[0][0], atol=1e-5)
        vae.patcher.deepclone_multigpu(new_load_device=torch.device("cpu"))


def check_a_dynamic_unet_file():
    """The node Fashion U-Net Loader; the host knows U-Nets of full size only, so it is stood in."""
    made = []

    def load(state_dict, model_options=None, disable_dynamic=False):
        made.append(disable_dynamic)
        folder = MODEL / "unet"
        small = model_folder.read_part(folder, "diffusion_pytorch_model")
        return model_folder._small_unet(
            folder, small[0], unet.unet_diffusers_to_ldm(small[1]), disable_dynamic
        )

    with (
        Replaced(comfy.model_patcher, CoreModelPatcher=dynamic_patcher()),
        Replaced(unet.comfy.sd, load_diffusion_model_state_dict=load),
        Replaced(unet, check_unet=lambda path, state_dict: None),
    ):
        path = MODEL / "unet" / "diffusion_pytorch_model.safetensors"
        model = unet.load_unet(str(path), {})
        assert not model.clone(disable_dynamic=True).is_dynamic()
    assert made == [False, True]


def refusal(call, *arguments) -> str:
    """What a call says that must be refused with a ValueError."""
    try:
        call(*arguments)
    except ValueError as error:
        return str(error)
    raise AssertionError(f"{arguments} is taken")


UNET, VAE, TEXT, VISION = "unet", "vae", "text_encoder", "image_encoder"


def check_a_model_folder_without_all_of_its_weights():
    """The host would leave them uninitialised, log it, and paint with whatever is there."""
    patchers = (comfy.model_patcher.CoreModelPatcher, dynamic_patcher())
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(MODEL, Path(name) / "model"))
        for part in (UNET, VAE, TEXT, VISION):
            (weights,) = (folder / part).glob("*.safetensors")
            whole = load_file(weights)
            # The VAE's is the one by which the host tells diffusers' names.
            known = {
                UNET: "conv_norm_out.bias",
                VAE: "decoder.up_blocks.0.resnets.0.norm1.weight",
            }
            lost = known.get(part) or sorted(whole)[len(whole) // 2]
            for change, message in (
                ({lost: None}, "lacks 1 weights"),
                ({lost: torch.zeros(3, 2)}, "1 weights of another shape"),
            ):
                changed = {k: t for k, t in {**whole, **change}.items() if t is not None}
                save_file(changed, weights)
                for patcher in patchers:
                    with Replaced(comfy.model_patcher, CoreModelPatcher=patcher):
                        error = refusal(model_folder.load_model_folder, folder)
                    assert str(weights) in error and message in error, (part, error)
            # More than the architecture has, former names, and other precisions, are no fault.
            more = {"text_model.embeddings.position_ids": torch.arange(77)[None], **whole}
            if part == VAE:  # as published VAEs are named
                for new, former in (("to_q", "query"), ("to_k", "key"), ("to_v", "value")):
                    more = {k.replace(f".{new}.", f".{former}."): t for k, t in more.items()}
            save_file({k: t.half() for k, t in (whole if part == UNET else more).items()}, weights)
            model_folder.load_model_folder(folder)
        lean = load_file(weights)  # of the vision tower; the pair of towers alone needs it
        del lean["visual_projection.weight"]
        save_file(lean, weights)
        model_folder.load_model_folder(folder)


def check_configurations_that_are_damaged():
    """Every error names the file."""
    cases = {
        UNET: {
            "block_out_channels": (None, [], "320", [7, 8, 9], [64, 0, 64]),
            "in_channels": (None, 9, "27"),
            "attention_head_dim": (None, [2], [2.5, 3, 4], 0, [10**6] * 3),
            "norm_num_groups": (0, 7),
        },
        VAE: {
            "block_out_channels": (None, [32, 32, 32], [40, 40, 40, 40]),
            "latent_channels": (None, 8),
            "layers_per_block": (None, 5),
            "scaling_factor": (1,),
            "norm_num_groups": (7,),
        },
        TEXT: {
            "vocab_size": (None, 5),
            "hidden_size": (None, 3, "64"),
            "num_hidden_layers": (None, 9),
            "max_position_embeddings": (None, 5),
            "hidden_act": (None, "x"),
        },
        VISION: {
            "hidden_size": (None, 3),
            "patch_size": (None, 0),
            "image_size": (None, 1),
            "hidden_act": (None, "x"),
        },
    }
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(MODEL, Path(name) / "model"))
        for part, values in cases.items():
            file = folder / part / "config.json"
            content = file.read_text("utf-8")
            for text in ("{", "[]", "{}"):
                file.write_text(text, "utf-8")
                error = refusal(model_folder.load_model_folder, folder)
                assert str(file) in error, (part, text, error)
            for key, wrong in values.items():
                for value in wrong:
                    changed = {**json.loads(content), key: value}
                    file.write_text(json.dumps(changed), "utf-8")
                    error = refusal(model_folder.load_model_folder, folder)
                    assert str(folder / part) in error, (part, key, value, error)
            file.write_text(content, "utf-8")
        weights = folder / UNET / "diffusion_pytorch_model.safetensors"
        save_file({**load_file(weights), "lora.up": torch.zeros(1)}, weights)
        error = refusal(model_folder.load_model_folder, folder)
        assert str(weights) in error and "lora.up" in error, error
        model_folder.load_model_folder(MODEL)


def check_a_full_size_unet_without_all_of_its_weights():
    """Which the host knows by its sizes; the tensors take no memory."""
    with META:
        network = comfy.ldm.modules.diffusionmodules.openaimodel.UNetModel(
            image_size=32, in_channels=27, out_channels=4, model_channels=320,
            num_res_blocks=[2] * 4, channel_mult=[1, 2, 4, 4], transformer_depth=[1] * 6 + [0] * 2,
            transformer_depth_output=[1] * 9 + [0] * 3, transformer_depth_middle=1, num_heads=-1,
            num_head_channels=64, use_spatial_transformer=True, use_linear_in_transformer=True,
            context_dim=1024, legacy=False, operations=comfy.ops.disable_weight_init,
        )  # fmt: skip
    whole = {
        name: torch.zeros(1).expand(tensor.shape) for name, tensor in network.state_dict().items()
    }
    path = Path("models/one.safetensors")
    unet.check_unet(path, whole)
    unet.check_unet(path, {f"model.diffusion_model.{n}": t.half() for n, t in whole.items()})
    loads = []
    for name in (
        "out.0.bias",
        # The host tells the architecture by these.
        "output_blocks.11.1.transformer_blocks.0.attn2.to_k.weight",
        "input_blocks.4.0.out_layers.3.weight",
        "middle_block.1.proj_in.weight",
    ):
        cut = {key: tensor for key, tensor in whole.items() if key != name}
        with (
            Replaced(unet, load_tensors=lambda path, cut=cut: (cut, {})),
            Replaced(
                unet.comfy.sd, load_diffusion_model_state_dict=lambda *a, **b: loads.append(1)
            ),
        ):
            error = refusal(unet.load_unet, str(path), {})
        assert str(path) in error and name.partition(".proj_in")[0] in error, error
    assert not loads
    error = refusal(unet.check_unet, path, {**whole, "out.0.bias": torch.zeros(7)})
    assert str(path) in error and "out.0.bias" in error and "(7,)" in error, error


def check_one_prompt_depth_and_one_garment_conditioning():
    """A second one failed while sampling; of several conditionings the first alone counted."""
    model, clip, *_ = model_folder.load_model_folder(MODEL)
    words = clip.encode_from_tokens_scheduled(clip.tokenize("a red coat"))
    once, positive = FashionPromptDepth.execute(model, words, words, "3", 0.0).result
    error = refusal(FashionPromptDepth.execute, once, words, positive, "2", 0.5)
    assert "another Fashion Prompt Depth" in error, error
    for garments in ([*words, *words], []):
        error = refusal(FashionPromptDepth.execute, model, garments, words, "3", 0.0)
        assert f"holds {len(garments)} conditionings, expected one" in error, error


def check_names_of_embeddings_that_a_prompt_reads():
    """Whatever name is taken, the host's own tokenizer loads the file by it."""
    taken, refused = set(), set()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        tokenizer = comfy.sd1_clip.SDTokenizer(embedding_directory=name, embedding_size=64)
        signs = [*string.punctuation, " ", "\t", "\u00a0", "\u3000"]
        for sign in signs:
            for word in (f"a{sign}b", f"{sign}b", f"a{sign}"):
                try:
                    path = embedding_path(folder, word)
                except ValueError as error:
                    assert repr(word) in str(error), error
                    refused.add(word)
                    continue
                taken.add(word)
                save_embedding(torch.full((2, 64), float(len(taken))), path, False)
                for text in (f"embedding:{word}", f"a (embedding:{word}:1.2) coat"):
                    tokens = [t for t, *_ in tokenizer.tokenize_with_weights(text)[0]]
                    read = [t[0].item() for t in tokens if torch.is_tensor(t)]
                    assert read == [len(taken)] * 2, (text, read)
        assert {"a-b", "a_b", "a'b", "a,b"} <= taken, taken
        assert {"a b", "a(b", "a)b", "a[b", "a]b", "a{b", "a<b", "a\\b", 'a"b', "a/b"} <= refused
        error = refusal(embedding_path, folder, "a-b.safetensors")
        assert "leave the ending out" in error, error


def check_that_a_changed_embedding_is_noticed():
    with tempfile.TemporaryDirectory() as name:
        folder_paths.add_model_folder_path("embeddings", name)
        for word in ("one", "a,b"):
            for text in (
                f"embedding:{word}",
                f"(embedding:{word}:1.1), coat",
                f"x embedding:{word}, c",
            ):
                former = folders.states_of_embeddings(text)
                (Path(name) / f"{word}.safetensors").write_bytes(b"x" * (1 + len(str(former))))
                assert folders.states_of_embeddings(text) != former, text
                (Path(name) / f"{word}.safetensors").unlink()


def check_that_an_embedding_in_any_text_of_a_prompt_is_watched():
    with tempfile.TemporaryDirectory() as name:
        folder_paths.add_model_folder_path("embeddings", name)
        for socket in ("prompt", "category", "caption"):
            texts = {"prompt": "a", "category": "", "caption": "", "strength": 1.0}
            texts[socket] = "a embedding:watched coat"
            former = GarmentTextualInversion.fingerprint_inputs(**texts)
            (Path(name) / "watched.safetensors").write_bytes(b"x")
            assert GarmentTextualInversion.fingerprint_inputs(**texts) != former, socket
            (Path(name) / "watched.safetensors").unlink()


def check_that_a_file_which_changes_within_a_prompt_is_noticed():
    """One search has read it, another reads it after all fingerprints were taken."""
    with tempfile.TemporaryDirectory() as name:
        photo, saved = Path(name) / "photo.png", Path(name) / "saved.safetensors"
        photo.write_bytes(b"a")
        watched = watch.Watch()
        watched.seen([photo])
        former = watched.number()
        watched.seen([photo])
        assert watched.number() == former, "nothing has changed"
        photo.write_bytes(b"ab")
        watched.seen([photo])
        assert watched.number() != former
        former = watched.number()
        assert watched.number() == former
        for content in (b"a", b"ab"):
            saved.write_bytes(content)
            watched.written(saved)
            assert watched.number() == former, "it is the node's own writing"
        saved.unlink()
        assert watched.number() != former


def check_that_a_dead_link_hides_nothing_else():
    with tempfile.TemporaryDirectory() as name:
        for kind in ("catalogues", "people", "adapters"):
            root = Path(name) / kind
            root.mkdir()
            for loop in ("a loop.safetensors", "z loop.safetensors"):
                (root / loop).symlink_to(root / loop)
            good = root / "good.SAFETENSORS"
            if kind == "adapters":
                good.write_bytes(b"")
            else:
                good.mkdir()
                (good / "mask.png").write_bytes(b"")
            assert set(folders._listed(root, kind)) == {good.name}, kind


def host_encoder():
    _, clip, _, vision, _ = model_folder.load_model_folder(MODEL)
    return encoders.HostEncoder(clip, vision)


def photos() -> list:
    generator = torch.Generator().manual_seed(0)
    made = []
    for width, height in ((300, 400), (1500, 1500), (90, 60), (1200, 1600), (64, 64)):
        pixels = torch.randint(0, 256, (8, 8, 3), generator=generator, dtype=torch.uint8)
        made.append(Image.fromarray(pixels.numpy()).resize((width, height)))
    made.append(made[0].convert("RGBA"))
    made[-1].putalpha(Image.linear_gradient("L").resize(made[-1].size))
    return made


TEXTS = ["a blue denim jacket with metal buttons", "(red:1.4) coat, " * 40]


def check_that_the_pair_is_the_headless_one():
    outside = load_encoder(MODEL)
    with Replaced(management, text_encoder_dtype=lambda device=None: torch.float32):
        inside = host_encoder()
    assert inside.fingerprint == outside.fingerprint
    assert inside.preprocessing == outside.preprocessing and inside.dim == outside.dim
    for ours, theirs in (
        (inside.encode_images(photos()), outside.encode_images(photos())),
        (inside.encode_texts(TEXTS), outside.encode_texts(TEXTS)),
    ):
        assert torch.allclose(ours, theirs, atol=2e-5), (ours - theirs).abs().max()


def check_that_half_precision_is_the_same_pair():
    outside = load_encoder(MODEL)
    for dtype in (torch.float16, torch.bfloat16):
        with Replaced(management, text_encoder_dtype=lambda device=None, dtype=dtype: dtype):
            inside = host_encoder()
        assert next(inside.vision.model.parameters()).dtype == dtype
        assert inside.fingerprint == outside.fingerprint
        cosine = (inside.encode_images(photos()) * outside.encode_images(photos())).sum(dim=1)
        assert cosine.min() > 0.99, cosine
        assert load_encoder(MODEL, dtype=dtype).fingerprint == outside.fingerprint


def check_a_pair_whose_clone_has_a_lora():
    """The host patches the weights that both share, and leaves them so until the other is used."""
    _, clip, _, vision, _ = model_folder.load_model_folder(MODEL)
    plain = encoders.HostEncoder(clip, vision).fingerprint
    changed = clip.clone()
    name = next(key for key in clip.patcher.model_state_dict() if key.endswith("q_proj.weight"))
    shape = clip.patcher.model_state_dict()[name].shape
    assert changed.add_patches({name: ("diff", (torch.ones(shape),))}) == [name]
    patched = encoders.HostEncoder(changed, vision).fingerprint
    assert patched != plain, "the pair with the LoRA is another one, loaded or not"
    assert clip.patcher.model.current_weight_patches_uuid == changed.patcher.patches_uuid
    assert encoders.HostEncoder(clip, vision).fingerprint == plain
    assert encoders.HostEncoder(changed, vision).fingerprint == patched


def check_models_that_are_not_of_the_method():
    assert "holds no text encoder" in refusal(text.TextTower, None)
    other = SimpleNamespace(
        get_wrappers=lambda *_: [], get_model_object=lambda _: torch.nn.Linear(1, 1)
    )
    error = refusal(unet.with_prompt_depth, other, {3}, 0.0)
    assert "The model is a Linear" in error and "Stable Diffusion" in error, error
    with tempfile.TemporaryDirectory() as name:
        folder = Path(shutil.copytree(MODEL, Path(name) / "model"))
        file = folder / "scheduler" / "scheduler_config.json"
        content = json.loads(file.read_text())
        file.write_text(json.dumps(content | {"prediction_type": "v_prediction"}))
        error = refusal(model_folder.load_model_folder, folder)
        assert str(file) in error and "'v_prediction'" in error, error
        file.unlink()
        model_folder.load_model_folder(folder)


def check_that_a_person_stays_on_its_canvas():
    """Sizes as Scale Image to Total Pixels rounds them are taken as they are."""
    for height, width in ((1152, 912), (1024, 1024), (688, 1536)):
        person = torch.rand(1, height, width, 3)
        assert torch.equal(one_picture(person, 1.0, 16), person)
    small = one_picture(torch.rand(1, 1350, 1080, 3), 1.0, 16)
    height, width = small.shape[1:3]
    assert height % 16 == width % 16 == 0 and 0.95 * 2**20 < height * width <= 2**20
    assert abs(width / height - 0.8) < 0.02


def check_masks_of_people_in_any_format():
    with tempfile.TemporaryDirectory() as name:
        for person, files in {
            "anna": ("photo.jpg", "Mask.WEBP"),
            "berta": ("photo.png", "mask.png"),
            "none": ("photo.png", "masks.png"),
        }.items():
            folder = Path(name, "people", person)
            folder.mkdir(parents=True)
            for file in files:
                (folder / file).touch()
        folder_paths.add_model_folder_path("fashion_rag", name)
        found = folders.entries("people")
        assert "anna" in found and "berta" in found and "none" not in found, found


def check_the_fingerprint_of_former_indexes():
    """As version 0.1 computed it from the models on the sockets."""
    inside = host_encoder()
    digest = hashlib.sha256()
    transformer = inside.text.transformer
    for tensor in (
        transformer.text_projection.weight.detach().float().cpu(),
        transformer.get_input_embeddings().weight,
        *inside.vision.model.state_dict().values(),
    ):
        flat = tensor.detach().flatten()
        sample = flat[:: max(1, flat.numel() // 256)].to("cpu", torch.float16)
        digest.update(str(tuple(tensor.shape)).encode() + sample.numpy().tobytes())
    assert inside.had_fingerprint(digest.hexdigest())
    assert not inside.had_fingerprint("0" * 64)


def check_one_progress_bar_and_whole_batches():
    encoder, messages, batches = host_encoder(), [], []
    encode_image = encoder.vision.encode_image

    def counted(pixels, **options):
        batches.append(len(pixels))
        return encode_image(pixels, **options)

    encoder.vision.encode_image = counted
    hook = comfy.utils.PROGRESS_BAR_HOOK
    comfy.utils.set_progress_bar_global_hook(
        lambda value, total, *_, **__: messages.append((value, total))
    )
    try:
        with tempfile.TemporaryDirectory() as name:
            root = Path(name) / "catalogue"
            root.mkdir()
            for number in range(10):
                Image.new("RGB", (40 + number, 50), (number * 20, 9, 9)).save(
                    root / f"{number}.png"
                )
            build_index(root, Path(name) / "index", encoder, batch_size=4, progress=progress_bar())
    finally:
        comfy.utils.set_progress_bar_global_hook(hook)
    assert sorted(batches) == [2, 4, 4, 8], batches  # the 8 colour cards
    assert {total for _, total in messages} == {10}, messages
    assert [value for value, _ in messages] == sorted(value for value, _ in messages)


def check_vision_features_in_smaller_batches():
    _, _, _, vision, _ = model_folder.load_model_folder(MODEL)
    images = torch.rand(5, 40, 30, 3)
    expected = encoders.encode(vision, *pixels_of(vision, images))
    encode_image, largest = vision.encode_image, []

    def small(pixels, **options):
        if len(pixels) > 2:
            raise RuntimeError(
                "[enforce fail at alloc_cpu.cpp:124] DefaultCPUAllocator: can't allocate memory: "
                "you tried to allocate 9437184 bytes."
            )
        largest.append(len(pixels))
        return encode_image(pixels, **options)

    vision.encode_image = small
    assert torch.allclose(encoders.encode(vision, *pixels_of(vision, images)), expected, atol=1e-5)
    assert max(largest) == 2 and sum(largest) == 5


def check_a_changed_u_net_is_loaded_again():
    with tempfile.TemporaryDirectory() as name:
        folder_paths.add_model_folder_path("diffusion_models", name)
        path, other = Path(name) / "one.safetensors", Path(name) / "other.safetensors"
        for file in (path, other):
            file.write_bytes(b"a")

        def fingerprint(name: str | None) -> list:
            return FashionUNetLoader.fingerprint_inputs(name, "default")

        former, linked = fingerprint(path.name), fingerprint(None)
        assert fingerprint(path.name) == former
        other.write_bytes(b"more")
        assert fingerprint(path.name) == former and fingerprint(None) != linked
        path.write_bytes(b"more")
        assert fingerprint(path.name) != former


def check_that_the_page_is_answered_off_the_event_loop():
    """The loop's thread neither reads the index and its photos, nor hashes a picture."""
    at_work: list[tuple[str, str]] = []

    def note(event: str, arguments: tuple) -> None:
        if event in ("open", "os.scandir", "os.listdir", "sqlite3.connect"):
            at_work.append((str(arguments[0]), threading.current_thread().name))

    def hashed(data: bytes):
        at_work.append(("a hash", threading.current_thread().name))
        return hashlib.sha256(data)

    async def ask(paths: list[str]) -> list[int]:
        app = web.Application()
        app.add_routes(stand_in.routes)
        async with TestClient(TestServer(app)) as client:
            states = [(await client.get(f"/fashion_rag{path}")).status for path in paths]
            body = {"query": {"text": "a red coat", "k": 3}}
            states.append((await client.post("/fashion_rag/index/off/search", json=body)).status)
            return states

    queue = SimpleNamespace(currently_running={})
    stand_in = SimpleNamespace(routes=web.RouteTableDef(), prompt_queue=queue)
    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        for number, photo in enumerate(photos()[:3]):
            (store / "catalogues" / "off").mkdir(parents=True, exist_ok=True)
            photo.save(store / "catalogues" / "off" / f"{number}.png")
        (store / "encoders").mkdir()
        (store / "encoders" / ENCODER.name).symlink_to(ENCODER)
        build_index(store / "catalogues" / "off", store / "indexes" / "off", load_encoder(ENCODER))
        folder_paths.add_model_folder_path("fashion_rag", str(store))
        picture = "/index/off/{}?id=0.png"
        paths = ["/indexes", "/index/off", "/index/off/garments"]
        paths += [picture.format(kind) for kind in ("thumbnail", "photo")]
        server.PromptServer.instance = stand_in  # there is none without a running server
        sys.addaudithook(note)
        try:
            with Replaced(gallery_routes, sha256=hashed):
                gallery_routes.add_routes()
                states = asyncio.run(ask(paths))
        finally:
            del server.PromptServer.instance
        work = [(what, thread) for what, thread in at_work if what == "a hash" or name in what]
    assert states == [200] * 6, states
    assert len([what for what, _ in work if what == "a hash"]) == 2 and len(work) > 6, work
    assert {thread.rpartition("_")[0] for _, thread in work} == {"fashion-rag-gallery"}, work


def check_what_the_page_keeps_open():
    """An encoder, and which model folders are not the index's, until their files change."""
    loads: list[str] = []

    def counted(folder: Path):
        loads.append(folder.name)
        return load_encoder(folder)

    with tempfile.TemporaryDirectory() as name:
        store = Path(name) / "store"
        catalogue = store / "catalogues" / "kept"
        catalogue.mkdir(parents=True)
        photos()[0].save(catalogue / "0.png")
        encoder = load_encoder(MODEL)
        encoder.name = "host"
        build_index(catalogue, store / "indexes" / "kept", encoder)
        build_index(catalogue, store / "indexes" / "views", with_recipe(encoder, "views"))
        damaged, good = store / "models" / "a damaged one", store / "models" / "good"
        shutil.copytree(MODEL, damaged)
        (weights,) = (damaged / "text_encoder").glob("*.safetensors")
        weights.write_bytes(weights.read_bytes()[:1000])
        good.symlink_to(MODEL)
        folder_paths.add_model_folder_path("fashion_rag", str(store))
        library = gallery_routes.Library()
        with Replaced(gallery_routes, load_encoder=counted):
            for _ in range(3):
                assert library.encoder(library.index("kept")).fingerprint == encoder.fingerprint
            assert library.encoder(library.index("views")).recipe == "views"
            assert loads == [damaged.name, good.name], loads
            good.unlink()
            for attempt in range(3):
                try:
                    library.encoder(library.index("kept"))
                    raise AssertionError("the encoder was found")
                except ValueError as error:
                    assert "press Run" in str(error), error
                if attempt == 0:
                    loads.clear()
            assert loads == [], loads
            os.utime(weights, (1, 1))
            good.symlink_to(MODEL)
            library.encoder(library.index("kept"))
            assert loads == [damaged.name, good.name], loads

        garments = library.index("kept").garments_at(library.index("kept").rows_of_ids(["0.png"]))
        library.index_with_photos("kept").photo(garments[0])
        catalogue.rename(store / "catalogues" / "moved")
        library.index("kept")
        try:
            library.index_with_photos("kept")
            raise AssertionError("the catalogue was found")
        except FileNotFoundError as error:
            assert "'kept'" in str(error) and "'moved'" in str(error), error
        (store / "catalogues" / "moved").rename(catalogue)
        library.index_with_photos("kept").photo(garments[0])


def check_names_of_other_bytes():
    """They are not offered; the log and the page get them escaped."""
    odd = "/photos/\udcff.jpg"
    stream = io.TextIOWrapper(io.BytesIO(), encoding="utf-8", write_through=True)
    handler = logging.StreamHandler(stream)
    logging.getLogger().addHandler(handler)
    odd_names.escape_log("pack")
    try:
        logging.getLogger("pack.retriever.open_index").warning("%s: %s", odd, ValueError(odd))
    finally:
        logging.getLogger().removeHandler(handler)
        logging.getLogger("pack").handlers.clear()
    assert stream.buffer.getvalue() == rb"/photos/\udcff.jpg: /photos/\udcff.jpg" + b"\n"

    class Failing(comfy_io.ComfyNode):
        @classmethod
        def define_schema(cls):
            return comfy_io.Schema(node_id="Failing")

        @classmethod
        def execute(cls, found=None):
            try:
                raise ValueError(odd)
            except ValueError as error:
                raise FileNotFoundError(f"{odd} is missing") from error

    try:
        odd_names.with_escaped_errors(Failing).execute(found=1)
        raise AssertionError("no error")
    except FileNotFoundError:
        traceback.format_exc().encode("utf-8")

    if sys.platform == "linux":
        with tempfile.TemporaryDirectory() as name:
            for folder in (b"\xff\xfe", b"good"):
                path = os.path.join(os.fsencode(name), b"indexes", folder)
                os.makedirs(path)
                Path(os.fsdecode(path), "manifest.json").write_text("{")
            folder_paths.add_model_folder_path("fashion_rag", name)
            found = folders.entries("indexes")
            assert "good" in found and not [one for one in found if not one.isascii()], found


def pixels_of(vision, images) -> tuple:
    from pack.adapter.garment.garment_images import garment_pixels

    return garment_pixels(images, "fit", vision.image_size), "last_hidden_state"


def main() -> None:
    results = {}
    for name, check in list(globals().items()):
        if name.startswith("check_"):
            try:
                with torch.inference_mode():  # as ComfyUI runs its nodes
                    check()
                results[name] = ""
            except Exception:  # told to the test, which fails with it
                results[name] = traceback.format_exc()
    sys.stdout.write("\n" + json.dumps(results) + "\n")


if __name__ == "__main__":
    main()
