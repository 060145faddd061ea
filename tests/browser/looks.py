"""What can be measured of how a thing looks: contrast as WCAG defines it, and what axe finds."""

from __future__ import annotations

from tests.browser.lab import AXE_SCRIPT, Cell, Locator

# The lowest contrast between text in the element and what is painted behind it.
_CONTRAST = """element => {
    const parsed = text => {
        const [r, g, b, a = 1] = text.match(/[\\d.]+/g).map(Number), whole = text.startsWith('color(srgb ') ? 255 : 1;
        return {rgb: [r * whole, g * whole, b * whole], a};
    };
    const over = (top, below) => top.rgb.map((value, i) => value * top.a + below[i] * (1 - top.a));
    const linear = value => (value /= 255) <= 0.04045 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4;
    const luminance = rgb => [0.2126, 0.7152, 0.0722].reduce((sum, share, i) => sum + share * linear(rgb[i]), 0);
    const behind = node => node
        ? over(parsed(getComputedStyle(node).backgroundColor), behind(node.parentElement)) : [255, 255, 255];
    const texts = document.createTreeWalker(element, NodeFilter.SHOW_TEXT);
    let lowest = 21;
    while (texts.nextNode()) {
        const node = texts.currentNode.parentElement;
        if (!texts.currentNode.data.trim()) continue;
        const background = behind(node);
        const pair = [luminance(over(parsed(getComputedStyle(node).color), background)), luminance(background)];
        lowest = Math.min(lowest, (Math.max(...pair) + 0.05) / (Math.min(...pair) + 0.05));
    }
    return lowest;
}"""


def contrast(element: Locator) -> float:
    """Return the lowest contrast of text in the element, 1 to 21."""
    return float(element.evaluate(_CONTRAST))


def violations(cell: Cell) -> dict[str, list[str]]:
    """Return what axe finds in a cell's output: the elements by the rule that they violate."""
    cell.output.evaluate(AXE_SCRIPT)
    results = cell.output.evaluate("element => axe.run(element, {resultTypes: ['violations']})")["violations"]
    return {violation["id"]: [node["html"] for node in violation["nodes"]] for violation in results}
