"""What `--with` makes of figures, photos and arrays: a picture with readable labels, at the least cost."""

from __future__ import annotations

import base64
import io
import re
from pathlib import Path
from typing import Any

import matplotlib.pyplot as plt
import numpy as np
import pytest
from IPython.display import Image as Shown
from matplotlib.figure import Figure
from PIL import Image

from ipyrouter.errors import UsageError
from ipyrouter.notebook.outputs import Output
from ipyrouter.notebook.prompt import attachments, pictures
from ipyrouter.notebook.prompt.pictures import Picture, fit, picture_of
from tests.conftest import run_python
from tests.notebook.conftest import Shell


def drawn(**settings: Any) -> Figure:
    figure = Figure(**settings)
    axes = figure.subplots()
    axes.scatter([1, 2, 3], [4, 5.5, 6], label="sites")
    axes.bar(["Oslo", "Rome"], [3, 5])
    axes.set_title("Rain")
    return figure


def opened(picture: Picture | None) -> Any:
    assert picture is not None
    image = Image.open(io.BytesIO(picture.data))
    assert image.size == (picture.width, picture.height)
    assert Image.MIME[str(image.format)] == picture.media_type
    return image


def test_a_figure_is_drawn_at_the_size_of_one_tile() -> None:
    picture = picture_of(drawn())
    assert picture is not None
    assert (picture.kind, picture.media_type) == ("matplotlib figure", "image/png")
    assert max(opened(picture).size) <= 513
    assert max(picture.width, picture.height) >= 490  # and no smaller than that tile allows


def test_small_letters_need_a_larger_picture() -> None:
    figure = drawn()
    figure.text(0.1, 0.1, "small print", fontsize=4)
    assert min(opened(picture_of(figure)).size) > 700


def test_a_figure_stays_as_it_is() -> None:
    figure = drawn(dpi=50)
    picture_of(figure)
    assert figure.dpi == 50
    assert list(figure.get_size_inches()) == list(Figure().get_size_inches())


def test_a_figure_s_series_stand_in_its_words() -> None:
    picture = picture_of(drawn())
    assert picture is not None
    assert "axes 1: title 'Rain', x '', y ''" in picture.words
    assert "points 'sites': 3: (1, 4), (2, 5.5), (3, 6)" in picture.words
    assert "x ticks: Oslo, Rome" in picture.words
    assert ": 2: (0, 3), (1, 5)" in picture.words


def test_what_belongs_to_a_figure_is_that_figure() -> None:
    figure, grid = plt.subplots(2, 2)
    line = grid[0, 0].plot([1, 2])
    for value in (grid, grid[0, 0], line, line[0], grid[0, 1].bar([1], [2]), figure):
        picture = picture_of(value)
        assert picture is not None
        assert "axes 4" in picture.words
    plt.close(figure)


@pytest.mark.parametrize(
    ("array", "size"),
    [
        (np.zeros((100, 200), np.uint8), (200, 100)), (np.zeros((100, 200, 3), np.uint8), (200, 100)),
        (np.zeros((100, 200, 1), np.uint8), (200, 100)), (np.ones((100, 200, 4)), (200, 100)),
    ],
    ids=["grey", "colour", "one channel", "from 0 to 1"],
)  # fmt: skip
def test_arrays_that_are_pictures(array: Any, size: tuple[int, int]) -> None:
    assert opened(picture_of(array)).size == size


@pytest.mark.parametrize(
    "value",
    [np.zeros((100, 200)), np.zeros((8, 8), np.uint8), np.full((64, 64, 3), 7.0), np.zeros(50, np.int8), [], "plot.png",
     b"abc", 5, None, ...],
    ids=repr,
)  # fmt: skip
def test_what_is_no_picture(value: Any) -> None:
    assert picture_of(value) is None


@pytest.mark.parametrize("form", ["PNG", "JPEG", "WEBP", "GIF"])
def test_files_bytes_and_what_ipython_shows(form: str, tmp_path: Path) -> None:
    path = tmp_path / f"photo.{form.lower()}"
    Image.new("RGB", (300, 200), "red").save(path)
    for value in (
        path,
        str(path),
        path.read_bytes(),
        Image.open(io.BytesIO(path.read_bytes())),
        Shown(filename=str(path), format=form.lower()),
    ):
        assert opened(picture_of(value)).size == (300, 200)


def test_a_large_picture_is_made_smaller_and_a_small_one_is_left() -> None:
    assert opened(picture_of(Image.new("RGB", (4000, 3000)))).size == (1024, 768)
    assert opened(picture_of(Image.new("RGB", (540, 400)))).size == (512, 379)  # a tenth smaller, and one tile less
    assert opened(picture_of(Image.new("RGB", (600, 450)))).size == (600, 450)
    assert opened(picture_of(Image.new("RGB", (40, 30)))).size == (40, 30)


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "I", "F", "I;16", "YCbCr", "HSV"])
def test_every_kind_of_picture(mode: str) -> None:
    assert opened(picture_of(Image.new(mode, (64, 48)))).size == (64, 48)


def test_a_photo_is_turned_upright_and_loses_what_it_carries(tmp_path: Path) -> None:
    image = Image.new("RGB", (300, 200), "red")
    exif = image.getexif()
    exif[0x0112], exif[0x010E] = 6, "taken at home"
    image.save(tmp_path / "photo.jpg", exif=exif)
    picture = picture_of(tmp_path / "photo.jpg")
    assert opened(picture).size == (200, 300)
    assert picture is not None
    assert b"taken at home" not in picture.data


def test_what_is_too_large_or_broken_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = tmp_path / "a.png"
    broken.write_bytes(b"\x89PNG\r\n\x1a\n and no more")
    with pytest.raises(UsageError, match=r"a\.png is not a valid picture"):
        picture_of(broken)
    monkeypatch.setattr(pictures, "_MOST_BYTES", 10)
    with pytest.raises(UsageError, match="has more than"):
        picture_of(broken)
    with pytest.raises(UsageError, match="the most is 50 million"):
        picture_of(Image.new("1", (10_000, 5_001)))


@pytest.mark.parametrize(
    ("width", "height", "least", "scale"),
    [(6.4, 4.8, 72, 80.0), (640, 480, 0.9, 1.0), (540, 400, 0.9, 512 / 540), (3000, 1000, 0.01, 512 / 3000)],
)
def test_the_cheapest_size_that_can_be_read(width: float, height: float, least: float, scale: float) -> None:
    assert fit(width, height, least, 200.0 if least > 1 else 1.0) == pytest.approx(scale)


def test_a_value_of_another_class_is_shown_as_notebooks_show_it() -> None:
    class Drawing:
        def _repr_png_(self) -> bytes:
            buffer = io.BytesIO()
            Image.new("RGB", (60, 40)).save(buffer, "PNG")
            return buffer.getvalue()

    assert opened(picture_of(Drawing())).size == (60, 40)


def test_loading_the_extension_imports_no_library_of_pictures_or_tables() -> None:
    heavy = ("PIL", "pandas", "matplotlib", "numpy", "pypdf", "ipyrouter.notebook.prompt.pictures")
    run_python(
        "import sys; from IPython.core.interactiveshell import InteractiveShell as S; ip = S.instance();"
        f"ip.run_line_magic('load_ext', 'ipyrouter'); bad = set({heavy}) & set(sys.modules); assert not bad, bad"
    )


def test_a_figure_goes_out_as_a_picture(shell: Shell, requests: list[Any], make_router: Any, server: Any) -> None:
    import ipyrouter

    own = {"sdk": "openai", "base_url": f"{server.url}/v1", "input": ["text", "image"]}
    ipyrouter.use_router(make_router(providers={"o": own}))
    shell.run("from matplotlib.figure import Figure\nfig = Figure()\nax = fig.subplots()\nax.plot([1, 2, 3])\nfig")
    for place, name in enumerate(("fig", "ax", "Out[1]")):
        assert shell.run(f"%%route -q --no-cache --with {name}\nWhat is it?").error is None
        content = requests[place][2]["messages"][-1]["content"]
        assert [part["type"] for part in content] == ["text", "text", "image_url"]
        assert f"`{name}` (matplotlib figure" in content[1]["text"]
    shown = shell.run("%%route -n --with fig\nWhat is it?").out
    assert re.search(r"`fig` \(matplotlib figure\), picture of \d{3} × \d{3} pixels", shown)
    assert re.search(r"```\n`fig` \(matplotlib figure\):\nthe picture below, \d{3} × \d{3} pixels\n```", shown)
    ipyrouter.use_router(make_router())
    shown = shell.run("%%route -n --with fig\nWhat is it?").out
    assert "\n  line: 3 points" in shown  # that is what goes to a model that cannot see
    assert "the picture below" not in shown


def test_a_picture_that_a_cell_showed() -> None:
    buffer = io.BytesIO()
    Image.new("RGB", (60, 40)).save(buffer, "PNG")
    data = base64.b64encode(buffer.getvalue()).decode()
    outputs = {2: [Output({"image/png": data}), Output({"text/plain": "5"})]}
    for values in ({}, {2: 5}):
        (piece,) = attachments.variables("Out[2]", {"Out": values}, outputs=outputs)
        assert opened(piece.picture).size == (60, 40)
    with pytest.raises(UsageError, match=r"cell \[9\] has put out no value and no picture"):
        attachments.variables("Out[9]", {"Out": {}}, outputs=outputs)
    (piece,) = attachments.variables("Out[3]", {"Out": {3: 7}}, outputs=outputs)
    assert piece.body == "7"


def test_what_is_changed_of_a_picture_is_said_at_the_answer(shell: Shell) -> None:
    Image.new("RGB", (4000, 3000)).save("photo.jpg")
    frame = Image.new("RGB", (40, 40))
    frame.save("moving.gif", save_all=True, append_images=[Image.new("RGB", (40, 40), "red")])
    out = shell.run("%%route -m o/ok --with photo.jpg, moving.gif\nWhat is it?").out
    assert "`photo.jpg` was made smaller, from 4,000 × 3,000 to 1,024 × 768 pixels." in out
    assert "`moving.gif` goes out as the first of its 2 pictures." in out


@pytest.mark.parametrize("suffix", [".bmp", ".tif", ".tiff"])
def test_pictures_of_other_programs(suffix: str) -> None:
    Image.new("RGB", (40, 30)).save(f"scan{suffix}")
    (piece,) = attachments.variables(f"scan{suffix}", {})
    assert piece.picture is not None
    assert opened(piece.picture).size == (40, 30)


@pytest.mark.parametrize("name", ["chart.png", "paper.pdf", "plots/chart.png"])
def test_a_file_that_is_not_there(name: str) -> None:
    with pytest.raises(UsageError, match=rf"--with: {name} is no variable, and no file that is there\. Relative paths"):
        attachments.variables(name, {})


def test_an_expression_gets_the_remedy() -> None:
    with pytest.raises(UsageError, match=r"first, as in part = df\.head\(\), and write --with part\."):
        attachments.variables("df.head()", {"df": 1})


@pytest.mark.parametrize(
    ("value", "words"),
    [
        (Image.new("RGB", (0, 0)), "is empty: it has 0 × 0 pixels"),
        (np.zeros((20_000, 3000, 3), dtype="uint8"), "has 3,000 × 20,000 pixels; the most is 50 million"),
    ],
    ids=["empty", "huge"],
)
def test_no_size_for_a_picture(value: Any, words: str) -> None:
    with pytest.raises(UsageError, match=words):
        picture_of(value)
