"""Nodes of the third generation."""

from comfy_api.latest import ComfyExtension, io, ui


class Repeat(io.ComfyNode):
    """Repeats a text."""

    @classmethod
    def define_schema(cls):
        return io.Schema(
            node_id="ExampleV3Repeat",
            display_name="Repeat a text",
            category="examples",
            description="Repeats a text a number of times.",
            inputs=[
                io.String.Input("text", default="la", multiline=True),
                io.Int.Input("times", default=2, min=1, max=10),
                io.Combo.Input("case", options=["lower", "upper"], default="lower"),
            ],
            outputs=[io.String.Output(display_name="repeated")],
            hidden=[io.Hidden.unique_id],
            is_output_node=True,
        )

    @classmethod
    def validate_inputs(cls, text, **kwargs):
        return True if text else "the text is empty"

    @classmethod
    def fingerprint_inputs(cls, text, times, case):
        return f"{text}:{times}:{case}"

    @classmethod
    def execute(cls, text, times, case):
        repeated = getattr(text, case)() * times
        return io.NodeOutput(repeated, ui=ui.PreviewText(f"{cls.hidden.unique_id}: {repeated}"))


class Join(io.ComfyNode):
    """Joins as many texts as there are."""

    @classmethod
    def define_schema(cls):
        template = io.Autogrow.TemplatePrefix(io.String.Input("text"), prefix="text", min=1, max=5)
        return io.Schema(
            node_id="ExampleV3Join",
            category="examples",
            inputs=[
                io.Autogrow.Input("texts", template=template),
                io.DynamicCombo.Input("style", options=[
                    io.DynamicCombo.Option("plain", []),
                    io.DynamicCombo.Option("separated", [io.String.Input("separator", default=", ")]),
                ]),
            ],
            outputs=[io.String.Output()],
            is_output_node=True,
        )

    @classmethod
    async def execute(cls, texts, style):
        joined = style.get("separator", "").join(texts.values())
        return io.NodeOutput(joined, ui={"text": [joined]})


class Stop(io.ComfyNode):
    """Blocks what comes after it."""

    @classmethod
    def define_schema(cls):
        return io.Schema(node_id="ExampleV3Stop", category="examples", inputs=[io.AnyType.Input("value")],
                         outputs=[io.AnyType.Output()])

    @classmethod
    def execute(cls, value):
        return io.NodeOutput(block_execution="stopped here")


class ExamplePack(ComfyExtension):
    """The pack."""

    async def get_node_list(self):
        return [Repeat, Join, Stop]


async def comfy_entrypoint():
    return ExamplePack()
