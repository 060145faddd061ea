"""Libraries that not everybody has: `nox -s attachments` installs them and runs these tests."""

from __future__ import annotations

import io
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from ipyrouter.notebook.prompt import attachments, documents, files
from ipyrouter.notebook.prompt.tables import Choice


def described(value: Any) -> attachments.Piece:
    return attachments.variables("v", {"v": value})[0]


def test_seaborn() -> None:
    seaborn = pytest.importorskip("seaborn")
    frame = pd.DataFrame({"x": [1, 2], "y": [3, 4]})
    for value in (seaborn.relplot(data=frame, x="x", y="y"), seaborn.scatterplot(data=frame, x="x", y="y")):
        piece = described(value)
        assert piece.picture is not None
        assert Image.open(io.BytesIO(piece.picture.data)).size == (piece.picture.width, piece.picture.height)
        assert "points" in piece.body
        assert "2: (1, 3), (2, 4)" in piece.body
        assert "x 'x', y 'y'" in piece.body


def test_plotly_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    express = pytest.importorskip("plotly.express")
    monkeypatch.setitem(sys.modules, "kaleido", None)  # as if it were not installed
    piece = described(express.line(x=list(range(20_000)), y=list(range(20_000)), title="Sales"))
    assert piece.picture is None
    assert "title 'Sales', x 'x', y 'y'" in piece.body
    assert "20,000 points: 50 of them: (0, 0)" in piece.body
    assert piece.note == "`v` described in words: install kaleido to send the picture."
    pie = described(express.pie(names=["a", "b"], values=[1, 2]))
    assert "pie '': 2 points: (a, 1), (b, 2)" in pie.body


def test_plotly_as_a_picture() -> None:
    express, kaleido = pytest.importorskip("plotly.express"), pytest.importorskip("kaleido")
    figure = express.line(x=[1, 2], y=[3, 4], title="Sales")
    fault = None
    try:
        kaleido.calc_fig_sync(figure)
    except Exception as error:  # noqa: BLE001  whatever kaleido raises where there is no browser
        fault = type(error).__name__
    piece = described(figure)
    if fault is not None:
        assert piece.picture is None
        assert piece.note.startswith("`v` described in words: kaleido raised ")
        return
    assert piece.picture is not None
    assert (piece.picture.width, piece.picture.height) == (512, 384)


def test_xarray() -> None:
    xarray = pytest.importorskip("xarray")
    data = xarray.Dataset(
        {"t": (("x", "y"), np.arange(6.0).reshape(2, 3)), "api_key": ("x", ["hunter22", "hunter22"])},
        coords={"x": [10, 20]},
        attrs={"source": "sea", "password": "hunter22"},
    )
    piece = described(data)
    assert "(xarray Dataset, x: 2, y: 3)" in piece.title
    assert "coordinate x (x): int64; from 10 to 20, mean 15; 10, 20" in piece.body
    assert "variable t (x, y): float64; from 0 to 5, mean 2.5; 0.0, 1.0, 2.0, …, 5.0" in piece.body
    assert "attribute source: sea" in piece.body
    assert "hunter22" not in piece.body
    assert "(xarray DataArray, x: 2, y: 3)" in described(data["t"]).title
    assert "variable t (x, y)" in described(data["t"]).body


def test_geopandas() -> None:
    geopandas = pytest.importorskip("geopandas")
    points = geopandas.points_from_xy(range(10), range(10))
    piece = described(geopandas.GeoDataFrame({"n": range(10)}, geometry=points, crs=4326))
    assert "(geopandas GeoDataFrame, 10 rows × 2 columns)" in piece.title
    assert "coordinates: EPSG:4326" in piece.body
    assert "geometry: geometry" in piece.body
    assert "POINT (9 9)" in piece.body
    assert piece.note == "`v`: 5 of 10 rows sent."
    assert "(geopandas GeoSeries, 10 rows × 1 columns)" in described(geopandas.GeoSeries(points)).title


def test_pypdf(tmp_path: Path) -> None:
    pypdf = pytest.importorskip("pypdf")
    from matplotlib.backends.backend_pdf import PdfPages
    from matplotlib.figure import Figure

    path = tmp_path / "report.pdf"
    with PdfPages(path, metadata={"CreationDate": None}) as pages:
        for number in range(3):
            figure = Figure()
            figure.text(0.1, 0.5, f"Revenue of quarter {number}, password = 'hunter22'")
            pages.savefig(figure)
    document = documents.read(path, 60_000)
    assert (document.pages, document.pages_read) == (3, 3)
    (piece,) = files.pieces([str(path)], Choice())
    assert piece.document is None
    assert "(PDF file, 3 pages)" in piece.title
    assert "quarter 2" in piece.body
    assert "hunter22" not in piece.body
    assert documents.read(path, 10).pages_read == 1
    scan = tmp_path / "scan.pdf"
    writer = pypdf.PdfWriter()
    writer.add_blank_page(width=72, height=72)
    writer.write(scan)
    document = files.pieces([str(scan)], Choice())[0].document  # nothing but pictures: the file goes out
    assert document is not None
    assert document.pages == 1
