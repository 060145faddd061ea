"""Dollars, seconds and counts as users read them."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import ROUND_HALF_EVEN, Decimal


def to_pico(amount: Decimal) -> int:
    """Return dollars as whole 1e-12 dollars: an integer sums exactly, in SQL too."""
    return int(amount.scaleb(12).to_integral_value(ROUND_HALF_EVEN))


def from_pico(pico: int) -> Decimal:
    """Return whole 1e-12 dollars as dollars."""
    return Decimal(pico) / 10**12


def dollars(amount: Decimal | float | None) -> str:
    """Return an amount with the digits that matter: $12.30, $0.042, $0.00012; None is "price unknown"."""
    if amount is None or amount != amount:  # noqa: PLR0124  NaN
        return "price unknown"
    value = Decimal(str(amount))
    if value < 0:
        return f"−{dollars(-value)}"
    if value == 0:
        return "$0"
    if value >= 1:
        return f"${value:,.2f}"
    places = min(max(2, 1 - value.adjusted()), 12)  # two significant digits
    text = f"{value:.{places}f}"
    return f"${text}" if Decimal(text) else f"less than ${Decimal(1).scaleb(-12)}"


def at_least(known: Decimal, unknown: int, noun: str = "call") -> str:
    """Return a sum in words that stay true where ``unknown`` of its parts have no known price."""
    if not unknown:
        return dollars(known)
    return f"{f'at least {dollars(known)}' if known else 'unknown'}, {count(unknown, noun)} unpriced"


@dataclass(frozen=True, slots=True)
class Unit:
    """What all amounts of a column are written in, so that they can be compared at a glance.

    ``calls`` is how many calls an amount is written for, 1 or 1,000; ``places`` are the decimals.
    """

    calls: int
    places: int

    def head(self, name: str) -> str:
        """Return the head of a column of this unit."""
        return name if self.calls == 1 else f"{name} per {self.calls:,}"

    def words(self, amount: Decimal | float | None) -> str:
        """Return an amount (in dollars, of one call) in this unit; None is "unknown"."""
        if amount is None or amount != amount:  # noqa: PLR0124  NaN
            return "unknown"
        if amount < 0:
            return f"−{self.words(-amount)}"
        value = Decimal(str(amount)) * self.calls
        if value == 0:
            return "$0"
        text = f"{value:,.{self.places}f}"
        return f"${text}" if Decimal(text.replace(",", "")) else f"<${Decimal(1).scaleb(-self.places):f}"

    def sum(self, known: Decimal, unknown: int) -> str:
        """Return a sum in this unit that stays true where ``unknown`` of its parts have no known price."""
        if not unknown:
            return self.words(known)
        return f"at least {self.words(known)}" if known else "unknown"


def unit_of(amounts: Iterable[Decimal | float | None], *, per_call: bool = False) -> Unit:
    """Return the unit in which the smallest of the amounts (in dollars) shows two digits, in six decimals at most.

    Args:
        amounts: A column's.
        per_call: They are prices of single calls; all below a hundredth of a cent are written for 1,000 calls.
    """
    sizes = [abs(Decimal(str(amount))) for amount in amounts if amount is not None and amount == amount and amount]  # noqa: PLR0124
    if not sizes:
        return Unit(1, 2)
    calls = 1000 if per_call and len(sizes) > 1 and max(sizes) < Decimal("0.0001") else 1
    return Unit(calls, min(max(2, 1 - (min(sizes) * calls).adjusted()), 6))


def count(number: int, noun: str) -> str:
    """Return a number with its noun: 1 call, 2 calls."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def seconds(value: float) -> str:
    """Return a duration: 0.4 ms, 320 ms, 1.2 s, 75 s."""
    if value < 0.00995:  # which rounds to 10 ms
        return f"{value * 1000:.1f} ms"
    if value < 0.9995:
        return f"{value * 1000:.0f} ms"
    return f"{value:.1f} s" if value < 59.95 else f"{value:,.0f} s"


def age(value: float) -> str:
    """Return roughly how long seconds are, in one unit: 40 s, 12 min, 2 h, 3 days."""
    for size, unit in ((86400, "days"), (3600, "h"), (60, "min")):
        if value >= size:
            number = int(value) // size
            return count(number, "day") if unit == "days" else f"{number} {unit}"
    return f"{max(int(value), 0)} s"
