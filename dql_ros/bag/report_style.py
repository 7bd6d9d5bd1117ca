"""How the conversion report looks: colours for light and dark, and a page that never overflows."""

STYLE = """
:root { color-scheme: light dark; --ink: #1b1f24; --soft: #59636e; --line: #d1d9e0;
  --bar: #2f6fbd; --bound: #c2410c; --paper: #ffffff; --tint: #f6f8fa; --warn: #fff4e5;
  --used: #3f9d63; --unused: #c4ccd4; --gap: #c2410c }
@media (prefers-color-scheme: dark) { :root { --ink: #e6edf3; --soft: #9aa4af; --line: #3d444d;
  --bar: #6ea8e8; --bound: #f59e6b; --paper: #0d1117; --tint: #161b22; --warn: #33240f;
  --used: #57b87d; --unused: #444c56; --gap: #f59e6b } }
* { box-sizing: border-box }
body { margin: 2rem auto; max-width: 76rem; padding: 0 1rem; color: var(--ink);
  background: var(--paper); font: 15px/1.5 system-ui, sans-serif; overflow-wrap: anywhere }
h1 { font-size: 1.5rem; margin-bottom: .2rem } h2 { font-size: 1.2rem; margin-top: 2.4rem }
h3 { font-size: .95rem; margin: 1.2rem 0 .4rem }
.totals { display: flex; flex-wrap: wrap; gap: .6rem; margin-top: 1rem }
.totals div { background: var(--tint); border-radius: 6px; padding: .5rem .9rem }
.totals .warn { background: var(--warn) }
.totals b { display: block; font-size: 1.25rem; font-variant-numeric: tabular-nums }
.totals span, .soft, figcaption { color: var(--soft); font-size: .85rem }
.wide { overflow-x: auto }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; font-size: .88rem }
th, td { border-bottom: 1px solid var(--line); padding: .25rem .6rem .25rem 0; text-align: right;
  white-space: nowrap; vertical-align: top }
th { font-weight: 600; color: var(--soft) }
th[colspan] { text-align: center; border: 0; padding-bottom: 0 }
th[rowspan] { vertical-align: bottom }
tr:first-child th:first-child, td:first-child { text-align: left }
.long { text-align: left } td.long { white-space: normal; min-width: 14rem }
details { border: 1px solid var(--line); border-radius: 6px; padding: .4rem .9rem;
  margin: .7rem 0 }
summary { cursor: pointer; font-weight: 600 }
h2 ~ .wide + .plots { margin-top: 1rem }
.plots { display: grid; gap: 1.2rem 1.6rem;
  grid-template-columns: repeat(auto-fill, minmax(min(15rem, 100%), 1fr)) }
figure { margin: 0 } figcaption b { color: var(--ink) }
svg { width: 100%; height: auto; display: block } svg.time { height: 22px; margin: .6rem 0 .2rem }
svg text { fill: var(--soft); font: 9px system-ui, sans-serif }
.bar { fill: var(--bar) } .bound { stroke: var(--bound); stroke-dasharray: 3 2 }
.axis { stroke: var(--line) } .track { fill: var(--tint) }
.used { fill: var(--used) } .unused { fill: var(--unused) } .gap { fill: var(--gap) }
.key { display: inline-block; width: .8em; height: .8em; border-radius: 2px;
  margin: 0 .3em 0 .8em }
.key.used { background: var(--used) } .key.unused { background: var(--unused) }
.key.gap { background: var(--gap) }
code, pre { font: .82rem/1.45 ui-monospace, monospace }
pre { background: var(--tint); border-radius: 6px; padding: .8rem; overflow-x: auto }
"""
