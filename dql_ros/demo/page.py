"""The demo's result as one page: table, film, figures, and what was done."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from html import escape
from pathlib import Path

from dql_ros.demo.figures import POLICY_COLOURS
from dql_ros.demo.progress import FinishedStage
from dql_ros.demo.rollouts import Driven


@dataclass(frozen=True)
class PageContents:
    """What the page shows.

    Attributes:
        driven: The policies in the table's order.
        stages: What was done, in order.
        film: File name of the film; empty if there is none.
        poster: File name of the still picture shown before the film plays.
        film_note: Why there is no film, or what it shows.
        figures: File name, heading and explanation of each figure.
        links: File name and description of further results.
        command: The command that made it all.
    """

    driven: Sequence[Driven]
    stages: Sequence[FinishedStage]
    film: str
    poster: str
    film_note: str
    figures: Sequence[tuple[str, str, str]]
    links: Sequence[tuple[str, str]]
    command: str


def write_page(path: Path, contents: PageContents) -> None:
    """Write the page; everything it shows lies beside it, by relative links."""
    path.write_text(
        _PAGE.format(
            style=_STYLE,
            rows="\n".join(_row(driven) for driven in contents.driven),
            film=_film(contents),
            figures="\n".join(_figure(*figure) for figure in contents.figures),
            stages="\n".join(_stage(stage) for stage in contents.stages),
            total=f"{sum(stage.seconds for stage in contents.stages) / 60:.1f}",
            links="\n".join(
                f'<li><a href="{escape(href)}">{escape(href)}</a> {escape(text)}</li>'
                for href, text in contents.links
            ),
            command=escape(contents.command),
        )
    )


def _row(driven: Driven) -> str:
    rate, return_ = driven.success_rate, driven.mean_return
    colour = POLICY_COLOURS[driven.key]
    ways = driven.ways
    return (
        f'<tr><th><i style="background:{colour}"></i>{escape(driven.label)}</th>'
        f"<td><b>{rate.mean:.0%}</b> <small>{rate.low:.0%} to {rate.high:.0%}</small>"
        f'<div class="bar"><span style="width:{rate.mean:.1%};background:{colour}"></span></div>'
        f"</td><td><b>{return_.mean:.2f}</b> <small>{return_.low:.2f} to {return_.high:.2f}"
        f"</small></td><td>{ways['inner']}</td><td>{ways['outer']}</td>"
        f"<td>{len(driven.results)}</td></tr>"
    )


def _film(contents: PageContents) -> str:
    note = f'<p class="note">{escape(contents.film_note)}</p>'
    if not contents.film:
        return note
    return (
        f'<video src="{escape(contents.film)}" poster="{escape(contents.poster)}" '
        f"controls autoplay muted loop playsinline></video>{note}"
    )


def _figure(file: str, heading: str, text: str) -> str:
    return (
        f'<h2>{escape(heading)}</h2><a href="{escape(file)}"><img src="{escape(file)}" '
        f'alt="{escape(heading)}"></a><p class="note">{escape(text)}</p>'
    )


def _stage(stage: FinishedStage) -> str:
    return (
        f"<tr><th>{escape(stage.name)}</th><td>{escape(stage.text)}</td>"
        f"<td>{stage.seconds:.0f} s</td></tr>"
    )


_STYLE = """
:root { --ink: #1f2933; --soft: #616e7c; --line: #e4e7eb; --link: #2166b0 }
* { box-sizing: border-box }
body { margin: 0; background: #f5f7fa; color: var(--ink); font: 16px/1.55 system-ui, sans-serif }
main { max-width: 1080px; margin: 0 auto; padding: 40px 24px 64px }
h1 { font-size: 30px; line-height: 1.2; margin: 0 0 8px }
h2 { font-size: 19px; margin: 0 0 12px }
section { background: #fff; border: 1px solid var(--line); border-radius: 10px; padding: 24px;
  margin: 24px 0 0 }
section h2:not(:first-child) { margin-top: 32px }
p { margin: 0 0 12px; max-width: 75ch }
.note, small { color: var(--soft); font-size: 14px }
.note { margin: 10px 0 0 }
table { border-collapse: collapse; width: 100% }
th, td { text-align: left; padding: 10px 14px 10px 0; border-bottom: 1px solid var(--line);
  vertical-align: top; font-weight: 400 }
thead th { color: var(--soft); font-size: 14px }
tbody th { font-weight: 600; white-space: nowrap }
tr:last-child > * { border-bottom: 0 }
td:last-child { padding-right: 0 }
i { display: inline-block; width: 10px; height: 10px; border-radius: 50%; margin-right: 9px }
.bar { height: 6px; background: var(--line); border-radius: 3px; margin-top: 6px;
  max-width: 220px }
.bar span { display: block; height: 100%; border-radius: 3px }
video, img { width: 100%; display: block; border-radius: 6px }
code, pre { font: 14px/1.5 ui-monospace, monospace }
pre { background: #f5f7fa; border-radius: 6px; padding: 14px 16px; margin: 0; overflow-x: auto }
ul { margin: 0; padding-left: 20px }
a { color: var(--link) }
"""

_PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>dql_ros demo</title>
<style>{style}</style>
</head>
<body>
<main>
<h1>From recorded demonstrations to a driving robot</h1>
<p>A SCARA arm must bring its tool past a post to a target. People-like demonstrations go either
way round, and often fail. Diffusion-BC imitates them; Diffusion-QL learns from the rewards which
of them to follow. Everything below went over ROS 2 topics between real processes.</p>
<section>
<table>
<thead><tr><th>policy</th><th>success rate</th><th>mean return</th><th>inside</th><th>outside</th>
<th>episodes</th></tr></thead>
<tbody>
{rows}
</tbody>
</table>
<p class="note">Small figures: 95 % intervals, Wilson's for rates and Student's for means. Inside
and outside: episodes that passed the post on the base's side and on the far side.</p>
</section>
<section>{film}</section>
<section>{figures}</section>
<section>
<h2>What was done</h2>
<table><tbody>
{stages}
</tbody></table>
<p class="note">{total} minutes in all.</p>
</section>
<section>
<h2>The files</h2>
<ul>
{links}
</ul>
<h2>Again</h2>
<pre>{command}</pre>
</section>
</main>
</body>
</html>
"""
