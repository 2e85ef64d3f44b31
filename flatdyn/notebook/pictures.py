"""Pictures as a notebook stores them."""

from __future__ import annotations

import io

SHOWN, COLOURS = 110, 128  # dots per inch, as figures are drawn in a notebook; how many colours are kept


def lighter(picture: bytes) -> bytes:
    """A PNG with fewer colours, on white, at the size of a page: a fraction of the bytes, no difference to see."""
    from PIL import Image  # needed by notebooks alone

    opened = Image.open(io.BytesIO(picture))
    scale = SHOWN / opened.info.get("dpi", (SHOWN,))[0]
    image = opened.convert("RGBA")
    whole = Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    if scale < 0.99:  # the number in the file is rounded to dots per metre
        whole = whole.resize((round(whole.width * scale), round(whole.height * scale)), Image.Resampling.LANCZOS)
    file = io.BytesIO()
    whole.quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE).save(file, "PNG", optimize=True)
    return file.getvalue()
