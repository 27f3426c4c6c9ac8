"""What a model makes of the same files and prompts on a ComfyUI server and on ours must be the same numbers.

Needs COMFYUI_DIR as :mod:`test_beside_original` does. Weights are random (:mod:`generated_models`), so that latents are
noise to look at; that does not matter to arithmetic. Latents are compared: largest difference over largest number.
"""

from __future__ import annotations

import io
import os
import time

import numpy as np
import pytest
import requests
from PIL import Image

import beside
import generated_models as models
from harness import Server

# Both compute in f32; sums are added up in another order.
TOLERANCE = 2e-4
# Ours keeps changed weights in the file's sixteen bits, the original on a CPU in f32.
ROUNDED = 5e-3


def node(class_type: str, **inputs) -> dict:
    return {"class_type": class_type, "inputs": inputs}


def sampled(changes: dict | None = None, /, **sampler) -> dict:
    """A prompt that samples and saves a latent: further or other nodes, and inputs of its KSampler."""
    defaults = {
        "model": ["ckpt", 0], "positive": ["pos", 0], "negative": ["neg", 0], "latent_image": ["empty", 0], "seed": 7,
        "steps": 3, "cfg": 5.0, "sampler_name": "euler", "scheduler": "normal", "denoise": 1.0,
    }
    return {
        "ckpt": node("CheckpointLoaderSimple", ckpt_name="a.safetensors"),
        "pos": node("CLIPTextEncode", clip=["ckpt", 1], text="a red cat on a (green:1.2) mat"),
        "neg": node("CLIPTextEncode", clip=["ckpt", 1], text="blurry"),
        "empty": node("EmptyLatentImage", width=64, height=64, batch_size=1),
        "k": node("KSampler", **{**defaults, **sampler}),
        "save": node("SaveLatent", samples=["k", 0], filename_prefix="latents/x"),
        **(changes or {}),
    }


def patched(class_type: str, **inputs) -> dict:
    """Sampled with a model that a node changed."""
    return sampled({"m": node(class_type, model=["ckpt", 0], **inputs)}, model=["m", 0])


def guided(guider: dict, **more) -> dict:
    """Sampled by SamplerCustomAdvanced with a guider."""
    return sampled({
        "g": guider,
        "noise": node("RandomNoise", noise_seed=7),
        "which": node("KSamplerSelect", sampler_name="euler"),
        "sigmas": node("BasicScheduler", model=["ckpt", 0], scheduler="normal", steps=3, denoise=1.0),
        "k": node("SamplerCustomAdvanced", noise=["noise", 0], guider=["g", 0], sampler=["which", 0], sigmas=["sigmas", 0], latent_image=["empty", 0]),
        **more,
    })


PICTURE = {"picture": node("LoadImage", image="picture.png")}
ENCODED = {**PICTURE, "encoded": node("VAEEncode", pixels=["picture", 0], vae=["ckpt", 2])}
MASK = {"solid": node("SolidMask", value=0.9, width=64, height=64), "mask": node("FeatherMask", mask=["solid", 0], left=40, top=24, right=0, bottom=0)}


def control(**inputs) -> dict:
    defaults = {"positive": ["pos", 0], "negative": ["neg", 0], "control_net": ["net", 0], "image": ["picture", 0], "strength": 1.0, "start_percent": 0.0, "end_percent": 1.0}
    return node("ControlNetApplyAdvanced", **{**defaults, **inputs})


CONTROL = {**PICTURE, "net": node("ControlNetLoader", control_net_name="control.safetensors"), "c": control()}
BOTH = {"positive": ["c", 0], "negative": ["c", 1]}
NINE = {"nine": node("UNETLoader", unet_name="inpaint.safetensors", weight_dtype="default")}
SECOND = {"ckpt2": node("UNETLoader", unet_name="b.safetensors", weight_dtype="default")}


def merged(class_type: str, **inputs) -> dict:
    return sampled({**SECOND, "m": node(class_type, model1=["ckpt", 0], model2=["ckpt2", 0], **inputs)}, model=["m", 0])


def discrete(sampling: str, zsnr: bool = False, **sampler) -> dict:
    # Numbers of steps are such that every level is a timestep's. One halfway between two of them belongs to the one or the
    # other by the last bit of the logarithms, which differs between mathematical libraries.
    return sampled({"m": node("ModelSamplingDiscrete", model=["ckpt", 0], sampling=sampling, zsnr=zsnr)}, model=["m", 0], **{"steps": 4, **sampler})


LARGER = {"empty": node("EmptyLatentImage", width=128, height=96, batch_size=1)}


def tiled(**inputs) -> dict:
    return sampled({**LARGER, "m": node("HyperTile", model=["ckpt", 0], **{"tile_size": 32, "swap_size": 1, "max_depth": 0, "scale_depth": False, **inputs})}, model=["m", 0])


def sa_solver(predictor: int, corrector: int, pece: bool = False) -> dict:
    return guided(
        node("CFGGuider", model=["ckpt", 0], positive=["pos", 0], negative=["neg", 0], cfg=3.0),
        which=node("SamplerSASolver", model=["ckpt", 0], eta=1.0, sde_start_percent=0.2, sde_end_percent=0.8, s_noise=1.0, predictor_order=predictor, corrector_order=corrector, use_pece=pece, simple_order_2=True),
        sigmas=node("BasicScheduler", model=["ckpt", 0], scheduler="karras", steps=6, denoise=1.0),
    )


def placed(class_type: str, **inputs) -> dict:
    """A text for a part of a larger picture, and one for all of it."""
    return sampled({**LARGER, "there": node(class_type, conditioning=["pos", 0], **inputs), "all": node("ConditioningCombine", conditioning_1=["there", 0], conditioning_2=["neg", 0])}, positive=["all", 0])


def worded(**texts) -> dict:
    return sampled({name: node("CLIPTextEncode", clip=["ckpt", 1], text=text) for name, text in texts.items()})


CASES = {
    "plain": sampled(),
    "a batch": sampled({"empty": node("EmptyLatentImage", width=64, height=64, batch_size=2)}),
    "no guidance": sampled(cfg=1.0),
    "image to image": sampled(ENCODED, latent_image=["encoded", 0], denoise=0.6),
    "upscaled latent": sampled({
        "up": node("LatentUpscale", samples=["k", 0], upscale_method="bislerp", width=96, height=80, crop="disabled"),
        "k2": node("KSampler", model=["ckpt", 0], positive=["pos", 0], negative=["neg", 0], latent_image=["up", 0], seed=3, steps=3, cfg=4.0, sampler_name="dpmpp_2m", scheduler="karras", denoise=0.5),
        "save": node("SaveLatent", samples=["k2", 0], filename_prefix="latents/x"),
    }),
    # Text.
    "a long prompt": worded(pos="a cat, " * 40),
    "clip skip": sampled({"skip": node("CLIPSetLastLayer", clip=["ckpt", 1], stop_at_clip_layer=-2), "pos": node("CLIPTextEncode", clip=["skip", 0], text="a cat")}),
    "an embedding": worded(pos="a embedding:mine cat"),
    "a weighted embedding": worded(pos="a (embedding:mine.safetensors, cat:1.3)"),
    "an unknown embedding": worded(pos="a embedding:none cat"),
    # Guidance.
    "self-attention guidance": patched("SelfAttentionGuidance", scale=0.8, blur_sigma=2.0),
    "self-attention guidance, less": patched("SelfAttentionGuidance", scale=-0.5, blur_sigma=0.7),
    "perturbed attention": patched("PerturbedAttentionGuidance", scale=3.0),
    "RescaleCFG": patched("RescaleCFG", multiplier=0.7),
    "CFGZeroStar": patched("CFGZeroStar"),
    "CFGNorm": patched("CFGNorm", strength=0.9),
    "TCFG": patched("TCFG"),
    "Mahiro": patched("Mahiro"),
    "Epsilon Scaling": patched("Epsilon Scaling", scaling_factor=1.1),
    "TemporalScoreRescaling": patched("TemporalScoreRescaling", tsr_k=0.9, tsr_sigma=0.5),
    "APG": patched("APG", eta=0.5, norm_threshold=0.0, momentum=0.0),
    "APG with momentum": patched("APG", eta=1.0, norm_threshold=5.0, momentum=-0.5),
    "APG in two stages a step": sampled({"m": node("APG", model=["ckpt", 0], eta=0.7, norm_threshold=15.0, momentum=0.3)}, model=["m", 0], sampler_name="heun"),
    "FreSca": patched("FreSca", scale_low=0.8, scale_high=1.5, freq_cutoff=2),
    "FreSca of a larger picture": sampled({"m": node("FreSca", model=["ckpt", 0], scale_low=1.2, scale_high=0.7, freq_cutoff=3), "empty": node("EmptyLatentImage", width=72, height=88, batch_size=1)}, model=["m", 0]),
    "RenormCFG": patched("RenormCFG", cfg_trunc=100.0, renorm_cfg=0.5),
    "RenormCFG for a while": patched("RenormCFG", cfg_trunc=5.0, renorm_cfg=0.8),
    "PerpNeg": sampled({"nothing": node("CLIPTextEncode", clip=["ckpt", 1], text=""), "m": node("PerpNeg", model=["ckpt", 0], empty_conditioning=["nothing", 0], neg_scale=0.7)}, model=["m", 0]),
    "PerpNegGuider": guided(
        node("PerpNegGuider", model=["ckpt", 0], positive=["pos", 0], negative=["neg", 0], empty_conditioning=["nothing", 0], cfg=6.0, neg_scale=0.8),
        nothing=node("CLIPTextEncode", clip=["ckpt", 1], text=""),
    ),
    "CFGGuider": guided(node("CFGGuider", model=["ckpt", 0], positive=["pos", 0], negative=["neg", 0], cfg=6.0)),
    "DualCFGGuider": guided(node("DualCFGGuider", model=["ckpt", 0], cond1=["pos", 0], cond2=["neg", 0], negative=["neg", 0], cfg_conds=6.0, cfg_cond2_negative=3.0, style="regular")),
    # The network.
    "FreeU": patched("FreeU", b1=1.1, b2=1.2, s1=0.9, s2=0.2),
    "FreeU_V2": patched("FreeU_V2", b1=1.3, b2=1.4, s1=0.9, s2=0.2),
    "Deep Shrink": patched("PatchModelAddDownscale", block_number=3, downscale_factor=2.0, start_percent=0.0, end_percent=0.6, downscale_after_skip=True, downscale_method="bicubic", upscale_method="bicubic"),
    "HyperTile": tiled(),
    "HyperTile of a square": sampled({"m": node("HyperTile", model=["ckpt", 0], tile_size=32, swap_size=1, max_depth=0, scale_depth=False)}, model=["m", 0]),
    "HyperTile with a choice": tiled(swap_size=4, max_depth=1),
    "HyperTile growing with depth": tiled(max_depth=2, scale_depth=True),
    "attention multiplied": patched("UNetSelfAttentionMultiply", q=1.2, k=0.9, v=1.1, out=0.8),
    # Sampling.
    **{f"discrete {kind}{' zsnr' if zsnr else ''}": discrete(kind, zsnr) for kind in ("eps", "v_prediction", "x0") for zsnr in (False, True)},
    **{f"continuous EDM {kind}": patched("ModelSamplingContinuousEDM", sampling=kind, sigma_max=80.0, sigma_min=0.002) for kind in ("v_prediction", "edm", "edm_playground_v2.5", "eps", "cosmos_rflow")},
    "Cosmos' levels, a part of the way": sampled({**ENCODED, "m": node("ModelSamplingContinuousEDM", model=["ckpt", 0], sampling="cosmos_rflow", sigma_max=80.0, sigma_min=0.002)}, model=["m", 0], latent_image=["encoded", 0], denoise=0.6, scheduler="karras"),
    **{f"Stable Cascade's levels, {scheduler}": sampled({"m": node("ModelSamplingStableCascade", model=["ckpt", 0], shift=2.0)}, model=["m", 0], scheduler=scheduler) for scheduler in ("simple", "normal")},
    "latent consistency, normal": discrete("lcm"),
    "latent consistency, sgm_uniform": discrete("lcm", scheduler="sgm_uniform", steps=3),
    **{f"SA-Solver, simple steps {at}": sa_solver(*at) for at in ((2, 2), (2, 3), (3, 2, True))},
    "continuous V": patched("ModelSamplingContinuousV", sampling="v_prediction", sigma_max=500.0, sigma_min=0.03),
    "flow": patched("ModelSamplingSD3", shift=3.0),
    "AuraFlow": patched("ModelSamplingAuraFlow", shift=1.73),
    "Flux": patched("ModelSamplingFlux", max_shift=1.15, base_shift=0.5, width=512, height=512),
    # Merging.
    "ModelMergeSimple": merged("ModelMergeSimple", ratio=0.4),
    "ModelMergeAdd": sampled({
        **{name: node("UNETLoader", unet_name=f"thin-{name}.safetensors", weight_dtype="default") for name in ("c", "d")},
        "m": node("ModelMergeAdd", model1=["c", 0], model2=["d", 0]),
    }, model=["m", 0]),
    "ModelMergeSubtract": merged("ModelMergeSubtract", multiplier=0.5),
    "ModelMergeBlocks": merged("ModelMergeBlocks", input=0.2, middle=0.5, out=0.8),
    # Masks and inpainting.
    "a soft mask": sampled({**ENCODED, **MASK, "masked": node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0])}, latent_image=["masked", 0]),
    "differential diffusion": sampled({**ENCODED, **MASK, "masked": node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0]), "m": node("DifferentialDiffusion", model=["ckpt", 0], strength=1.0)}, model=["m", 0], latent_image=["masked", 0], steps=6),
    "differential diffusion, half": sampled({**ENCODED, **MASK, "masked": node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0]), "m": node("DifferentialDiffusion", model=["ckpt", 0], strength=0.5)}, model=["m", 0], latent_image=["masked", 0], steps=6, denoise=0.8),
    "VAEEncodeForInpaint": sampled({**PICTURE, **MASK, "masked": node("VAEEncodeForInpaint", pixels=["picture", 0], vae=["ckpt", 2], mask=["mask", 0], grow_mask_by=6)}, latent_image=["masked", 0]),
    "InpaintModelConditioning": sampled({**PICTURE, **MASK, "c": node("InpaintModelConditioning", positive=["pos", 0], negative=["neg", 0], vae=["ckpt", 2], pixels=["picture", 0], mask=["mask", 0], noise_mask=True)}, **BOTH, latent_image=["c", 2]),
    **{f"inpainting model{', noise everywhere' if not masked else ''}": sampled({
        **PICTURE, **MASK, **NINE,
        "c": node("InpaintModelConditioning", positive=["pos", 0], negative=["neg", 0], vae=["ckpt", 2], pixels=["picture", 0], mask=["mask", 0], noise_mask=masked),
    }, **BOTH, model=["nine", 0], latent_image=["c", 2]) for masked in (True, False)},
    "inpainting model without a picture": sampled(NINE, model=["nine", 0]),
    "inpainting model with a mask alone": sampled({**NINE, **ENCODED, **MASK, "masked": node("SetLatentNoiseMask", samples=["encoded", 0], mask=["mask", 0])}, model=["nine", 0], latent_image=["masked", 0]),
    # Areas.
    "a masked text": sampled({**MASK, "there": node("ConditioningSetMask", conditioning=["pos", 0], mask=["mask", 0], strength=0.9, set_cond_area="mask bounds"), "all": node("ConditioningCombine", conditioning_1=["there", 0], conditioning_2=["neg", 0])}, positive=["all", 0]),
    "an area": placed("ConditioningSetArea", width=64, height=64, x=24, y=16, strength=0.8),
    "an area by percent": placed("ConditioningSetAreaPercentage", width=0.6, height=0.5, x=0.3, y=0.4, strength=1.2),
    "a weaker text": sampled({"there": node("ConditioningSetAreaStrength", conditioning=["pos", 0], strength=0.4), "all": node("ConditioningCombine", conditioning_1=["there", 0], conditioning_2=["neg", 0])}, positive=["all", 0]),
    "a masked text all over": sampled({**MASK, "there": node("ConditioningSetMask", conditioning=["pos", 0], mask=["mask", 0], strength=0.7, set_cond_area="default"), "all": node("ConditioningCombine", conditioning_1=["there", 0], conditioning_2=["neg", 0])}, positive=["all", 0]),
    "a negative area": sampled({**LARGER, "there": node("ConditioningSetArea", conditioning=["neg", 0], width=64, height=64, x=64, y=0, strength=1.0), "all": node("ConditioningCombine", conditioning_1=["there", 0], conditioning_2=["neg", 0])}, negative=["all", 0]),
    # Control.
    "control": sampled(CONTROL, **BOTH),
    "weaker control": sampled({**CONTROL, "c": control(strength=0.4)}, **BOTH),
    "control for a while": sampled({**CONTROL, "c": control(start_percent=0.3, end_percent=0.7)}, **BOTH, steps=5),
    "two controls": sampled({**CONTROL, "first": control(strength=0.7), "c": control(positive=["first", 0], negative=["first", 1], strength=0.5, end_percent=0.5)}, **BOTH),
    "control of the positive alone": sampled({**CONTROL, "c": node("ControlNetApply", conditioning=["pos", 0], control_net=["net", 0], image=["picture", 0], strength=0.8)}, positive=["c", 0]),
    "control with a mask": sampled({**CONTROL, **MASK, "there": node("ConditioningSetMask", conditioning=["c", 0], mask=["mask", 0], strength=1.0, set_cond_area="default")}, positive=["there", 0], negative=["c", 1]),
    # The autoencoder.
    "encoded": sampled({**ENCODED, "save": node("SaveLatent", samples=["encoded", 0], filename_prefix="latents/x")}),
    "encoded in tiles": sampled({
        "picture": node("LoadImage", image="large.png"),
        "encoded": node("VAEEncodeTiled", pixels=["picture", 0], vae=["ckpt", 2], tile_size=128, overlap=32, temporal_size=64, temporal_overlap=8),
        "save": node("SaveLatent", samples=["encoded", 0], filename_prefix="latents/x"),
    }),
}

# Merged and multiplied weights, see ROUNDED.
LESS_EXACT = {name for name in CASES if name.startswith("ModelMerge") and name != "ModelMergeAdd"} | {"attention multiplied"}

PICTURES = {
    "decoded": node("VAEDecode", samples=["k", 0], vae=["ckpt", 2]),
    "decoded in tiles": node("VAEDecodeTiled", samples=["k", 0], vae=["ckpt", 2], tile_size=64, overlap=16, temporal_size=64, temporal_overlap=8),
}


def write_models(folder) -> None:
    """The files that the prompts name."""
    shape, nine = models.UNetShape(), models.UNetShape(inputs=9)
    models.make(folder / "checkpoints" / "a.safetensors", {**shape.unet(), **models.clip_l(), **models.vae()})
    models.make(folder / "diffusion_models" / "b.safetensors", shape.unet(), salt=1)
    models.make(folder / "diffusion_models" / "inpaint.safetensors", nine.unet(), salt=2)
    # Sums of weights are rounded the most: these files' are of thirty-two bits.
    thin = models.UNetShape(factors=(1,), attention=(True,)).unet()
    for salt, name in enumerate(("c", "d"), start=3):
        models.make(folder / "diffusion_models" / f"thin-{name}.safetensors", thin, salt=salt, dtype=np.float32)
    models.make(folder / "controlnet" / "control.safetensors", shape.control())
    models.make(folder / "embeddings" / "mine.safetensors", {"emb_params": (3, 768)})


def write_pictures(folder) -> None:
    """Pictures with edges and gradients."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, (height, width) in {"picture": (64, 64), "large": (200, 264)}.items():
        y, x = np.mgrid[0:height, 0:width] / np.array([[[height]], [[width]]])
        pixels = np.stack([x, y, (np.sin(x * 17) * np.cos(y * 11) > 0) * 0.8], axis=2)
        Image.fromarray((pixels * 255).astype(np.uint8)).save(folder / f"{name}.png")


@pytest.fixture(scope="module")
def pair(tmp_path_factory):
    """The original and our server over the same model files."""
    if not os.environ.get("COMFYUI_DIR"):
        pytest.skip("MODELS NOT COMPARED WITH THE ORIGINAL: set COMFYUI_DIR (and COMFYUI_PYTHON) to run it")
    bases = [tmp_path_factory.mktemp(name) for name in ("original", "ours")]
    files = tmp_path_factory.mktemp("files")
    write_models(files)
    for base in bases:
        for path in files.rglob("*.safetensors"):
            linked = base / "models" / path.relative_to(files)
            linked.parent.mkdir(parents=True, exist_ok=True)
            os.link(path, linked)
        write_pictures(base / "input")
    original = beside.original_from_environment(bases[0])
    ours = Server(bases[1]).start()
    yield original, ours
    original.stop()
    ours.stop()


def outputs(server, graph: dict) -> dict:
    """What a prompt's `save` node left."""
    posted = requests.post(f"{server.url}/prompt", json={"prompt": graph}, timeout=60)
    assert posted.status_code == 200, posted.text
    prompt_id, entry = posted.json()["prompt_id"], None
    deadline = time.monotonic() + 300
    while entry is None and time.monotonic() < deadline:
        time.sleep(0.05)
        entry = requests.get(f"{server.url}/history/{prompt_id}", timeout=60).json().get(prompt_id)
    assert entry is not None, "it took too long"
    assert entry["status"]["status_str"] == "success", entry["status"]["messages"]
    return entry["outputs"]["save"]


def latent(server, graph: dict) -> np.ndarray:
    (item,) = outputs(server, graph)["latents"]
    return models.load(server.base / "output" / item["subfolder"] / item["filename"])["latent_tensor"]


def error(theirs: np.ndarray, ours: np.ndarray) -> float:
    assert theirs.shape == ours.shape
    assert np.isfinite(theirs).all()
    return float(np.abs(theirs - ours).max() / np.abs(theirs).max())


@pytest.mark.parametrize("name", CASES)
def test_latents_are_the_same(pair, name):
    found = error(*(latent(server, CASES[name]) for server in pair))
    assert found < (ROUNDED if name in LESS_EXACT else TOLERANCE)


@pytest.mark.parametrize("name", PICTURES)
def test_pictures_are_the_same(pair, name):
    graph = sampled({
        "empty": node("EmptyLatentImage", width=128, height=96, batch_size=1),
        "decoded": PICTURES[name],
        "save": node("SaveImage", images=["decoded", 0], filename_prefix="x"),
    })
    theirs, ours = (
        np.asarray(Image.open(io.BytesIO((server.base / "output" / outputs(server, graph)["images"][0]["filename"]).read_bytes())), np.int32)
        for server in pair
    )
    assert np.abs(theirs - ours).max() <= 1
