class PyExtra:
    RELATIVE_PYTHON_MODULE = "comfy_extras.nodes_extra"

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "x"})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "advanced"
    OUTPUT_NODE = True

    def run(self, text):
        return {"ui": {"text": [text]}, "result": (text,)}


NODE_CLASS_MAPPINGS = {"PyExtra": PyExtra}
