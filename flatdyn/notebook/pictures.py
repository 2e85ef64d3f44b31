"""Pictures as a notebook stores them."""

from __future__ import annotations

import io


def lighter(picture: bytes, width: int | None = None) -> bytes:
    """A PNG with 256 colours on white, at most `width` pixels across: a fraction of the bytes, no difference to see."""
    from PIL import Image  # needed by notebooks alone

    image = Image.open(io.BytesIO(picture)).convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if width is not None and whole.width > width:
        whole = whole.resize((width, round(whole.height * width / whole.width)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    whole.quantize(256, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
