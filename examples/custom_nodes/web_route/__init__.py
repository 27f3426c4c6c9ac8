"""Routes and a page of a pack's own, and a handler that sees every prompt before it is validated."""

from aiohttp import WSMsgType, web
from server import PromptServer

WEB_DIRECTORY = "web"

notes = {}
routes = PromptServer.instance.routes


@routes.get("/examples/notes/{name}")
async def get_note(request):
    name = request.match_info["name"]
    if name not in notes:
        return web.json_response({"error": "no such note"}, status=404)
    return web.json_response({"name": name, "text": notes[name]}, headers={"X-Example": "yes"})


@routes.post("/examples/notes/{name}")
async def put_note(request):
    notes[request.match_info["name"]] = (await request.read()).decode()
    return web.json_response({"bytes": len(notes[request.match_info["name"]])}, status=201)


@routes.get("/examples/stream")
async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(3):
        await response.write(f"{number}\n".encode())
    await response.write_eof()
    return response


@routes.get("/examples/echo")
async def echo(request):
    socket = web.WebSocketResponse()
    await socket.prepare(request)
    async for message in socket:
        if message.type == WSMsgType.TEXT:
            await socket.send_str("echo: " + message.data)
    return socket


def rename(body):
    """``ExampleOldText`` is a former name of ``ExampleText``."""
    for node in body.get("prompt", {}).values():
        if isinstance(node, dict) and node.get("class_type") == "ExampleOldText":
            node["class_type"] = "ExampleText"
    return body


PromptServer.instance.add_on_prompt_handler(rename)


class Text:
    """Shows a text."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"text": ("STRING", {"default": "", "multiline": True})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "show"
    CATEGORY = "examples"
    OUTPUT_NODE = True

    def show(self, text):
        print(f"text is {text}")
        return {"ui": {"text": (text,)}, "result": (text,)}

    @classmethod
    def VALIDATE_INPUTS(cls, text):
        return "swearing is not allowed" if "damn" in text else True


NODE_CLASS_MAPPINGS = {"ExampleText": Text}
