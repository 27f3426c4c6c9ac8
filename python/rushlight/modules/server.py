"""``server``: the running server, as custom nodes know it."""

from __future__ import annotations

import functools
import json
import logging
import threading
import uuid  # noqa: F401 - packs use server.uuid

from rushlight.host import errors, imports, loop, previews, running, state


class BinaryEventTypes:
    """Ids of binary frames."""

    PREVIEW_IMAGE = 1
    UNENCODED_PREVIEW_IMAGE = 2
    TEXT = 3
    PREVIEW_IMAGE_WITH_METADATA = 4


def _need_aiohttp():
    return imports.library("aiohttp.web", "a route of a custom node")


# Imported by whoever asks for it only.
__getattr__ = errors.module_getattr("server", lazy={"web": _need_aiohttp})


class _Sessions:
    """The connected sessions, as a read-only mapping."""

    def __iter__(self):
        return iter(state.app.sessions())

    def __len__(self):
        return len(state.app.sessions())

    def __contains__(self, sid):
        return sid in state.app.sessions()

    def keys(self):
        return state.app.sessions()

    def get(self, sid, default=None):
        return _Session(sid) if sid in self else default

    def __getitem__(self, sid):
        if sid not in self:
            raise KeyError(sid)
        return _Session(sid)

    def items(self):
        return [(sid, _Session(sid)) for sid in self]

    def values(self):
        return [_Session(sid) for sid in self]


class _SessionMetadata(_Sessions):
    """What sessions said of themselves, as a read-only mapping."""

    def __getitem__(self, sid):
        flags = state.app.session_flags(sid)
        if flags is None:
            raise KeyError(sid)
        return {"feature_flags": flags}

    def get(self, sid, default=None):
        try:
            return self[sid]
        except KeyError:
            return default

    def items(self):
        return [(sid, self.get(sid, {})) for sid in self]

    def values(self):
        return [entry for _, entry in self.items()]


class _Session:
    """One connected session."""

    def __init__(self, sid):
        self.sid = sid

    @property
    def closed(self):
        return state.app.session_flags(self.sid) is None

    async def send_json(self, message):
        state.app.send(message["type"], message.get("data"), self.sid)

    async def send_bytes(self, data):
        state.app.send(int.from_bytes(data[:4], "big"), bytes(data[4:]), self.sid)


class _PromptQueue:
    """The queue and the history."""

    def __init__(self, server):
        self.server = server
        self.mutex = threading.RLock()

    def get_current_queue(self):
        running_items, pending = state.app.queue()
        return [tuple(item) for item in running_items], [tuple(item) for item in pending]

    get_current_queue_volatile = get_current_queue

    def get_tasks_remaining(self):
        running_items, pending = state.app.queue()
        return len(running_items) + len(pending)

    @property
    def currently_running(self):
        return dict(enumerate(self.get_current_queue()[0]))

    @property
    def queue(self):
        return self.get_current_queue()[1]

    @property
    def history(self):
        return self.get_history()

    def get_history(self, prompt_id=None, max_items=None, offset=-1, map_function=None):
        start = offset if offset is not None and offset >= 0 else None
        history = state.app.history(prompt_id, max_items, start)
        if map_function is not None:
            history = {key: map_function(entry) for key, entry in history.items()}
        return history

    def put(self, item):
        number, prompt_id, prompt, extra_data, outputs, *_ = item
        extra_data = dict(extra_data or {})
        body = {
            "prompt": prompt,
            "prompt_id": prompt_id,
            "number": number,
            "extra_data": extra_data,
            "partial_execution_targets": list(outputs) if outputs else None,
        }
        if extra_data.get("client_id") is not None:
            body["client_id"] = extra_data["client_id"]
        accepted, answer = state.app.submit(body)
        if not accepted:
            raise ValueError(f"the prompt was refused: {answer['error'].get('message')}: {answer['error'].get('details')}")

    def delete_queue_item(self, function):
        for item in self.get_current_queue()[1]:
            if function(item):
                return state.app.delete_queued(item[1])
        return False

    def wipe_queue(self):
        state.app.delete_queued(None)

    def wipe_history(self):
        state.app.delete_history(None)

    def delete_history_item(self, prompt_id):
        state.app.delete_history(prompt_id)

    def set_flag(self, name, data):
        if name in ("unload_models", "free_memory"):
            state.app.free(name == "unload_models" and bool(data), name == "free_memory" and bool(data))


class _UserManager:
    """Users' folders. Users themselves are the server's to keep."""

    def get_request_user_id(self, request):
        import folder_paths

        user = request.headers.get("comfy-user", "default") if state.options.get("args", {}).get("multi_user") else "default"
        if folder_paths.get_public_user_directory(user) is None:
            raise KeyError(f"there is no user {user!r}")
        return user

    def get_request_user_filepath(self, request, file, type="userdata", create_dir=True):
        import os

        import folder_paths

        root = folder_paths.get_public_user_directory(self.get_request_user_id(request))
        if type != "userdata":
            raise KeyError(f"users have no files of type {type!r}")
        path = root if file is None else os.path.abspath(os.path.join(root, file))
        if os.path.commonpath((root, path)) != os.path.abspath(root):
            return None
        if create_dir:
            os.makedirs(os.path.dirname(path) if file is not None else root, exist_ok=True)
        return path

    def __getattr__(self, name):
        raise errors.ServerOwnError(f"PromptServer.instance.user_manager.{name}", "users are the server's: see GET /users")


class _NodeReplaceManager:
    """Accepts replacements that packs register; the frontend reads them from the packs' own routes."""

    def __init__(self):
        self.replacements = []

    def register(self, replacement):
        self.replacements.append(replacement)


@functools.lru_cache(maxsize=None)
def _warn_once(text):
    logging.warning("%s", text)


class PromptServer:
    """The server. There is one: :attr:`instance`."""

    instance: "PromptServer" = None

    def __init__(self, loop=None):
        PromptServer.instance = self
        self.prompt_queue = _PromptQueue(self)
        self.sockets = _Sessions()
        self.sockets_metadata = _SessionMetadata()
        self.supports = ["custom_nodes_from_web"]
        self.number = 0
        self.on_prompt_handlers = []
        self.messages = None
        self.user_manager = _UserManager()
        self.node_replace_manager = _NodeReplaceManager()
        self._routes = None
        self._app = None

    # Where a run is

    @property
    def client_id(self):
        context = running.current()
        return None if context is None else context.client_id

    @client_id.setter
    def client_id(self, value):
        _warn_once("PromptServer.client_id is the running prompt's: setting it changes nothing")

    @property
    def last_node_id(self):
        context = running.current()
        return None if context is None else context.node_id or None

    @last_node_id.setter
    def last_node_id(self, value):
        _warn_once("PromptServer.last_node_id is the running node's: setting it changes nothing")

    @property
    def last_prompt_id(self):
        context = running.current()
        return None if context is None else context.prompt_id

    @property
    def loop(self):
        return loop.get()

    @property
    def address(self):
        listen = state.options.get("listen") or "127.0.0.1"
        return listen.split(",")[0]

    @property
    def port(self):
        return state.options.get("port", 8188)

    # Events

    def send_sync(self, event, data, sid=None):
        """Send an event: a name with JSON data, or a number with bytes. To everyone if ``sid`` is ``None``."""
        if event == BinaryEventTypes.UNENCODED_PREVIEW_IMAGE:
            context = running.current()
            kind, image = previews.encode(data, 0 if context is None else context.preview_size)
            state.app.send_preview(kind == "JPEG", image, sid)
            return
        if event == BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA and isinstance(data, (tuple, list)):
            self._send_preview(*data, sid)
            return
        state.app.send(event, data, sid)

    def _send_preview(self, preview, metadata, sid):
        """A picture with JSON beside it; a client that does not take that gets the picture."""
        context = running.current()
        kind, image = previews.encode(preview, 0 if context is None else context.preview_size)
        text = json.dumps({**metadata, "image_type": f"image/{kind.lower()}"}).encode()
        for session in [sid] if sid is not None else state.app.sessions():
            if (state.app.session_flags(session) or {}).get("supports_preview_metadata"):
                payload = len(text).to_bytes(4, "big") + text + image
                state.app.send(BinaryEventTypes.PREVIEW_IMAGE_WITH_METADATA, payload, session)
            else:
                state.app.send_preview(kind == "JPEG", image, session)

    async def send(self, event, data, sid=None):
        self.send_sync(event, data, sid)

    async def send_json(self, event, data, sid=None):
        self.send_sync(event, data, sid)

    async def send_bytes(self, event, data, sid=None):
        self.send_sync(event, data, sid)

    async def send_image(self, image_data, sid=None):
        self.send_sync(BinaryEventTypes.UNENCODED_PREVIEW_IMAGE, image_data, sid)

    def send_progress_text(self, text, node_id, sid=None):
        """Show a text on a node: to the client of the prompt that the calling node belongs to. What belongs to no node is
        for the client of the running prompt, and for everyone while none runs."""
        if isinstance(text, (bytes, bytearray)):
            text = bytes(text).decode("utf-8", "replace")
        context, node_id = running.current_of_caller(), None if node_id is None else str(node_id)
        if context is not None:
            context.progress_text(str(text), node_id, sid)
        else:
            state.app.progress_text(str(text), node_id or "", sid)

    def queue_updated(self):
        """The server tells its clients itself when the queue changes."""

    def get_queue_info(self):
        return {"exec_info": {"queue_remaining": self.prompt_queue.get_tasks_remaining()}}

    # Prompts

    def add_on_prompt_handler(self, handler):
        """Let ``handler(json)`` change what is submitted, before it is validated."""
        self.on_prompt_handlers.append(handler)
        if state.app is not None:
            state.app.tell_prompt_handlers()

    def trigger_on_prompt(self, json_data):
        for handler in self.on_prompt_handlers:
            try:
                json_data = handler(json_data)
            except Exception:
                logging.warning("An on-prompt handler failed", exc_info=True)
        return json_data

    # Routes

    @property
    def routes(self):
        if self._routes is None:
            self._routes = _need_aiohttp().RouteTableDef()
        return self._routes

    @property
    def app(self):
        if self._app is None:
            self._app = _need_aiohttp().Application(client_max_size=1 << 40)
        return self._app

    def add_routes(self):
        """Routes are added when every pack has loaded."""

    def wants_routes(self) -> bool:
        """Whether a pack asked for routes."""
        return self._app is not None or bool(self._routes)

    def finish_app(self):
        """The application with every route, each also under ``/api``."""
        app = self.app
        under_api = _need_aiohttp().RouteTableDef()
        for route in self._routes or ():
            if isinstance(route, _need_aiohttp().RouteDef):
                under_api.route(route.method, "/api" + route.path, **route.kwargs)(route.handler)
        for table in (under_api, self._routes):
            if table:
                app.add_routes(table)
        return app


PromptServer()
