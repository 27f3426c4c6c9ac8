"""Looks at sound files."""


class ReadSound:
    """Rate, channels, seconds, loudest value and texts of a sound file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"path": ("STRING", {"forceInput": True})}}

    RETURN_TYPES = ()
    FUNCTION = "run"
    CATEGORY = "tests"
    OUTPUT_NODE = True

    def run(self, path):
        import av
        import numpy

        with av.open(path) as file:
            stream = file.streams.audio[0]
            resampler = av.AudioResampler(format="fltp")
            parts = [part.to_ndarray() for frame in file.decode(stream) for part in resampler.resample(frame)]
            texts = {**file.metadata, **stream.metadata}
            sound = numpy.concatenate(parts, axis=1)
            found = {
                "rate": [stream.rate], "channels": [sound.shape[0]], "seconds": [sound.shape[1] / stream.rate],
                "loudest": [float(abs(sound).max())], "codec": [stream.codec_context.name],
                "prompt": [{key.lower(): text for key, text in texts.items()}.get("prompt")],
            }
        return {"ui": found}


NODE_CLASS_MAPPINGS = {"TestReadSound": ReadSound}
