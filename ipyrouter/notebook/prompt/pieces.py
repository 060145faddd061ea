"""What goes out below a prompt, piece by piece, and the prompt with all of them."""

from __future__ import annotations

from dataclasses import dataclass

from ipyrouter.notebook.prompt.documents import Document
from ipyrouter.notebook.prompt.pictures import Picture
from ipyrouter.text.sanitise import fence_for
from ipyrouter.types import ImagePart, Part, PdfPart, Prompt, TextPart


@dataclass(frozen=True, slots=True)
class Piece:
    """One thing handed over.

    Attributes:
        title: What it is, in a few words.
        body: Its text; of a picture, what it shows.
        language: Of a program.
        picture: The picture that goes out where a model can see.
        document: The PDF file that goes out where a model reads such.
        note: What of it is not sent, or not as it is.
        comment: Whether the title stands in a program as a comment; False where "#" begins none.
        has_rows: Whether it is a table whose rows and columns a user can choose.
    """

    title: str
    body: str
    language: str = ""
    picture: Picture | None = None
    document: Document | None = None
    note: str = ""
    comment: bool = True
    has_rows: bool = False

    def __str__(self) -> str:
        return self._block(self.body)

    def _block(self, body: str) -> str:
        # The title stands inside the block, too: outside, its words would count as the user's own.
        text = f"{'# ' if self.language and self.comment else ''}{self.title}:\n{body}"
        mark = fence_for(text)
        return f"{mark}{self.language}\n{text}\n{mark}"

    @property
    def part(self) -> Part:
        """What goes out."""
        if self.picture is not None:
            shown = self.picture
            size = f"the picture below, {shown.width:,} × {shown.height:,} pixels"
            return ImagePart(self._block(size), str(self), shown.data, shown.media_type, shown.width, shown.height)
        if self.document is not None:
            file = self.document
            return PdfPart(self._block("the PDF file below"), self.body and str(self), file.data, file.name, file.pages)
        return TextPart(str(self))

    @property
    def size(self) -> str:
        """How much of it goes out."""
        if self.picture is not None:
            return f"picture of {self.picture.width:,} × {self.picture.height:,} pixels"
        if self.document is not None:
            return f"PDF file of {len(self.document.data):,} bytes"
        return f"{len(self.body):,} characters"


def attach(prompt: str, pieces: list[Piece]) -> Prompt:
    """Return the prompt with the pieces below it."""
    parts = (TextPart(prompt), *(piece.part for piece in pieces))
    return Prompt(parts, tuple(piece.note for piece in pieces if piece.note))
