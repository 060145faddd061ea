"""Separates an answer's text from the thinking that some models write into it between `<think>` and `</think>`.

Magistral writes `[THINK]`, Kimi-VL `◁think▷`, Seed-OSS `<seed:think>`.
"""

from __future__ import annotations

import re

_MARK = re.compile(
    r"\n|`+|~+|(?i:</?(?:think|thinking|thought|reasoning|seed:think)>)|\[/?THINK\]|◁/?think▷",
)
_UNFINISHED_TAG = re.compile(r"(?:(?i:</?[a-z:]{0,10})|\[/?[A-Z]{0,5}|◁/?[a-z]{0,5})\Z")
_CUT_TAG = re.compile(r"</(thi(nk?|nking?)?|tho(u|ug|ugh|ught)?|rea(s|so|son|soni|sonin|soning)?)\Z", re.IGNORECASE)
_LONGEST_TAG = len("</seed:think>")
_LONGEST_RUN = 1000  # backticks that are held back at a piece's end; more are a model that repeats itself


def split_thinking(text: str) -> tuple[str, str]:
    """Return an answer's text and the thinking in it."""
    separator = Separator()
    separator.feed(text)
    separator.finish()
    return separator.text, separator.thinking


class Separator:
    """Takes an answer piece by piece, however a stream cuts it, in linear time.

    Thinking is what stands between an opening tag at the start of the answer, or `<think>` at the start of a line, and
    its closing tag; what comes before a closing tag that was never opened, since some chat templates put the opening
    one into the prompt; and all the rest after an opening tag at the start that is never closed. A tag in a code span,
    a code fence or in the midst of a line is text: the answer is about tags. A closing tag too many that begins or ends
    its line, and one that the answer's end cuts off, is nothing.
    """

    def __init__(self) -> None:
        self._text: list[str] = []
        self._thinking: list[str] = []
        self._unread = ""  # the end of the last piece: it may be the beginning of a tag or of a run of backticks
        self._tag = ""  # the tag that is open
        self._reopened: int | None = None  # where in the thinking a tag in the midst of the answer was opened
        self._begun = False  # there was text that is not blank
        self._ambiguous = False  # tags were closed or mentioned: a closing tag alone means nothing any more
        self._mentioned = False  # the answer speaks of the tags
        self._held: list[str] = []  # a closing tag too many and blanks: text if more follows in its line
        self._trimming = False  # blanks after the thinking are no part of the answer
        self._blank = True  # nothing stands on this line yet
        self._span = 0  # the number of backticks that opened a code span in this line
        self._fence = ""  # the run that opened the code fence
        self._opening = ""  # a run that opens or closes a fence, unless the rest of its line says otherwise
        self._lead: list[str] = []  # blanks at the start of the answer, dropped where thinking follows

    @property
    def text(self) -> str:
        """The answer without the thinking, as far as it is certain."""
        return "".join(self._text)

    @property
    def thinking(self) -> str:
        """The thinking without its tags."""
        return "".join(self._thinking).strip()

    def feed(self, piece: str) -> str:
        """Take a piece; return the text that is certain by now and was not returned before."""
        piece = self._unread + piece
        certain = _certain(piece)
        self._unread = piece[certain:]
        return self._take(piece[:certain])

    def finish(self) -> str:
        """Return the text that was held back, once: there is no more to come."""
        before = len(self._text)
        if not (self._fence or self._span or self._mentioned) and _CUT_TAG.fullmatch(self._unread):
            self._unread = ""
        self._take(self._unread)
        self._unread = ""
        self._held.clear()
        if self._tag and self._reopened is not None:  # never closed, and not at the start: it was text after all
            self._text += [self._tag, *self._thinking[self._reopened :]]
            del self._thinking[self._reopened :]
            self._tag = ""
        if not self._begun and not self._thinking:
            self._text += self._lead
            self._lead = []
        return "".join(self._text[before:])

    def _take(self, piece: str) -> str:
        before, position = len(self._text), 0
        for match in _MARK.finditer(piece):
            self._plain(piece[position : match.start()])
            self._mark(match[0])
            position = match.end()
            before = min(before, len(self._text))  # a closing tag may have made thinking of all the text
        self._plain(piece[position:])
        return "".join(self._text[before:])

    def _plain(self, piece: str) -> None:
        if not piece:
            return
        if self._tag:
            self._thinking.append(piece)
            return
        if self._held:
            self._held.append(piece)
            if not piece.strip(" \t"):
                return
            piece = "".join(self._held)
            self._held.clear()
        if piece.strip(" \t>"):  # a fence counts in a quote, too
            self._blank = False
            if self._fence:
                self._opening = ""  # words after the backticks: they close nothing
        self._write(piece)

    def _write(self, piece: str) -> None:
        """Add to the text; blanks wait until it is certain that no thinking follows."""
        if self._trimming:
            piece = piece.lstrip()
            self._trimming = not piece
        if self._begun:
            self._text.append(piece)
        elif piece.strip():
            self._text += [*self._lead, piece]
            self._begun, self._lead = True, []
        else:
            self._lead.append(piece)

    def _mark(self, mark: str) -> None:
        if self._tag:
            if mark.lower() == f"{self._tag[0]}/{self._tag[1:]}":
                self._close()
            else:
                self._thinking.append(mark)
        elif mark == "\n":
            self._end_line()
        elif mark[0] in "`~":
            self._run(mark)
        elif self._fence or self._opening or self._span:
            self._plain(mark)
        elif mark[1] == "/":
            self._orphan(mark)
        else:
            self._open(mark)

    def _end_line(self) -> None:
        self._held.clear()
        if self._opening:
            self._fence = "" if self._fence else self._opening
        self._opening, self._span, self._blank = "", 0, True
        self._write("\n")

    def _run(self, run: str) -> None:
        """Take backticks or tildes: a fence at the start of a line, else a code span."""
        if self._fence:
            closes = self._blank and run[0] == self._fence[0] and len(run) >= len(self._fence)
            self._plain(run)
            self._opening = run if closes else ""
            return
        if self._blank and len(run) >= 3:
            self._opening = run
        elif run[0] == "`":
            if self._opening.startswith("`"):  # backticks after backticks: a span of code, not a fence
                self._span, self._opening = len(self._opening), ""
            self._span = len(run) if not self._span else 0 if self._span == len(run) else self._span
        self._plain(run)

    def _open(self, mark: str) -> None:
        tag = mark.lower()
        if not self._begun:
            self._tag, self._lead, self._reopened = tag, [], None
        elif self._blank and tag == "<think>":
            self._tag, self._reopened = tag, len(self._thinking)
        else:
            self._ambiguous = self._mentioned = True
            self._plain(mark)

    def _close(self) -> None:
        self._tag = ""
        self._thinking.append("\n")
        self._ambiguous = True
        self._trimming = not self._begun

    def _orphan(self, mark: str) -> None:
        """Take a closing tag that nothing opened: all before it was thinking."""
        if self._ambiguous:
            if self._mentioned:
                self._plain(mark)
            elif not self._blank:  # at the start of a line it is dropped
                self._held.append(mark)
            return
        self._thinking += self._text
        self._text.clear()
        self._begun, self._lead = False, []
        self._close()


def _certain(piece: str) -> int:
    """Return how much of a piece means the same whatever follows."""
    run = len(piece) - len(piece.rstrip("`~"))
    if 0 < run <= _LONGEST_RUN:
        return len(piece) - run
    tail = max(len(piece) - _LONGEST_TAG, 0)
    match = _UNFINISHED_TAG.search(piece, tail)
    return match.start() if match else len(piece)
