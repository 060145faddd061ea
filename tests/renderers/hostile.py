"""Answers as an attacker, or an unlucky model, writes them: a seeded grammar of what Markdown readers disagree on."""

from __future__ import annotations

import random
from collections.abc import Callable

EVIL = (
    "<script>alert(1)</script>", "<img src=x onerror=alert(1)>", "<img src=//evil.example/x.png>",
    "<svg onload=alert(1)>", "<math><mi//xlink:href='data:x,<script>alert(1)</script>'>",
    "<iframe src=javascript:alert(1)>", "<style>*{display:none}</style>", "<a href='javascript:alert(1)'>x</a>",
    "<form action=//evil.example><input autofocus onfocus=alert(1)>",
    "<link rel=stylesheet href=//evil.example/x.css>", "<base href=//evil.example>",
    "<meta http-equiv=refresh content='0;url=//evil.example'>", "</main></div><p id=out>", "<textarea>",
    "<plaintext>", "<noscript><p title='</noscript><img src=x onerror=alert(1)>'>", "<video src=//evil.example>",
    "<b style='position:fixed;inset:0' onclick=alert(1)>", "<button data-commandlinker-command=x>",
    "<details open ontoggle=alert(1)>", "![x](//evil.example/x.png)", "![x](https://evil.example/x.png 't')",
    "[x](javascript:alert(1))", "[x](<javascript:alert(1)>)", "[x](data:text/html,<script>alert(1)</script>)",
    "[x](java&#115;cript:alert(1))", "<javascript:alert(1)>", "[x]\n\n[x]: javascript:alert(1)\n\n",
    "\\href{javascript:alert(1)}{x}", "$\\href{javascript:alert(1)}{x}$", "$\\style{position:fixed}{x}$",
    "$\\require{html}$", "$\\unicode{60}$", "\\(\\class{x}{y}\\)", "$$\\def\\frac#1#2{x}$$",
    "$\\mmlToken{mi}[href='javascript:alert(1)']{x}$", "$\\begin{href}x\\end{href}$", "$\\rule{999em}{999em}$",
    "```mermaid\nA@{ img: 'https://evil.example/x.png' }\n```\n", "```\"><img/src=x/onerror=alert(1)>\nx\n```\n",
    "```{=html}\n<img src=x onerror=alert(1)>\n```\n", "`<img src=x onerror=alert(1)>`{=html}",
    "&lt;img src=x onerror=alert(1)&gt;", "&#60;script&#62;alert(1)&#60;/script&#62;", "<!--", "-->", "<![CDATA[",
    "]]>", "<?", "?>", "<!DOCTYPE html>", "<x onmouseover=alert(1)>", "<a\nhref='javascript:alert(1)'>",
    "<img\u2028src=x\u2029onerror=alert(1)>", "<scr\x00ipt>", "<img src='`' onerror=alert(1)>",
)  # fmt: skip
SWALLOWING = (
    "`", "`", "`", "``", "```", "`````", "\\`", "&#96;", "&grave;", "~", "~~", "~~~", "~~~~html", "```html",
    "```py x", "``` `", "https://docs.example/", "http://x.example/a_b*c", "www.docs.example/", "mailto:a@b.example",
    "a@b.example", "<https://docs.example/>", "<a@b.example>", "<br>", "<br/>", "<BR >", "<kbd>", "</kbd>", "<sub>",
    "<sup>x</sup>", "[x](", "[x](https://x.example '", "[x](https://x.example)", "[x](<https://x.example", ")", "](",
    "][", "[", "]", "![", "[x]: ", "[x]: https://x.example '", "[^1]", "[^1]: ", "$", "$", "$$", "\\$", "\\(", "\\)",
    "\\[", "\\]", "\\\\(", "\\\\)", "\\\\[", "\\\\]", "\\begin{align}", "\\end{align}", "\\begin{x}", "\\end{x}", "{",
    "}", "{=html}", "@@0@@", "@@1@@", "@@", "~D", "~T", "|", "||", "\\|", "*", "**", "***", "_", "__", "\\", "\\\\",
    "&", "&amp;", "&Tab;", "&colon;", "&nbsp;", "&#x202e;", "&#0;", "&#27;", "<", ">", "</", "<a", "'", '"', "=", ":",
    ": x", "#", "!", "^", "%", "\u200b", "\u202e", "\u2066", "\x1b[31m", "\x1b]8;;", "\x00", "\x07", "\x0b", "\x0c",
    "\r", "\u2028", "\x85", "\xa0", "\ud83d", "\ufeff", "5", "1.", "-", "+",
)  # fmt: skip
WORDS = (
    "a", "see", "x = 1", "if a<b then", "C:\\new", "50 %", "$5", "naïve", "数学", "🙂", "f(x)", "it's", "a_b_c", "2*3",
    "alert(1)",
)  # fmt: skip
MATHS = (
    "$E = mc^2$", "$a_1<b$", "$$\\frac{a}{b}$$", "\\(x^2\\)", "\\[\\sum_i x_i\\]",
    "$\\begin{cases}a&b\\\\c&d\\end{cases}$",
)  # fmt: skip
ENDS = ("\n", "\n", "\n\n", "\n\n", "\n\n\n", "\n \n", "", " ", "\r\n", "  \n", "\\\n")


class Writer:
    """Writes answers, the same ones for the same seed."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def text(self) -> str:
        """Return an answer or prompt."""
        blocks = (
            self._soup,
            self._paragraph,
            self._paragraph,
            self._list,
            self._quote,
            self._fence,
            self._table,
            self._other,
        )
        pick = self._random.choice
        return "".join(pick(blocks)() + pick(ENDS) for _ in range(self._random.randint(1, 3)))

    def name(self) -> str:
        """Return a model's name, or a note."""
        return self._soup()

    def number(self, most: int) -> int:
        """Return a number from 0."""
        return self._random.randint(0, most)

    def _words(self) -> str:
        pick, chance = self._random.choice, self._random.random
        parts: list[str] = []
        for _ in range(self._random.randint(1, 5)):
            source = pick((EVIL, SWALLOWING, SWALLOWING, SWALLOWING, WORDS, MATHS))
            parts.append(pick(source) + (" " if chance() < 0.3 else ""))
        return "".join(parts)

    def _soup(self) -> str:
        return self._words() + self._random.choice(("", "\n", " ")) + self._words()

    def _paragraph(self) -> str:
        evil, mark = self._random.choice(EVIL), "`" * self._random.choice((1, 1, 2, 3))
        before = self._random.choice(SWALLOWING + WORDS)
        return f"{self._words()}{before}{mark}{evil}{mark}{self._words()}"

    def _lines(self, begin: Callable[[], str]) -> str:
        inside = self._random.choice((self._words, self._paragraph, self._fence, self._other))
        rest = " " * self._random.choice((0, 1, 2, 2, 3, 3, 4, 5))
        lines = "\n".join(inside() for _ in range(self._random.randint(1, 3))).split("\n")
        return "\n".join(
            (begin() if i == 0 or self._random.random() < 0.3 else rest) + line for i, line in enumerate(lines)
        )

    def _list(self) -> str:
        return self._lines(
            lambda: self._random.choice(
                ("- ", "* ", "+ ", "1. ", "2) ", "  - ", "    - ", "- - ", "- > ", "- [ ] ", "-\t")
            )
        )

    def _quote(self) -> str:
        return self._lines(lambda: self._random.choice(("> ", ">", "> > ", "> - ", "> 1. ", " > ", ">\t")))

    def _fence(self) -> str:
        pick = self._random.choice
        mark = pick(("```", "````", "~~~", "``````", "  ```", "    ```", "``"))
        info = pick(("", "html", "py", " js x", "mermaid", "math", "{=html}", "`", '"><b>', "latex", "nonsense", "c++"))
        inside = pick((self._words, self._soup, self._paragraph, lambda: "\n".join(EVIL[:3]), lambda: ""))()
        return f"{mark}{info}\n{inside}\n{pick((mark, mark, mark, mark + '`', mark + ' x', '```', ''))}"

    def _table(self) -> str:
        def row() -> str:
            cells = (self._words().replace("\n", " ") for _ in range(self._random.randint(1, 3)))
            return f"| {' | '.join(cells)} |"

        return "\n".join([row(), self._random.choice(("|---|---|", "|:-:|--:|", "|---|", "---|---")), row(), row()])

    def _other(self) -> str:
        starts = (
            "# ",
            "## ",
            "    ",
            "\t",
            "<br>\n",
            "<kbd>\n",
            "<div>\n",
            "<pre>\n",
            "<!-- \n",
            "[x]: ",
            "[^1]: ",
            ": ",
        )
        ends = "", "", "\n===", "\n---", "\n$$", "\n\\]", "\n</div>", "\n: x"
        return (
            self._random.choice((*starts, "$$\n", "\\[\n", "===\n", "---\n"))
            + self._words()
            + self._random.choice(ends)
        )
