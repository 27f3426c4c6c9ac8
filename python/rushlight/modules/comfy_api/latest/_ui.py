"""What frontends show of a node: saved files, previews and text."""

from __future__ import annotations

import json
import os
import random
import uuid

import folder_paths
from rushlight.host import imports

from ._io import FolderType


class SavedResult(dict):
    """One file: ``filename``, ``subfolder``, ``type``."""

    def __init__(self, filename, subfolder, type):
        super().__init__(filename=filename, subfolder=subfolder, type=getattr(type, "value", type))

    filename = property(lambda self: self["filename"])
    subfolder = property(lambda self: self["subfolder"])
    type = property(lambda self: self["type"])


class _UI:
    def as_dict(self) -> dict:
        raise NotImplementedError


class SavedImages(_UI):
    """Pictures."""

    def __init__(self, results, is_animated=False):
        self.results, self.is_animated = list(results), is_animated

    def as_dict(self):
        made = {"images": self.results}
        if self.is_animated:
            made["animated"] = (True,)
        return made


class SavedAudios(_UI):
    """Sounds."""

    def __init__(self, results):
        self.results = list(results)

    def as_dict(self):
        return {"audio": self.results}


def _hidden(cls, name):
    return getattr(getattr(cls, "hidden", None), name, None)


def _png_metadata(cls):
    metadata = imports.library("PIL.PngImagePlugin", "ui.ImageSaveHelper").PngInfo()
    for key, text in _texts(cls).items():
        metadata.add_text(key, text)
    return metadata


def _pictures(images):
    numpy = imports.library("numpy", "ui.ImageSaveHelper")
    Image = imports.library("PIL.Image", "ui.ImageSaveHelper")
    for image in images:
        array = image.detach().cpu().numpy() if hasattr(image, "detach") else numpy.asarray(image)
        yield Image.fromarray(numpy.clip(255.0 * array, 0, 255).astype(numpy.uint8))


def _folder(folder_type):
    return folder_paths.get_directory_by_type(getattr(folder_type, "value", folder_type))


class ImageSaveHelper:
    """Saves pictures."""

    @staticmethod
    def save_images(images, filename_prefix, folder_type, cls, compress_level=4):
        height, width = images[0].shape[0], images[0].shape[1]
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
            filename_prefix, _folder(folder_type), width, height
        )
        saved = []
        for number, picture in enumerate(_pictures(images)):
            file = f"{name.replace('%batch_num%', str(number))}_{counter:05}_.png"
            picture.save(os.path.join(folder, file), pnginfo=_png_metadata(cls), compress_level=compress_level)
            saved.append(SavedResult(file, subfolder, folder_type))
            counter += 1
        return saved

    @staticmethod
    def get_save_images_ui(images, filename_prefix, cls, compress_level=4):
        return SavedImages(ImageSaveHelper.save_images(images, filename_prefix, FolderType.output, cls, compress_level))

    @staticmethod
    def save_animated_png(images, filename_prefix, folder_type, cls, fps, compress_level):
        return _animated(images, filename_prefix, folder_type, "png", fps, compress_level=compress_level,
                         pnginfo=_png_metadata(cls))

    @staticmethod
    def save_animated_webp(images, filename_prefix, folder_type, cls, fps, lossless, quality, method):
        return _animated(images, filename_prefix, folder_type, "webp", fps, lossless=lossless, quality=quality,
                         method=method)


def _animated(images, filename_prefix, folder_type, extension, fps, **options):
    pictures = list(_pictures(images))
    folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(
        filename_prefix, _folder(folder_type), pictures[0].width, pictures[0].height
    )
    file = f"{name}_{counter:05}_.{extension}"
    pictures[0].save(os.path.join(folder, file), save_all=True, append_images=pictures[1:],
                     duration=int(1000.0 / fps), **options)
    return SavedResult(file, subfolder, folder_type)


class AudioSaveHelper:
    """Saves sounds: WAV files with the standard library, others with PyAV where it is installed."""

    @staticmethod
    def save_audio(audio, filename_prefix, folder_type, cls, format="flac", quality="128k"):
        numpy = imports.library("numpy", "ui.AudioSaveHelper")
        write = _write_wav if format == "wav" else _encoder(format)
        folder, name, counter, subfolder, _ = folder_paths.get_save_image_path(filename_prefix, _folder(folder_type))
        waveform = audio["waveform"]
        waveform = waveform.detach().cpu().numpy() if hasattr(waveform, "detach") else numpy.asarray(waveform)
        saved = []
        for number, sound in enumerate(waveform):
            file = f"{name.replace('%batch_num%', str(number))}_{counter:05}_.{format}"
            write(os.path.join(folder, file), sound, int(audio["sample_rate"]), quality, _texts(cls))
            saved.append(SavedResult(file, subfolder, folder_type))
            counter += 1
        return saved

    @staticmethod
    def get_save_audio_ui(audio, filename_prefix, cls, format="flac", quality="128k"):
        return SavedAudios(AudioSaveHelper.save_audio(audio, filename_prefix, FolderType.output, cls, format, quality))


def _write_wav(path, sound, rate, quality, texts):
    import wave

    import numpy

    with wave.open(path, "wb") as out:
        out.setnchannels(sound.shape[0])
        out.setsampwidth(2)
        out.setframerate(rate)
        out.writeframes((numpy.clip(sound.T, -1, 1) * 32767).astype("<i2").tobytes())


def _encoder(format):
    codec = {"flac": "flac", "mp3": "libmp3lame", "opus": "libopus"}.get(format)
    if codec is None:
        raise ValueError(f"sounds are saved as wav, flac, mp3 or opus, not {format}")
    av = imports.library("av", f"saving sounds as {format} (wav needs nothing)")

    def write(path, sound, rate, quality, texts):
        import numpy

        # Opus knows few rates; the codec resamples to the one that it is given.
        target = 48000 if format == "opus" and rate not in (8000, 12000, 16000, 24000, 48000) else rate
        layout = "mono" if sound.shape[0] == 1 else "stereo"
        with av.open(path, "w") as container:
            container.metadata.update(texts)
            stream = container.add_stream(codec, rate=target, layout=layout)
            if format != "flac" and quality and quality[-1] == "k":
                stream.bit_rate = int(quality[:-1]) * 1000
            frame = av.AudioFrame.from_ndarray(
                numpy.ascontiguousarray(sound[:2], dtype=numpy.float32), format="fltp", layout=layout
            )
            frame.sample_rate = rate
            for part in (frame, None):
                container.mux(stream.encode(part))

    return write


def _texts(cls) -> dict:
    """The prompt and the workflow, as files carry them."""
    from comfy.cli_args import args

    if args.disable_metadata:
        return {}
    texts = {} if _hidden(cls, "prompt") is None else {"prompt": json.dumps(_hidden(cls, "prompt"))}
    texts.update((key, json.dumps(value)) for key, value in (_hidden(cls, "extra_pnginfo") or {}).items())
    return texts


def _temp_prefix(kind):
    return f"ComfyUI_{kind}_" + "".join(random.choice("abcdefghijklmnopqrstuvwxyz") for _ in range(5))


class PreviewImage(_UI):
    """Pictures in the temp folder."""

    def __init__(self, image, animated=False, cls=None, **kwargs):
        self.values = ImageSaveHelper.save_images(image, _temp_prefix("temp"), FolderType.temp, cls, 1)
        self.animated = animated

    def as_dict(self):
        return {"images": self.values, "animated": (self.animated,)}


class PreviewMask(PreviewImage):
    """Masks as grey pictures in the temp folder."""

    def __init__(self, mask, animated=False, cls=None, **kwargs):
        shape = tuple(mask.shape)
        pictures = mask.reshape((-1, shape[-2], shape[-1], 1))
        if hasattr(pictures, "expand"):
            pictures = pictures.expand(-1, -1, -1, 3)
        else:
            import numpy

            pictures = numpy.repeat(pictures, 3, axis=-1)
        super().__init__(pictures, animated, cls, **kwargs)


class PreviewAudio(_UI):
    """Sounds in the temp folder."""

    def __init__(self, audio, cls=None, **kwargs):
        self.values = AudioSaveHelper.save_audio(audio, _temp_prefix("audio"), FolderType.temp, cls, "wav")

    def as_dict(self):
        return {"audio": self.values}


class PreviewVideo(_UI):
    """Videos that are saved already."""

    def __init__(self, values, **kwargs):
        self.values = values

    def as_dict(self):
        return {"images": self.values, "animated": (True,)}


class PreviewUI3D(_UI):
    """A 3D model that is saved already."""

    def __init__(self, model_file, camera_info=None, **kwargs):
        self.model_file, self.camera_info = model_file, camera_info

    def as_dict(self):
        return {"result": [self.model_file, self.camera_info, None]}


class PreviewText(_UI):
    """A text."""

    def __init__(self, value, **kwargs):
        self.value = value

    def as_dict(self):
        return {"text": (self.value,)}


def unique_name() -> str:
    """A name that no file has."""
    return uuid.uuid4().hex
