"""A row of the live view: pieces of text with a style each, cut to a terminal's width."""

from __future__ import annotations

from rich.cells import cell_len, set_cell_size


class Row:
    """Pieces of text, each with a style in rich's words. Cheaper than rich.text.Text, which finds overlapping styles.

    Attributes:
        pieces: text and style.
    """

    __slots__ = ("pieces",)

    def __init__(self, text: str = "", style: str = "") -> None:
        self.pieces: list[tuple[str, str]] = [(text, style)] if text else []

    @property
    def plain(self) -> str:
        """Text without styles."""
        return "".join(text for text, _ in self.pieces)

    def add(self, text: str, style: str = "") -> Row:
        """Appends a piece; returns the row."""
        if text:
            self.pieces.append((text, style))
        return self

    def extend(self, other: Row) -> Row:
        """Appends the pieces of another row; returns the row."""
        self.pieces += other.pieces
        return self

    def cut(self, cells: int) -> None:
        """Cuts the row to a width in terminal cells: a character of East Asia takes two."""
        for index, (text, style) in enumerate(self.pieces):
            width = cell_len(text)
            if width > cells:
                self.pieces[index:] = [(set_cell_size(text, cells), style)] if cells > 0 else []
                return
            cells -= width
