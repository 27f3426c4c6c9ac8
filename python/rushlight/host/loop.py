"""The event loop of this side: async nodes run on it, and the routes that nodes add are served from it.

The routes run in a real aiohttp application on a Unix socket (a loopback port on Windows) that only the server
knows the secret of; the server forwards what it does not know itself.
"""

from __future__ import annotations

import asyncio
import hmac
import inspect
import logging
import os
import secrets
import shutil
import sys
import tempfile
import threading

from . import state

SECRET_HEADER = "x-rushlight-forward"

_loop: "asyncio.AbstractEventLoop | None" = None
_lock = threading.Lock()
_runner = None
_folder: "str | None" = None


def get() -> asyncio.AbstractEventLoop:
    """The loop; its thread starts with the first call."""
    global _loop
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            ready = threading.Event()

            def run():
                asyncio.set_event_loop(_loop)
                _loop.call_soon(ready.set)
                _loop.run_forever()

            threading.Thread(target=run, name="rushlight-loop", daemon=True).start()
            ready.wait()
        return _loop


def run(coroutine):
    """Run a coroutine on the loop and wait for it; not to be called from the loop itself."""
    return asyncio.run_coroutine_threadsafe(coroutine, get()).result()


def settle(value):
    """The value, or the result of the coroutine that it is."""
    if not inspect.iscoroutine(value) and not isinstance(value, asyncio.Future):
        return value

    async def wait():
        return await value

    return run(wait())


def serve_routes() -> None:
    """Serve the routes that nodes added, if any did."""
    from .homes import prompt_server

    server = prompt_server()
    if not server.wants_routes():
        return
    try:
        run(_serve(server.finish_app()))
    except Exception as error:
        logging.error("The routes of custom nodes cannot be served: %r", error, exc_info=True)


async def _serve(app) -> None:
    global _runner, _folder
    from aiohttp import web

    secret = secrets.token_hex(32)

    @web.middleware
    async def only_the_server(request, handler):
        if not hmac.compare_digest(request.headers.get(SECRET_HEADER, ""), secret):
            return web.Response(status=403)
        return await handler(request)

    app.middlewares.insert(0, only_the_server)
    _runner = web.AppRunner(app, access_log=None)
    await _runner.setup()
    if sys.platform == "win32":
        site = web.TCPSite(_runner, "127.0.0.1", 0)
        await site.start()
        state.app.tell_forward(secret, port=_runner.addresses[0][1])
    else:
        _folder = tempfile.mkdtemp(prefix="rushlight-")
        path = os.path.join(_folder, "routes.sock")
        await web.UnixSite(_runner, path).start()
        state.app.tell_forward(secret, socket=path)


def end() -> None:
    """Stop serving and end the loop."""
    global _loop
    loop = _loop
    if loop is None:
        return
    if _runner is not None:
        try:
            asyncio.run_coroutine_threadsafe(_runner.cleanup(), loop).result(timeout=5)
        except Exception as error:
            logging.warning("Routes of custom nodes did not end well: %r", error)
    if _folder is not None:
        shutil.rmtree(_folder, ignore_errors=True)
    loop.call_soon_threadsafe(loop.stop)
    _loop = None
