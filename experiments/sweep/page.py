"""sweep.html: a plot a swept field, which member is best by the end of its interval, and what that is worth."""

from collections import Counter
from collections.abc import Sequence
from typing import Any, NamedTuple

import numpy as np
from scipy import stats

from experiments.sweep import ledger
from experiments.sweep.ledger import Entry, State, Sweep
from experiments.sweep.table import States, plain
from pneumojax import pages, tidy
from pneumojax.errors import BadInput
from pneumojax.report import figures, tables
from pneumojax.tidy import Score

KEYS = ("protocol", "arm", "part", "score")
DECLARED = ("clean", "unseen", "with_gan")  # protocol, part and arm, where a sweep has no common contrast
WIDTH = 0.5  # that members of the same value take beside each other, of the distance to the next value


class Point(NamedTuple):
    """A member that has the chosen score."""

    entry: Entry
    state: State
    scored: Score


def write(sweep: Sweep, states: States, asked: dict[str, str]) -> None:
    """Writes sweep.html.

    Args:
      sweep: the sweep.
      states: its members.
      asked: of `KEYS`, what the user has chosen.

    Errors: BadInput for a choice that no member has.
    """
    known = [Point(entry, state, one) for entry, state in states if state.results for one in tidy.scores(state.results)]
    choice = chosen(known, sweep.base, asked)
    points = [point for point in known if all(getattr(point.scored, key) == choice[key] for key in KEYS)]
    best, of_entry = best_of(points), {point.entry.id: point for point in reversed(points)}
    pages.write(
        sweep.out / "sweep.html",
        "experiments.sweep",
        fields=sweep.fields,
        counts=counts(states),
        choice=choice,
        heading=tables.heading(choice.get("score", ""), sweep.base.get("data.classes", ())),
        phantom=sweep.base.get("data.name") == "phantom",
        best=best,
        said=verdict(points, best) if best else [],
        figure=plots(sweep, points, best) if points else "",
        rows=[row(entry, state, of_entry.get(entry.id)) for entry, state in states],
    )


def chosen(known: Sequence[Point], base: dict[str, Any], asked: dict[str, str]) -> dict[str, str]:
    """Protocol, arm, part and score: as asked, else those of the declared contrast, else what there is most of.

    Errors: BadInput for a choice that no member has.
    """
    protocol, part, arm = base.get("evaluate.declared", DECLARED)
    wanted = {"protocol": protocol, "arm": arm, "part": part, "score": base.get("evaluate.score", "accuracy")}
    choice: dict[str, str] = {}
    for key in KEYS:
        there = [getattr(one.scored, key) for one in known]
        if not there:
            return choice
        if key in asked and asked[key] not in there:
            raise BadInput(f"--{key}={asked[key]}: no member has it; there is {', '.join(dict.fromkeys(there))}")
        first = asked.get(key, wanted[key])
        choice[key] = first if first in there else max(dict.fromkeys(there), key=there.count)
        known = [one for one in known if getattr(one.scored, key) == choice[key]]
    return choice


def best_of(points: Sequence[Point]) -> Point | None:
    """The member whose interval begins highest; a member that diverged is none."""
    able = [point for point in points if point.scored.low is not None and point.state.name == "whole"]
    return max(able, key=lambda point: (point.scored.low, point.scored.mean), default=None)


def verdict(points: Sequence[Point], best: Point) -> list[str]:
    """What the best of these members is, and how far that can be believed."""
    able = [point.scored for point in points if point.scored.low is not None and point.state.name == "whole"]
    one = best.scored
    told = f"{tables.percent(one.mean)}, 95% {tables.between((one.low, one.high))}, n = {one.n}"
    sentences = [f"Best by the lower end of its interval: {ledger.label(best.entry)} ({told})."]
    if len(able) == 1:
        return sentences
    near = sum(other.high >= one.mean for other in able) - 1
    sentences.append(
        f"The intervals of {near} of the {len(able) - 1} others reach its mean: these may be as good."
        if near
        else "No other's interval reaches its mean."
    )
    error = float(np.median([other.high - other.low for other in able])) / (2 * stats.norm.ppf(0.975))
    by_chance = best_of_normals(len(able))
    sentences.append(
        f"The best of {len(able)} is optimistic: it was chosen on the images that it is reported on. Were all members "
        f"alike and their errors independent, it would come out {100 * by_chance * error:.1f} points too high "
        f"({by_chance:.2f} standard errors of {100 * error:.1f} points, the median member's). Members that are tested "
        "on the same patients share a part of their errors, which makes it less; trials and seeds, which this error "
        "has not, make it more. For a figure to quote, choose by one part and report another."
    )
    return sentences


def best_of_normals(count: int) -> float:
    """What the largest of so many standard normal numbers is expected to be: 0.56 of 2, 1.03 of 4, 1.54 of 10."""
    x = np.linspace(-10, 10, 20_001)
    return float(np.trapezoid(x * count * stats.norm.pdf(x) * stats.norm.cdf(x) ** (count - 1), x))


def counts(states: States) -> dict[str, int]:
    """State → how many members are in it."""
    names = [state.name for _, state in states]
    return {name: names.count(name) for name in dict.fromkeys(names)}


def row(entry: Entry, state: State, point: Point | None) -> dict:
    """A line of the page's table."""
    scored = point.scored if point else None
    return {
        "id": entry.id,
        "state": state.name,
        "fields": [str(plain(value)) for value in entry.fields.values()],
        "score": tables.percent(scored.mean) if scored else "",
        "interval": tables.between((scored.low, scored.high)) if scored and scored.low is not None else "",
        "n": scored.n if scored else "",
        "why": "" if state.name in ledger.DONE else state.error,
    }


def plots(sweep: Sweep, points: Sequence[Point], best: Point | None) -> str:
    """Small multiples as base64 PNG: the score against each field that has more than one value; '' for none."""
    drawn = [point for point in points if point.scored.mean is not None]
    values = {field: list(dict.fromkeys(str(p.entry.fields[field]) for p in drawn)) for field in sweep.fields}
    fields = [field for field in sweep.fields if len(values[field]) > 1]
    if not fields:
        return ""
    figure, panels = figures.panels([figures.short(field) for field in fields], 0)
    for field, axes in zip(fields, panels, strict=True):
        texts, places = places_of([point.entry.fields[field] for point in drawn])
        axes.set_xticks(range(len(texts)), [figures.short(text) for text in texts])
        for alike in groups(field, drawn):
            line = sorted((places[at], drawn[at].scored.mean) for at in alike)
            axes.plot(*zip(*line, strict=True), color="0.8", linewidth=0.8, zorder=1)
        for style, alike in styles(drawn, best).items():
            scored = [drawn[at].scored for at in alike]
            means = np.array([one.mean for one in scored])
            ends = np.array([(one.mean, one.mean) if one.low is None else (one.low, one.high) for one in scored]).T
            where = [places[at] for at in alike]
            options = {"linestyle": "", "capsize": 2, "elinewidth": 1, "markersize": 4, **dict(style)}
            axes.errorbar(where, means, np.abs(ends - means), **options)
        axes.set_ylabel(drawn[0].scored.score, fontsize=8)
    return figures.encoded(figure)


def styles(points: Sequence[Point], best: Point | None) -> dict[tuple, list[int]]:
    """How members are drawn, as matplotlib's options → those members, by place; all of one style are one call of it."""
    found: dict[tuple, list[int]] = {}
    for at, point in enumerate(points):
        colour = "C3" if best and point.entry.id == best.entry.id else "C0"
        style = ("marker", "o" if point.state.name == "whole" else "x"), ("color", colour)
        found.setdefault(style, []).append(at)
    return found


def places_of(values: Sequence[Any]) -> tuple[list[str], list[float]]:
    """Where members stand along a field: its values, and side by side around its number those of the same value."""
    numbers = all(type(value) in (int, float) for value in values)
    order = sorted(set(values)) if numbers else list(dict.fromkeys(map(str, map(plain, values))))
    number_of = {value: number for number, value in enumerate(order)}
    own = [number_of[value if numbers else str(plain(value))] for value in values]
    counts, ranks = Counter(own), [0] * len(order)
    places = []
    for number in own:
        places.append(number + WIDTH * ((ranks[number] + 0.5) / counts[number] - 0.5))
        ranks[number] += 1
    return [f"{value:g}" if numbers else value for value in order], places


def groups(field: str, points: Sequence[Point]) -> list[list[int]]:
    """Members, by place, that are alike in all fields but one."""
    found: dict[str, list[int]] = {}
    for at, point in enumerate(points):
        found.setdefault(str({f: v for f, v in point.entry.fields.items() if f != field}), []).append(at)
    return list(found.values())
