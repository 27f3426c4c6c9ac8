"""What runs beside the server: called by the extension module, never by nodes.

- :mod:`~rushlight.host.state`: the server and the options of this start.
- :mod:`~rushlight.host.homes`: where the modules that nodes import come from.
- :mod:`~rushlight.host.folders`: model folders and others, told to the server.
- :mod:`~rushlight.host.imports`: imports files.
- :mod:`~rushlight.host.loader`: finds and imports packs of nodes.
- :mod:`~rushlight.host.adapter`: calls node classes of either generation.
- :mod:`~rushlight.host.progress`: bars, told to the server, and by it to handlers and hooks of packs.
- :mod:`~rushlight.host.running`: which node runs, seen from any thread.
- :mod:`~rushlight.host.signals`: handlers that packs set.
- :mod:`~rushlight.host.loop`: the event loop: async nodes, and routes that nodes add.
"""

import logging

from . import state


def start(app) -> None:
    """Load everything into a server that has just opened its socket."""
    from . import homes, loader, logs, loop, running, signals

    state.begin(app)
    logs.begin()
    running.follow_threads()
    signals.keep()
    try:
        homes.begin()
        packs = loader.find()
        loader.run_prestartup(packs)
        homes.finish()
        loader.load_all(packs)
    except BaseException as error:  # noqa: B036 - a pack may call sys.exit while it loads
        logging.error("Loading custom nodes failed: %r", error, exc_info=True)
    loop.serve_routes()
    app.tell_versions(homes.versions())


def on_prompt(body):
    """Let the handlers that nodes added change a submitted prompt."""
    from .homes import prompt_server

    return prompt_server().trigger_on_prompt(body)


def refresh() -> None:
    """Tell the server of what packs changed since it last asked: folders, and who hears of bars."""
    import sys

    from . import folders, progress

    folder_paths = sys.modules.get("folder_paths")
    if folder_paths is not None:
        folders.share(folder_paths)
    progress.share()


def run_ended(prompt_id: str) -> None:
    """Forget what belongs to a prompt that has ended."""
    from . import constants

    constants.forget(prompt_id)


def free(unload_models: bool, free_memory: bool) -> None:
    """Give memory of Python models back."""
    import gc
    import sys

    from . import interrupts

    # Ours would ask the server, which is who asks here.
    engine = interrupts.checkout_management()
    if engine is not None and unload_models:
        engine.unload_all_models()
    gc.collect()
    management = sys.modules.get("comfy.model_management")
    if management is not None:
        management.soft_empty_cache()


def stop() -> None:
    """End what was started."""
    from . import loop

    loop.end()
