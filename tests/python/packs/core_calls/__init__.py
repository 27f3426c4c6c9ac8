"""Calls and subclasses core classes in the ways that packs do."""

import inspect

import nodes



class CallByPosition:
    """Calls with positional arguments, in ComfyUI's order."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",), "clip": ("CLIP",), "vae": ("VAE",)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, model, clip, vae):
        from comfy_extras.nodes_mask import GrowMask, SolidMask

        get = nodes.NODE_CLASS_MAPPINGS
        positive = nodes.CLIPTextEncode().encode(clip, "a red heart")[0]
        negative = nodes.CLIPTextEncode().encode(clip, text="")[0]
        latent = nodes.EmptyLatentImage().generate(64, 64)[0]
        sampled = nodes.KSampler().sample(model, 1, 1, 1.0, "euler", "normal", positive, negative, latent)[0]
        decoded = nodes.VAEDecode().decode(vae, sampled)[0]
        mask = SolidMask().solid(0.5, 8, 8)[0]
        masked = nodes.ConditioningSetMask().append(positive, mask, "default", 0.5)[0]
        shapes = {
            "decoded": decoded, "encoded": nodes.VAEEncode().encode(vae, decoded)[0]["samples"],
            "tiled": nodes.VAEDecodeTiled().decode(vae, sampled, 512)[0],
            "inpaint": nodes.VAEEncodeForInpaint().encode(vae, decoded, SolidMask().solid(1.0, 64, 64)[0])[0]["samples"],
            "sampled": sampled["samples"], "grown": GrowMask().expand_mask(mask, 1, True)[0],
            "padded": get["ImagePadForOutpaint"]().expand_image(decoded, 8, 16, 0, 0, 0)[0],
            "flipped": get["LatentFlip"]().flip(sampled, "x-axis: vertically")[0]["samples"],
        }
        shown = [[name, list(value.shape)] for name, value in shapes.items()] + [["masked", masked[0][1]["mask_strength"]]]
        try:
            nodes.CLIPTextEncode().encode(clip)
            wrong = "no error"
        except TypeError as error:
            wrong = str(error)
        return {"ui": {"shapes": shown, "wrong": [wrong], "signature": [str(inspect.signature(nodes.VAEDecode.decode))]}}


NODE_CLASS_MAPPINGS = {"TestCallByPosition": CallByPosition}

if hasattr(nodes, "LoadImage"):

    class LoadImage(nodes.LoadImage):
        """Chains to the core class's hooks."""

        CATEGORY = "tests"

        @classmethod
        def IS_CHANGED(cls, image):
            return super().IS_CHANGED(image)

        @classmethod
        def VALIDATE_INPUTS(cls, image):
            return super().VALIDATE_INPUTS(image)

    NODE_CLASS_MAPPINGS["TestLoadImage"] = LoadImage
