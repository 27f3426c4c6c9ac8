"""Serves in the other ways that aiohttp has: a static folder, a table of routes, a middleware, an application's loop."""

import asyncio
import os

from aiohttp import web
from server import PromptServer

server = PromptServer.instance
server.app.router.add_static("/tests/files", os.path.join(os.path.dirname(__file__), "files"))


async def number(request):
    # `number` is read and assigned by packs that queue prompts themselves.
    server.number += 1
    return web.json_response({"number": server.number, "own_loop": asyncio.get_running_loop() is server.loop})


async def queue(request):
    prompt = (await request.json())["prompt"]
    server.prompt_queue.put((server.number, "put-by-a-pack", prompt, {}, list(prompt)))
    return web.json_response({"left": server.prompt_queue.get_tasks_remaining()})


server.app.add_routes([web.get("/tests/number", number), web.post("/tests/queue", queue)])


@web.middleware
async def mark(request, handler):
    response = await handler(request)
    response.headers["X-Tests"] = "marked"
    return response


server.app.middlewares.append(mark)
NODE_CLASS_MAPPINGS = {}
