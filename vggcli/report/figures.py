"""How every picture is drawn: by matplotlib at 150 dpi, with names as they are, and with the mark of this program."""

import warnings
from bisect import bisect_left
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from vggcli.data.own_files import DRAWN_BY
from vggcli.files import replacing

DPI = 150
MARGIN = 24  # pixels around everything
TITLE_SIZE, SMALL_SIZE = 10, 8  # points, of a title's first line and of most text
TITLE_LINE, SMALL_LINE = 30, 22  # pixels from one line to the next
LEAST_WIDTH = 900  # pixels, for the title
FONTS = (  # DejaVu comes with matplotlib; the others have signs that it lacks, where they are installed
    *("DejaVu Sans", "Noto Sans CJK SC", "Noto Sans CJK JP", "PingFang SC", "Hiragino Sans", "Microsoft YaHei"),
    *("Yu Gothic", "Malgun Gothic", "WenQuanYi Zen Hei", "Noto Sans Devanagari", "Noto Sans Thai"),
)
BREAKS = " _-/,."  # after which a line may end
Fits = Callable[[str], bool]


@contextmanager
def drawing() -> Iterator[None]:
    """Within it, matplotlib draws names as they are (a `$` is no mathematics) and characters that no font has as boxes,
    without a warning."""
    import matplotlib
    from matplotlib import font_manager

    here = font_manager.get_font_names()
    fonts = [name for name in FONTS if name in here]
    how: Any = {"text.parse_math": False, "text.usetex": False, "font.family": fonts, "font.size": SMALL_SIZE}
    with matplotlib.rc_context(how), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def save_figure(figure: Any, path: Path) -> None:
    """The figure as a PNG with the mark of this program, whole or not at all."""
    with replacing(path) as temporary:
        figure.savefig(temporary, format="png", dpi=DPI, metadata=DRAWN_BY)


def pixel_figure(width: int, height: int) -> Any:
    """An empty figure of so many pixels."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width / DPI, height / DPI), dpi=DPI)


def text_width(size: float, weight: str = "normal") -> Callable[[str], float]:
    """What gives the width of a text of so many points, in pixels."""
    from matplotlib.backends.backend_agg import RendererAgg
    from matplotlib.font_manager import FontProperties

    renderer, font = RendererAgg(1, 1, DPI), FontProperties(size=size, weight=weight)
    return lambda text: float(renderer.get_text_width_height_descent(text, font, False)[0])


def fitting(width: float, size: float = SMALL_SIZE, weight: str = "normal") -> Fits:
    """What tells whether a text fits in `width` pixels."""
    measured = text_width(size, weight)
    return lambda text: measured(text) <= width


def wrapped(text: str, fits: Fits) -> list[str]:
    """The whole of `text` in lines that fit, broken after a space or the like where there is one."""
    lines = []
    while len(text) > 1 and not fits(text):
        lines.append(_first_line(text, fits))
        text = text[len(lines[-1]) :]
    return [*lines, text]


def _first_line(text: str, fits: Fits) -> str:
    room = max(1, _most(len(text) - 1, lambda count: fits(text[:count])))
    return text[: max(text.rfind(sign, 0, room) for sign in BREAKS) + 1 or room]


def shortened(text: str, fits: Fits) -> str:
    """`text` if it fits, else without as much of its middle as must go."""

    def cut(kept: int) -> str:
        return f"{text[: (kept + 1) // 2]}…{text[len(text) - kept // 2 :]}"

    return text if fits(text) else cut(_most(len(text) - 1, lambda kept: fits(cut(kept))))


def _most(limit: int, fits: Callable[[int], bool]) -> int:
    """The largest count up to `limit` that fits; 0 where none does."""
    return bisect_left(range(1, limit + 1), True, key=lambda count: not fits(count))


def title_lines(title: tuple[str, ...], width: float) -> list[tuple[str, dict[str, Any]]]:
    """The lines of a title, whole, within so many pixels, each with how its text is drawn; the first part in bold."""
    lines = []
    for index, part in enumerate(title):
        how: dict[str, Any] = {"size": SMALL_SIZE} if index else {"size": TITLE_SIZE, "weight": "bold"}
        lines += [(line, how) for line in wrapped(part, fitting(width, **how))]
    return lines


def draw_title(figure: Any, lines: list[tuple[str, dict[str, Any]]]) -> None:
    """Draw a title's lines at the top of the figure."""
    width, height = figure.get_size_inches() * DPI
    for number, (line, how) in enumerate(lines, start=1):
        figure.text(MARGIN / width, 1 - (MARGIN / 2 + number * TITLE_LINE) / height, line, **how)


def title_height(lines: list[tuple[str, dict[str, Any]]]) -> int:
    """The pixels from the top of a figure to below its title."""
    return MARGIN + TITLE_LINE * len(lines) + MARGIN // 2 if lines else MARGIN
