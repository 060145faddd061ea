"""Formulas of an answer, from an allow-list: set by MathJax or KaTeX they stay in their place.

A command that is not listed here (a link, a style, a definition that would outlive its formula, a black box of any
size, a shift by a thousand lines) makes the formula mere text.
"""

from __future__ import annotations

import re

_LETTERS = """
alpha beta gamma delta epsilon varepsilon zeta eta theta vartheta iota kappa varkappa lambda mu nu xi omicron pi varpi
rho varrho sigma varsigma tau upsilon phi varphi chi psi omega digamma Gamma Delta Theta Lambda Xi Pi Sigma Upsilon Phi
Psi Omega varGamma varDelta varTheta varLambda varXi varPi varSigma varUpsilon varPhi varPsi varOmega aleph beth gimel
daleth hbar hslash ell imath jmath wp Re Im partial nabla infty emptyset varnothing forall exists nexists complement
eth Bbbk mho
"""
_SIGNS = """
pm mp times div cdot ast star circ bullet oplus ominus otimes oslash odot dagger ddagger amalg cap cup uplus sqcap
sqcup vee wedge lor land lnot neg setminus smallsetminus wr diamond bigcirc bigtriangleup bigtriangledown triangle
triangledown triangleleft triangleright ltimes rtimes bowtie dotplus boxplus boxtimes boxminus boxdot intercal Cap Cup
barwedge veebar curlyvee curlywedge centerdot
le leq leqq leqslant ge geq geqq geqslant lt gt ll gg lll ggg ne neq not equiv sim simeq approx approxeq cong doteq
propto varpropto asymp prec succ preceq succeq precsim succsim lesssim gtrsim lessgtr gtrless lessapprox gtrapprox
nless ngtr nleq ngeq nsim ncong nmid nparallel subset supset subseteq supseteq subsetneq supsetneq nsubseteq nsupseteq
sqsubset sqsupset sqsubseteq sqsupseteq in notin ni owns mid parallel perp vdash dashv models vDash Vdash nvdash
nvDash smile frown therefore because coloneqq eqqcolon triangleq circeq bumpeq colon
to gets leftarrow rightarrow leftrightarrow uparrow downarrow updownarrow Leftarrow Rightarrow Leftrightarrow Uparrow
Downarrow Updownarrow longleftarrow longrightarrow longleftrightarrow Longleftarrow Longrightarrow Longleftrightarrow
implies impliedby iff mapsto longmapsto hookleftarrow hookrightarrow leftharpoonup leftharpoondown rightharpoonup
rightharpoondown rightleftharpoons leftrightharpoons nearrow searrow swarrow nwarrow rightsquigarrow leadsto
twoheadrightarrow rightrightarrows leftleftarrows rightarrowtail nrightarrow nleftarrow nRightarrow nLeftarrow
upharpoonright restriction circlearrowleft circlearrowright curvearrowleft curvearrowright Lsh Rsh multimap
dots ldots cdots vdots ddots dotsc dotsb dotsm dotsi prime backprime angle measuredangle sphericalangle degree top bot
square Box blacksquare Diamond lozenge blacklozenge bigstar checkmark surd flat natural sharp clubsuit diamondsuit
heartsuit spadesuit S P copyright pounds yen euro
"""
_OPERATORS = """
sum prod coprod int iint iiint oint bigcap bigcup bigsqcup bigvee bigwedge bigodot bigoplus bigotimes biguplus intop
arccos arcsin arctan arg cos cosh cot coth csc deg det dim exp gcd hom inf injlim ker lg lim liminf limsup ln log max
min Pr projlim sec sin sinh sup tan tanh varlimsup varliminf varinjlim varprojlim operatorname bmod pmod mod pod
limits nolimits
"""
_LAYOUT = """
frac dfrac tfrac cfrac binom dbinom tbinom sqrt root over choose atop substack overset underset stackrel sideset
hat widehat check widecheck tilde widetilde acute grave dot ddot dddot breve bar vec mathring overline underline
overbrace underbrace overleftarrow overrightarrow overleftrightarrow underleftarrow underrightarrow xrightarrow
xleftarrow xleftrightarrow xRightarrow xLeftarrow boxed cancel bcancel xcancel
left right middle big Big bigg Bigg bigl Bigl biggl Biggl bigr Bigr biggr Biggr bigm Bigm biggm Biggm
lbrace rbrace lbrack rbrack langle rangle lvert rvert lVert rVert vert Vert lfloor rfloor lceil rceil lgroup rgroup
lmoustache rmoustache ulcorner urcorner llcorner lrcorner backslash
quad qquad thinspace medspace thickspace negthinspace enspace hline hdashline
displaystyle textstyle scriptstyle scriptscriptstyle tag notag nonumber
"""
_FONTS = """
mathrm mathbf mathit mathsf mathtt mathbb mathcal mathfrak mathscr mathnormal boldsymbol bm pmb text textrm textbf
textit textsf texttt textnormal mbox rm bf it sf tt cal mathop mathbin mathrel mathord mathopen mathclose mathpunct
mathinner
"""
_BLOCKS = """
matrix pmatrix bmatrix Bmatrix vmatrix Vmatrix smallmatrix cases rcases dcases array equation equation* align align*
aligned alignat alignat* alignedat gather gather* gathered multline multline* split
"""
_COMMANDS = frozenset(" ".join((_LETTERS, _SIGNS, _OPERATORS, _LAYOUT, _FONTS)).split()) | frozenset(" ,;:!>|{}%#&_")
_ENVIRONMENTS = frozenset(_BLOCKS.split())
ENVIRONMENT = re.compile(r"\\begin\{(?:" + "|".join(map(re.escape, sorted(_ENVIRONMENTS))) + r")\}")
_COMMENT = re.compile(r"((?:^|[^\\])(?:\\\\)*)%.*")
_TOKEN = re.compile(
    r"(?P<newline>\\\\\*?(?:\s*\[\s*[\d.]*\s*[a-zA-Z]{2}\s*\])?)"  # the space below a line is not the answer's to say
    r"|\\(?P<edge>begin|end)\{(?P<environment>[a-zA-Z]+\*?)\}"
    r"|\\(?P<command>[A-Za-z]+|.?)"
    r"|[^\\{}<&\]$`@#]+|."
)
_APART = {"<": "< ", "&": "& ", "]": "] "}  # with the next character they could be a tag, an entity, a link
_LONGEST = 10_000  # characters


def formula(source: str) -> str | None:
    """Return a formula, without its delimiters, on one line that is inert as Markdown and as HTML, too.

    Returns None for one that is to be shown as text.
    """
    source = " ".join(_COMMENT.sub(r"\1", line) for line in source.split("\n")).strip()
    if not source or len(source) > _LONGEST:
        return None
    parts: list[str] = []
    opened: list[str] = []  # environments, and "" for a brace
    for match in _TOKEN.finditer(source):
        part, environment, command = match.group(), match["environment"], match["command"]
        if part in "$`@#" or (command is not None and command not in _COMMANDS):
            return None
        if environment is not None and environment not in _ENVIRONMENTS:
            return None
        if part == "{" or match["edge"] == "begin":
            opened.append(environment or "")
        elif (part == "}" or match["edge"] == "end") and (not opened or opened.pop() != (environment or "")):
            return None
        parts.append("\\\\ " if match["newline"] else _APART.get(part, part))
    while parts and (parts[-1].isspace() or parts[-1] == "\\\\ "):
        parts.pop()  # a backslash would make the dollar behind it mean itself
    if opened or not parts:
        return None
    # A bracket after the end of a line would be taken for the space below it, two slashes for an address.
    return " ".join(re.sub(r"(?<=\\\\ )\s*(?=\[)", "{}", "".join(parts)).replace("//", "/ /").split())
