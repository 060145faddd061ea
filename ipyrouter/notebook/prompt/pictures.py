"""Figures, plots, photos and arrays as pictures for models that see, and in words for those that do not.

A picture is drawn or resized to the size that costs least and keeps its labels readable, and written anew: nothing of
what files carry beside their pixels (places, cameras, comments) goes out.
"""

from __future__ import annotations

import importlib.util
import io
import math
import warnings
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ipyrouter.errors import UsageError
from ipyrouter.notebook.prompt.plots import describe_figure, describe_plotly

SUFFIXES = (".png", ".jpg", ".jpeg", ".webp", ".gif", ".bmp", ".tif", ".tiff")
_MOST_BYTES = 20_000_000  # of a file
_MOST_PIXELS = 50_000_000
_LONG, _SHORT = 1568, 768  # pixels: what is larger is made smaller by most services before a model looks at it
_TILE = 512  # pixels: where OpenAI's price, and by it Anthropic's and Google's, goes up
_LABEL = 10.0  # pixels: the least height of letters that models read well
_GIVE = 0.9  # so much smaller a photo may become to save a tile
_MOST_PNG = 1_000_000  # bytes; a photo takes more, and goes out as JPEG
_LEAST_SIDE = 32  # pixels: smaller arrays are numbers
_MAGIC = (b"\x89PNG\r\n\x1a\n", b"\xff\xd8\xff", b"GIF87a", b"GIF89a")


@dataclass(frozen=True, slots=True)
class Picture:
    """A picture: what it is, what it shows in words, and its file; ``data`` is empty where none could be made.

    Attributes:
        kind: What it is, in a few words.
        words: What it shows, as far as that is known without looking.
        data: A PNG or JPEG file.
        media_type: Its type.
        width: In pixels.
        height: In pixels.
        note: What the user should know of it.
    """

    kind: str
    words: str
    data: bytes = b""
    media_type: str = "image/png"
    width: int = 0
    height: int = 0
    note: str = ""


def picture_of(value: Any) -> Picture | None:
    """Return the picture that a value is, or None for one that is none.

    Only classes that are known are looked at, and of others the methods that notebooks show them with.

    Raises:
        UsageError: For a picture that is too large, or no valid picture.
    """
    module = type(value).__module__.partition(".")[0]
    if (figure := _matplotlib_figure(value, module)) is not None:
        return _of_matplotlib(figure, value, module)
    if module == "plotly" and hasattr(value, "to_image"):
        return _of_plotly(value)
    if module == "PIL" and hasattr(value, "convert"):
        return _of_pil(value, f"{value.mode} picture")
    if module == "IPython" and type(value).__name__ == "Image":
        return _of_ipython(value)
    if isinstance(value, bytes) and (value.startswith(_MAGIC) or value[:4] + value[8:12] == b"RIFFWEBP"):
        return of_bytes(value, f"picture of {len(value):,} bytes")
    if (path := picture_path(value)) is not None:
        return of_file(path)
    if module == "numpy" and _is_image(value):
        return _of_array(value)
    return _as_shown(value)


def picture_path(value: Any) -> Path | None:
    """Return the path of a picture's file, if a value is one: a Path, or a string that names a file that is there."""
    if not isinstance(value, str | Path) or not str(value).lower().endswith(SUFFIXES) or len(str(value)) > 1000:
        return None
    path = Path(value).expanduser()
    try:
        return path if path.is_file() else None
    except (OSError, ValueError):
        return None


def of_file(path: Path) -> Picture:
    """Return the picture in a file. Raises UsageError for one that is too large or no valid picture."""
    return of_bytes(read_bounded(path, _MOST_BYTES), f"picture {path.name}")


def read_bounded(path: Path, most: int) -> bytes:
    """Return a file's bytes. Raises UsageError for one of more than ``most`` bytes, and for one that cannot be read."""
    try:
        with path.open("rb") as file:
            data = file.read(most + 1)
    except OSError as error:
        raise UsageError(f"{path} cannot be read: {error.strerror or error}.", "Check the path.") from None
    if len(data) > most:
        raise UsageError(f"{path} has more than {most / 1e6:g} MB.", "Send a smaller file, or a part of it.")
    return data


def of_bytes(data: bytes, kind: str) -> Picture:
    """Return the picture in a file's bytes. Raises UsageError for one that is too large or no valid picture."""
    from PIL import Image

    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", Image.DecompressionBombWarning)  # the size is checked below
            return _of_pil(Image.open(io.BytesIO(data)), kind)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise UsageError(
            f"The {kind} is not a valid picture: {type(error).__name__}.", "Save it as PNG or JPEG, and send that."
        ) from None


def fit(width: float, height: float, least: float, most: float = 1.0) -> float:
    """Return the scale at which a picture costs least without falling below the smallest that may be.

    Providers charge by tiles or patches; the count of tiles of 512 pixels decides. Of the scales with the fewest tiles
    the largest is taken.

    Args:
        width: In pixels, at the scale 1.
        height: In pixels, at the scale 1.
        least: The smallest scale at which labels can be read.
        most: The largest scale that makes sense.
    """
    cap = min(_LONG / max(width, height), _SHORT / min(width, height))
    most = min(most, cap)
    least = min(least, most)
    across, down = (math.ceil(round(side * least, 3) / _TILE) for side in (width, height))
    return max(least, min(most, across * _TILE / width, down * _TILE / height))


def _of_pil(image: Any, kind: str, words: str = "", least: float = _GIVE) -> Picture:
    from PIL import Image, ImageOps

    width, height = image.size
    if not width * height:
        raise UsageError(f"The {kind} is empty: it has {width:,} × {height:,} pixels.", "Send another one.")
    if width * height > _MOST_PIXELS:
        raise UsageError(
            f"The {kind} has {width:,} × {height:,} pixels; the most is {_MOST_PIXELS / 1e6:g} million.", "Resize it."
        )
    photo, frames = getattr(image, "format", None) in ("JPEG", "WEBP"), getattr(image, "n_frames", 1)
    image = ImageOps.exif_transpose(image)
    if image.mode.startswith("I;16") or image.mode in ("I", "F"):
        image = _stretched(image)
    image = image.convert("RGBA" if "A" in image.getbands() or "transparency" in image.info else "RGB")
    scale = fit(image.width, image.height, least * min(1.0, _LONG / max(image.size), _SHORT / min(image.size)))
    if scale < 1:
        size = tuple(max(1, round(side * scale)) for side in image.size)
        image = image.resize(size, Image.Resampling.LANCZOS)
    data, media_type = _written(image, photo=photo)
    words = words or f"a picture of {width:,} × {height:,} pixels; what it shows is not known in words"
    changes = [
        f"goes out as the first of its {frames:,} pictures" if frames > 1 else "",
        f"was made smaller, from {width:,} × {height:,} to {image.width:,} × {image.height:,} pixels"
        if scale < 1
        else "",
    ]
    note = " and ".join(filter(None, changes))
    kind = f"{kind}, {width:,} × {height:,} pixels"
    return Picture(kind, words, data, media_type, image.width, image.height, note)


def _stretched(image: Any) -> Any:
    """Return a grey picture of more than 8 bits with its own range of values made to that of 8."""
    grey = image.convert("F")
    low, high = grey.getextrema()
    factor = 255 / (high - low) if high > low else 0.0
    return grey.point(lambda level: level * factor - low * factor).convert("L")


def _written(image: Any, *, photo: bool) -> tuple[bytes, str]:
    """Return the file of a picture, and its type: PNG, and JPEG for photos and where PNG would be large."""
    image.info.clear()
    buffer = io.BytesIO()
    if not photo:
        image.save(buffer, "PNG", optimize=True)
        if buffer.tell() <= _MOST_PNG:
            return buffer.getvalue(), "image/png"
        buffer = io.BytesIO()
    _opaque(image).save(buffer, "JPEG", quality=90)
    return buffer.getvalue(), "image/jpeg"


def _opaque(image: Any) -> Any:
    """Return a picture on white, where it is transparent."""
    from PIL import Image

    if image.mode != "RGBA":
        return image
    white = Image.new("RGBA", image.size, "white")
    return Image.alpha_composite(white, image).convert("RGB")


# --- matplotlib and what is built on it ---


def _matplotlib_figure(value: Any, module: str) -> Any:
    """Return the figure that a value is, belongs to or holds, if it is one of matplotlib's or seaborn's."""
    if module == "matplotlib" and hasattr(value, "get_axes") and hasattr(value, "savefig"):
        return value
    if module == "seaborn" and hasattr(getattr(value, "figure", None), "savefig"):  # a grid
        return value.figure
    if module == "matplotlib" and hasattr(value, "get_figure"):
        figure = value.get_figure()
        parent = getattr(figure, "figure", figure)  # of a subfigure
        return parent if hasattr(parent, "savefig") else None
    first = _first(value, module)
    if first is None or type(first).__module__.partition(".")[0] != "matplotlib":
        return None
    return _matplotlib_figure(first, "matplotlib")


def _first(value: Any, module: str) -> Any:
    """Return the first of several: what plot(), subplots() and bar() give."""
    if module == "numpy" and getattr(getattr(value, "dtype", None), "kind", "") == "O" and value.size:
        return value.flat[0]
    if module in ("builtins", "matplotlib") and isinstance(value, list | tuple) and value:
        return value[0]
    return None


def _of_matplotlib(figure: Any, value: Any, module: str) -> Picture:
    words = describe_figure(figure)
    kind = "matplotlib figure"
    if value is not figure:
        first = _first(value, module) if module in ("numpy", "builtins") else value
        kind = f"{module if module == 'seaborn' else 'matplotlib'} figure, by its {type(first).__name__}"
    buffer = io.BytesIO()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # missing glyphs and layouts are what the user has seen already
        figure.savefig(buffer, format="png", dpi=_dpi(figure), bbox_inches="tight", metadata={"Software": None})
    from PIL import Image

    width, height = Image.open(buffer).size
    return Picture(kind, words, buffer.getvalue(), "image/png", width, height)


def _dpi(figure: Any) -> float:
    """Return the dots per inch at which a figure's smallest letters can be read, and which costs least."""
    from matplotlib.text import Text

    sizes = [t.get_fontsize() for t in figure.findobj(Text) if t.get_visible() and t.get_text().strip()]
    least = 72 * _LABEL / max(min(sizes, default=_LABEL), 1.0)
    try:
        box = figure.get_tightbbox()
        width, height = box.width + 0.2, box.height + 0.2  # savefig's own padding
    except Exception:  # noqa: BLE001  an artist of the user's own may not know its size
        width, height = figure.get_size_inches()
    return fit(max(width, 0.1), max(height, 0.1), min(least, 200.0), 200.0)


# --- others ---


def _of_plotly(figure: Any) -> Picture:
    words = describe_plotly(figure)
    if importlib.util.find_spec("kaleido") is None:
        return Picture("plotly figure", words, note="described in words: install kaleido to send the picture")
    own = figure.layout.width, figure.layout.height
    width, height = own[0] or _TILE, own[1] or round(_TILE * 0.75)  # its letters have 12 pixels at any size
    try:
        data = figure.to_image(format="png", width=width, height=height, scale=1)
    except Exception as error:  # noqa: BLE001  kaleido needs a browser, and fails in its own ways without
        return Picture("plotly figure", words, note=f"described in words: kaleido raised {type(error).__name__}")
    from PIL import Image

    drawn = _of_pil(Image.open(io.BytesIO(data)), "plotly figure", words)
    return Picture("plotly figure", words, drawn.data, drawn.media_type, drawn.width, drawn.height)


def _of_ipython(image: Any) -> Picture | None:
    data, name = getattr(image, "data", None), getattr(image, "filename", None)
    if isinstance(data, bytes):
        return of_bytes(data, "IPython picture")
    if name and (path := picture_path(name)) is not None:
        return of_file(path)
    return None


def _is_image(array: Any) -> bool:
    """Tell whether an array is a picture: colours in whole bytes or from 0 to 1, or grey in whole bytes."""
    shape: tuple[int, ...] = tuple(getattr(array, "shape", ()))
    kind = str(getattr(array, "dtype", ""))
    if len(shape) not in (2, 3) or min(shape[:2]) < _LEAST_SIDE:
        return False
    if kind == "uint8":
        return len(shape) == 2 or shape[2] in (1, 3, 4)
    colours = kind in ("float32", "float64") and len(shape) == 3 and shape[2] in (3, 4)
    return bool(colours and array.min() >= 0 and array.max() <= 1)


def _of_array(array: Any) -> Picture:
    from PIL import Image

    pixels = array if str(array.dtype) == "uint8" else (array * 255).round().astype("uint8")
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[:, :, 0]
    return _of_pil(Image.fromarray(pixels), f"numpy array, shape {tuple(array.shape)}, {array.dtype}")


def _as_shown(value: Any) -> Picture | None:
    """Return the picture that a value of an unknown class shows itself as in a notebook, if it does."""
    for method in ("_repr_png_", "_repr_jpeg_"):
        show = getattr(type(value), method, None)
        try:
            shown = show(value) if callable(show) else None
        except Exception:  # noqa: BLE001  a stranger's class may raise anything; its repr may do
            shown = None
        data = shown[0] if isinstance(shown, tuple) and shown else shown
        if isinstance(data, bytes) and data:
            return of_bytes(data, type(value).__name__)
    return None


def in_outputs(outputs: Iterable[Any]) -> Picture | None:
    """Return the last picture among the outputs that IPython's history holds of a cell, if there is one."""
    import base64

    for output in reversed(list(outputs)):
        for kind in ("image/png", "image/jpeg"):
            data = output.bundle.get(kind)
            if isinstance(data, str):
                data = base64.b64decode(data)
            if isinstance(data, bytes):
                return of_bytes(data, "picture in the output")
    return None
