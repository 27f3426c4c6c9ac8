"""Nodes that a server has to survive."""

import asyncio
import importlib
import logging
import os
import signal
import subprocess
import sys
import threading
import time

from server import PromptServer

# The original imports packs in the main thread, where this works.
before = signal.signal(signal.SIGTERM, lambda *_: print("the pack's own handler"))
signal.signal(signal.SIGINT, signal.SIG_IGN)


class OwnBaseException(BaseException):
    """Is no Exception."""


class Misbehave:
    """Does one of the things that nodes should not do."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": ("STRING", {"default": "fork"})}}

    RETURN_TYPES = ("STRING",)
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, how):
        return {"ui": {"text": [str(getattr(self, how.replace(" ", "_"))())]}, "result": (how,)}

    def fork(self):
        child = os.fork()
        if child == 0:
            os._exit(7)
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

    def start_a_program(self):
        return subprocess.run([sys.executable, "-c", "print(42)"], capture_output=True, text=True).stdout.strip()

    def leave_threads(self):
        def tick(daemon):
            while True:
                time.sleep(0.05)
                PromptServer.instance.send_sync("difficult.tick", {"daemon": daemon})

        for daemon in (True, False):
            threading.Thread(target=tick, args=(daemon,), daemon=daemon).start()
        return "two"

    def change_signals(self):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        return "changed"

    def print_much(self):
        print("x" * 3_000_000)
        for number in range(2000):
            print("line", number)
        logging.warning("logged by a pack")
        return "printed"

    def raise_own(self):
        raise OwnBaseException("no Exception")

    def raise_cancelled(self):
        raise asyncio.CancelledError

    def raise_generator_exit(self):
        raise GeneratorExit

    def raise_stop(self):
        raise StopIteration("in a node")

    def recurse(self):
        return self.recurse()

    def raise_unprintable(self):
        class Unprintable(Exception):
            def __str__(self):
                raise RuntimeError("no text")

        raise Unprintable

    def change_folder(self):
        os.chdir("/")
        return os.getcwd()


class MisbehaveAsync:
    """The same as a coroutine."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["exit", "interrupt", "sleep"],)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    async def run(self, how):
        await asyncio.sleep(0.01)
        if how == "exit":
            sys.exit(3)
        if how == "interrupt":
            raise KeyboardInterrupt
        await asyncio.sleep(60)


class Shape:
    """Gives results of every wrong shape."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"how": (["none", "many", "empty", "list", "ui only", "wrong ui"],)}}

    RETURN_TYPES = ("INT", "INT")
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, how):
        return {
            "none": None, "many": (1, 2, 3), "empty": (), "list": [1, 2], "ui only": {"ui": {"text": ["u"]}},
            "wrong ui": {"ui": ["text"], "result": (1, 2)},
        }[how]


class HoldTheInterpreter:
    """Is in one call of C code that never lets the interpreter go."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"count": ("INT", {"default": 10**8, "max": 10**11})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, count):
        begun = time.monotonic()
        sum(range(count))
        return {"ui": {"seconds": [time.monotonic() - begun]}}


class Growing:
    """Has one more choice each time it is asked."""

    choices = ["first"]

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"choice": (list(cls.choices),)}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, choice):
        Growing.choices.append(choice + "+")
        return {"ui": {"text": [choice]}}


class Validate:
    """Asks whether a prompt could be queued."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"checked": ("STRING", {})}}

    @classmethod
    def IS_CHANGED(cls, **_):
        return float("nan")

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    async def run(self, checked):
        import execution

        prompt = {"7": {"class_type": checked, "inputs": {"text": "fine"}}}
        valid, error, outputs, _ = await execution.validate_prompt("an-id", prompt, None)
        queue = PromptServer.instance.prompt_queue.get_tasks_remaining()
        return {"ui": {"answer": [valid, None if error is None else error["type"], outputs, queue]}}


NODE_CLASS_MAPPINGS = {
    "TestMisbehave": Misbehave, "TestMisbehaveAsync": MisbehaveAsync, "TestShape": Shape,
    "TestHoldTheInterpreter": HoldTheInterpreter, "TestGrowing": Growing, "TestValidate": Validate,
}


class CallCore:
    """Calls core classes from where ComfyUI has them."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"mask": ("MASK",)}}

    RETURN_TYPES = ("IMAGE",)
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, mask):
        from comfy_extras.nodes_mask import InvertMask, MaskToImage

        by_class, by_instance = MaskToImage.execute(mask), MaskToImage().mask_to_image(mask)
        inverted = InvertMask.execute(mask=mask)
        shown = [float(result[0].reshape(-1)[0]) for result in (by_class, by_instance, inverted)]
        return {"ui": {"first": shown}, "result": (by_class[0],)}


NODE_CLASS_MAPPINGS["TestCallCore"] = CallCore


class Names:
    """Which dotted names cannot be had."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"names": ("STRING", {"multiline": True})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, names):
        return {"ui": {"missing": [name for name in names.split() if not self.has(name)]}}

    def has(self, name):
        parts = name.split(".")
        for count in range(len(parts), 0, -1):
            try:
                found = importlib.import_module(".".join(parts[:count]))
            except (ImportError, AttributeError):
                continue
            for part in parts[count:]:
                if not hasattr(found, part.replace("()", "")):
                    return False
                found = getattr(found, part.replace("()", ""))
                found = found() if part.endswith("()") else found
            return True
        return False


NODE_CLASS_MAPPINGS["TestNames"] = Names
