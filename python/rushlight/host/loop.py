"""The event loop of this side: async nodes run on it, and the routes that nodes add are served from it.

The routes run in a real aiohttp application on a Unix socket (a loopback port on Windows) that only the server
knows the secret of; the server forwards what it does not know itself.
"""

from __future__ import annotations

import asyncio
import concurrent.futures
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
_thread: "threading.Thread | None" = None
_lock = threading.Lock()
_runner = None
_folder: "str | None" = None


def get() -> asyncio.AbstractEventLoop:
    """The loop; its thread starts with the first call."""
    global _loop, _thread
    with _lock:
        if _loop is None:
            _loop = asyncio.new_event_loop()
            ready = threading.Event()
            _thread = threading.Thread(target=_run_loop, args=(_loop, ready), name="rushlight-loop", daemon=True)
            _thread.start()
            ready.wait()
        return _loop


def _run_loop(loop: asyncio.AbstractEventLoop, ready: threading.Event) -> None:
    asyncio.set_event_loop(loop)
    loop.call_soon(ready.set)
    while True:
        try:
            loop.run_forever()
            return
        except BaseException as error:  # noqa: B036 - nothing that a node raises may end the loop for the others
            logging.warning("The event loop goes on after %r", error)


def thread_id() -> "int | None":
    """Python's id of the loop's thread."""
    return None if _thread is None else _thread.ident


def run(coroutine):
    """Run a coroutine on the loop and wait for it. On the loop's own thread, which must not wait for itself, it runs on
    a loop of its own beside it."""
    if threading.current_thread() is _thread:
        return _run_beside(coroutine)
    future = asyncio.run_coroutine_threadsafe(coroutine, get())
    try:
        while True:
            # Waited for in steps: an exception for this thread is raised between them.
            done, _ = concurrent.futures.wait((future,), timeout=0.1)
            if done:
                return future.result()
    except BaseException:
        future.cancel()
        raise


def _run_beside(coroutine):
    with concurrent.futures.ThreadPoolExecutor(1, thread_name_prefix="rushlight-beside") as pool:
        return pool.submit(asyncio.run, coroutine).result()


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
    global _loop, _thread
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
    _loop = _thread = None
