from server import PromptServer


class PackNode:
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "x"})}, "hidden": {"unique_id": "UNIQUE_ID"}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "pack"
    OUTPUT_NODE = True

    def run(self, text, unique_id):
        PromptServer.instance.send_progress_text("from the checkout", unique_id)
        return {"ui": {"text": [text]}}


NODE_CLASS_MAPPINGS = {"PackNode": PackNode}
