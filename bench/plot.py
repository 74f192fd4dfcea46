"""Draws bars, percentiles and lines as SVG, by writing text."""

import math
from html import escape

# Distinguishable with any colour vision (Okabe and Ito).
COLOURS = ["#0072b2", "#e69f00", "#009e73", "#d55e00", "#cc79a7", "#56b4e9", "#7a7a00", "#555555"]
FONT = "font-family='system-ui, sans-serif' font-size='12'"
LABELS, CHART, MARGIN = 270, 560, 24


class Drawing:
    """The elements of a drawing, in painting order."""

    def __init__(self, title):
        self.title, self.parts = title, []

    def text(self, x, y, text, anchor="start", size=12, colour="#222"):
        style = f"text-anchor='{anchor}' font-size='{size}' fill='{colour}'"
        self.parts.append(f"<text x='{x:.1f}' y='{y:.1f}' {style}>{escape(str(text))}</text>")

    def line(self, x1, y1, x2, y2, colour="#ddd", width=1):
        at = f"x1='{x1:.1f}' y1='{y1:.1f}' x2='{x2:.1f}' y2='{y2:.1f}'"
        self.parts.append(f"<line {at} stroke='{colour}' stroke-width='{width}'/>")

    def box(self, x, y, width, height, colour):
        self.parts.append(f"<rect x='{x:.1f}' y='{y:.1f}' width='{max(width, 0.5):.1f}' height='{height}' fill='{colour}'/>")

    def dot(self, x, y, colour, hint):
        self.parts.append(f"<circle cx='{x:.1f}' cy='{y:.1f}' r='4' fill='{colour}'><title>{escape(hint)}</title></circle>")

    def path(self, points, colour):
        at = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self.parts.append(f"<polyline points='{at}' fill='none' stroke='{colour}' stroke-width='1.5'/>")

    def legend(self, names, y, x=MARGIN):
        """Draws names in their colours; returns the used height."""
        begin = y
        for number, name in enumerate(names):
            width = 26 + 7 * len(name)
            if x + width > LABELS + CHART + MARGIN:
                x, y = MARGIN, y + 18
            self.box(x, y - 9, 10, 10, COLOURS[number % len(COLOURS)])
            self.text(x + 14, y, name)
            x += width
        return y - begin + 18

    def save(self, path, height):
        width = LABELS + CHART + 2 * MARGIN + 60
        heading = f"<text x='{MARGIN}' y='26' font-size='16' fill='#222'>{escape(self.title)}</text>"
        head = f"<svg xmlns='http://www.w3.org/2000/svg' width='{width}' height='{height:.0f}' {FONT}>"
        ground = "<rect width='100%' height='100%' fill='white'/>"
        path.write_text("\n".join([head, ground, heading, *self.parts, "</svg>"]) + "\n")

    def inline(self, width, height):
        """The drawing as a part of a page; its title is what screen readers say."""
        head = f"<svg role='img' aria-label='{escape(self.title)}' width='{width:.0f}' height='{height:.0f}' {FONT}>"
        return "".join([head, *self.parts, "</svg>"])


def round_up(value):
    """The next number with one figure of 1, 2 or 5."""
    if value <= 0:
        return 1
    magnitude = 10 ** math.floor(math.log10(value))
    return next(step * magnitude for step in (1, 2, 5, 10) if step * magnitude >= value)


def short(value):
    if value >= 10_000:
        return f"{value / 1000:,.0f}k"
    return f"{value:,.0f}" if value >= 100 else f"{value:g}"


def bars(path, title, groups, names):
    """Horizontal bars: groups are (label, [(value, least, most) or None for each name]); a line shows least to most."""
    drawing = Drawing(title)
    y = 48 + drawing.legend(names, 48)
    most = round_up(max((bar[2] for _, group in groups for bar in group if bar), default=1))
    scale = lambda value: MARGIN + LABELS + value / most * CHART
    bottom = y + sum(14 * len(group) + 8 for _, group in groups)
    for step in range(6):
        x = scale(most * step / 5)
        drawing.line(x, y - 4, x, bottom, "#ddd")
        drawing.text(x, bottom + 14, short(most * step / 5), "middle", 10)
    for label, group in groups:
        drawing.text(MARGIN + LABELS - 8, y + 7 * len(group) + 2, label, "end")
        for number, bar in enumerate(group):
            if bar:
                value, least, largest = bar
                drawing.box(scale(0), y, scale(value) - scale(0), 11, COLOURS[number % len(COLOURS)])
                drawing.line(scale(least), y + 5.5, scale(largest), y + 5.5, "#000", 1.5)
                drawing.text(scale(largest) + 5, y + 10, short(round(value)), size=10)
            y += 14
        y += 8
    drawing.save(path, bottom + 30)


def percentiles(path, title, rows, names):
    """Dots on a logarithmic axis of milliseconds: rows are (label, [value or None for each name])."""
    drawing = Drawing(title)
    y = 48 + drawing.legend(names, 48)
    values = [value for _, row in rows for value in row if value]
    low = math.floor(math.log10(min(values, default=1)))
    high = max(math.ceil(math.log10(max(values, default=10))), low + 1)
    scale = lambda value: MARGIN + LABELS + (math.log10(value) - low) / (high - low) * CHART
    top, bottom = y, y + 18 * len(rows)
    for power in range(low, high + 1):
        x = scale(10**power)
        drawing.line(x, top - 4, x, bottom, "#ddd")
        drawing.text(x, bottom + 14, f"{10**power:g} ms", "middle", 10)
    for label, row in rows:
        drawing.text(MARGIN + LABELS - 8, y + 12, label, "end")
        dots = [(scale(value), number) for number, value in enumerate(row) if value]
        if dots:
            drawing.line(dots[0][0], y + 8, dots[-1][0], y + 8, "#bbb")
        for x, number in dots:
            drawing.dot(x, y + 8, COLOURS[number % len(COLOURS)], f"{label}, {names[number]}: {row[number]:.2f} ms")
        y += 18
    drawing.save(path, y + 30)


def panel(drawing, x, y, width, height, lines, colours, unit):
    """One small chart: lines are {name: (xs, ys)}."""
    most = round_up(max((value for _, values in lines.values() for value in values), default=1))
    end = max((at[-1] for at, _ in lines.values() if at), default=1) or 1
    drawing.line(x, y + height, x + width, y + height, "#999")
    drawing.line(x, y, x, y + height, "#999")
    drawing.line(x, y, x + width, y, "#eee")
    drawing.text(x - 4, y + 8, f"{short(most)} {unit}", "end", 10)
    drawing.text(x - 4, y + height, 0, "end", 10)
    drawing.text(x + width, y + height + 12, f"{end:.0f} s", "end", 10)
    for name, (at, values) in lines.items():
        points = [(x + second / end * width, y + height - value / most * height) for second, value in zip(at, values)]
        drawing.path(points, colours[name])


def over_time(path, title, charts, height=70):
    """CPU and memory of processes side by side, a row of panels for each chart: charts are [(label, series)]."""
    drawing = Drawing(title)
    names = sorted({name for _, series in charts for name in series})
    colours = {name: COLOURS[number % len(COLOURS)] for number, name in enumerate(names)}
    y = 48 + drawing.legend(names, 48)
    half = (LABELS + CHART) / 2 - 70
    for label, series in charts:
        drawing.text(MARGIN, y + 8, label)
        for number, (key, unit) in enumerate((("cores", "cores"), ("mib", "MiB"))):
            lines = {name: (line["seconds"], line[key]) for name, line in series.items()}
            panel(drawing, MARGIN + 70 + number * (half + 90), y + 18, half, height, lines, colours, unit)
        y += height + 44
    drawing.save(path, y)


def history(title, points, height=44, step=18, colour=COLOURS[0]):
    """A small chart for a page, from zero: points are (value, least, most, hint), the newest last."""
    drawing = Drawing(title)
    highest = max(most for _, _, most, _ in points) or 1
    at = lambda value: height - 4 - value / highest * (height - 8)
    xs = [step * number + step / 2 for number in range(len(points))]
    width = step * max(len(points), 6)
    drawing.line(0, height - 4, width, height - 4, "#bbb")
    for x, (_, least, most, _) in zip(xs, points):
        drawing.line(x, at(least), x, at(most), "#888")
    drawing.path([(x, at(value)) for x, (value, _, _, _) in zip(xs, points)], colour)
    for x, (value, _, _, hint) in zip(xs, points):
        drawing.dot(x, at(value), colour, hint)
    return drawing.inline(width, height)
