"""Nodes of the third generation: everything that they show, and progress by their own API."""

import math

import folder_paths
from comfy_api.latest import ComfyAPI, ComfyAPISync, ComfyExtension, io, ui


def zeros(*shape):
    """A tensor of the library that is there."""
    try:
        import torch

        return torch.zeros(shape)
    except ImportError:
        import numpy

        return numpy.zeros(shape, dtype="float32")


def tone(rate, channels):
    """Half a second of A at half the volume, one sound."""
    waveform = zeros(1, channels, rate // 2)
    for place in range(rate // 2):
        waveform[..., place] = 0.5 * math.sin(2 * math.pi * 440 * place / rate)
    return {"waveform": waveform, "sample_rate": rate}


class Show(io.ComfyNode):
    """Shows something in one of the ways that there are."""

    @classmethod
    def define_schema(cls):
        ways = ["image", "mask", "audio", "text", "video", "3d", "saved images", "animated png", "animated webp"]
        return io.Schema(node_id="TestV3Show", inputs=[io.Combo.Input("how", options=ways)], is_output_node=True)

    @classmethod
    def execute(cls, how):
        pictures = zeros(2, 4, 6, 3)
        shown = {
            "image": lambda: ui.PreviewImage(pictures, cls=cls),
            "mask": lambda: ui.PreviewMask(zeros(1, 4, 6), cls=cls),
            "audio": lambda: ui.PreviewAudio(tone(8000, 1), cls=cls),
            "text": lambda: ui.PreviewText("a text"),
            "video": lambda: ui.PreviewVideo([ui.SavedResult("v.mp4", "sub", io.FolderType.output)]),
            "3d": lambda: ui.PreviewUI3D("model.glb", None),
            "saved images": lambda: ui.ImageSaveHelper.get_save_images_ui(pictures, "third/saved", cls=cls),
            "animated png": lambda: ui.SavedImages([ui.ImageSaveHelper.save_animated_png(
                pictures, "third/moving", io.FolderType.output, cls, 8.0, 4)], is_animated=True),
            "animated webp": lambda: ui.SavedImages([ui.ImageSaveHelper.save_animated_webp(
                pictures, "third/moving", io.FolderType.output, cls, 8.0, True, 80, 4)], is_animated=True),
        }[how]()
        return io.NodeOutput(ui=shown)


class SaveSound(io.ComfyNode):
    """Saves a tone, and looks at what is in the file."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3SaveSound", is_output_node=True,
            inputs=[io.String.Input("format"), io.Int.Input("rate", default=44100), io.Int.Input("channels", default=2),
                    io.String.Input("quality", default="128k")],
            outputs=[io.String.Output()],
        )

    @classmethod
    def execute(cls, format, rate, channels, quality):
        shown = ui.AudioSaveHelper.get_save_audio_ui(tone(rate, channels), "third/sound", cls=cls, format=format, quality=quality)
        saved = shown.as_dict()["audio"][0]
        return io.NodeOutput(f"{folder_paths.get_output_directory()}/{saved['subfolder']}/{saved['filename']}", ui=shown)


class Progress(io.ComfyNode):
    """Moves its bar by the API for functions."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TestV3Progress", inputs=[io.Int.Input("steps")], outputs=[io.Int.Output()], is_output_node=True)

    @classmethod
    def execute(cls, steps):
        api = ComfyAPISync()
        for step in range(steps):
            api.execution.set_progress(step + 1, steps, preview_image=_picture())
        return io.NodeOutput(steps)


class ProgressAsync(io.ComfyNode):
    """The same as a coroutine."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="TestV3ProgressAsync", inputs=[io.Int.Input("steps")], outputs=[io.Int.Output()], is_output_node=True
        )

    @classmethod
    async def execute(cls, steps):
        api = ComfyAPI()
        for step in range(steps):
            await api.execution.set_progress(step + 1, steps, preview_image=_picture())
        return io.NodeOutput(steps)


def _picture():
    from PIL import Image

    return Image.new("RGB", (8, 4), (200, 0, 0))


class Video(io.ComfyNode):
    """Makes a video of pictures."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="TestV3Video", inputs=[io.String.Input("kind")], is_output_node=True)

    @classmethod
    def execute(cls, kind):
        from fractions import Fraction

        from comfy_api.input import AudioInput, VideoInput
        from comfy_api.input_impl import VideoFromComponents, VideoFromFile
        from comfy_api.util import VideoComponents

        assert issubclass(VideoFromComponents, VideoInput) and issubclass(VideoFromFile, VideoInput) and AudioInput
        if kind == "file":
            return io.NodeOutput(ui=ui.PreviewText(str(VideoFromFile("none.mp4").get_dimensions())))
        video = VideoFromComponents(VideoComponents(images=zeros(4, 16, 32, 3), frame_rate=Fraction(8)))
        return io.NodeOutput(ui=ui.PreviewText(str(video.get_dimensions())))


class Pack(ComfyExtension):
    async def get_node_list(self):
        return [Show, SaveSound, Progress, ProgressAsync, Video]


async def comfy_entrypoint():
    return Pack()
