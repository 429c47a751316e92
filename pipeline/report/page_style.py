"""The style sheet of `report.html`: light and dark, wide and narrow, screen and paper."""

STYLE = """
:root {
  color-scheme: light dark;
  --ink: #1f2328; --muted: #5b636b; --paper: #fefefe; --ground: #f4f5f7; --line: #e1e4e8;
  --link: #0a5fa8;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    --ink: #e8eaed; --muted: #a4abb3; --paper: #15181c; --ground: #0d0f12; --line: #2b3036;
    --link: #6cb6ff;
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; }
body {
  margin: 0; background: var(--ground); color: var(--ink);
  font: 16px/1.55 system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif;
  overflow-wrap: break-word;
}
main { max-width: 64rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
header { margin-bottom: 2.5rem; }
h1 { font-size: clamp(1.5rem, 4.5vw, 2.2rem); line-height: 1.2; margin: 0 0 .6rem; }
h2 { font-size: 1.25rem; line-height: 1.3; margin: 2.75rem 0 .9rem; }
p { margin: 0 0 .75rem; max-width: 48rem; }
.over { margin: 0 0 .25rem; color: var(--muted); font-weight: 600; }
.answer { font-size: 1.1rem; }
.question { color: var(--muted); margin-bottom: 1.25rem; }
.note { color: var(--muted); font-size: .875rem; }
.cards {
  display: grid; grid-template-columns: repeat(auto-fit, minmax(11rem, 1fr)); gap: .75rem;
  margin: 0 0 1.5rem;
}
.cards > div, figure, .scroll, pre {
  background: var(--paper); border: 1px solid var(--line); border-radius: .6rem;
}
.cards > div { padding: .85rem 1rem; min-width: 0; }
.cards dt { color: var(--muted); font-size: .85rem; }
.cards dd { margin: 0; font-size: 1.6rem; font-weight: 650; line-height: 1.3; }
.cards dd.note { font-size: .85rem; font-weight: 400; }
.swatch {
  display: inline-block; width: .65em; height: .65em; border-radius: 50%; margin-right: .45em;
}
.scroll { overflow-x: auto; margin-bottom: .75rem; }
table { border-collapse: collapse; width: 100%; font-size: .92rem; }
th, td { padding: .5rem .8rem; text-align: left; white-space: nowrap; }
thead th { color: var(--muted); font-weight: 600; white-space: normal; vertical-align: bottom; }
tbody tr { border-top: 1px solid var(--line); }
tbody th { font-weight: 600; max-width: 16rem; overflow: hidden; text-overflow: ellipsis; }
td.number, th.end { text-align: right; }
td.number { font-variant-numeric: tabular-nums; }
.figures {
  display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 25rem), 1fr));
  gap: 1rem; align-items: start; margin-bottom: 1rem;
}
.column { display: grid; gap: 1rem; min-width: 0; }
figure { margin: 0; padding: .75rem .5rem .4rem; min-width: 0; }
figure.wide { grid-column: 1 / -1; }
figcaption { padding: 0 .4rem .5rem; line-height: 1.4; }
figcaption strong { display: block; }
figcaption span { color: var(--muted); font-size: .82rem; }
.tip { fill: transparent; stroke: none; }
.tip:hover, .tip.on { fill: var(--ink); fill-opacity: .1; }
.tooltip {
  position: fixed; z-index: 9; max-width: min(22rem, 90vw); padding: .4rem .6rem;
  background: var(--ink); color: var(--paper); border-radius: .4rem; font-size: .82rem;
  line-height: 1.4; white-space: pre-line; pointer-events: none; overflow-wrap: anywhere;
}
.tooltip[hidden] { display: none; }
figure svg { display: block; width: 100%; height: auto; }
figure svg * { stroke-linejoin: round; }
figure svg text {
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "Noto Sans", sans-serif !important;
}
.facts {
  display: grid; grid-template-columns: minmax(8rem, max-content) 1fr; gap: .3rem 1.25rem;
  margin: 1rem 0;
}
.facts dt { color: var(--muted); overflow-wrap: anywhere; }
.facts dd { margin: 0; min-width: 0; overflow-wrap: anywhere; }
.mono dt, .mono dd, code {
  font-family: ui-monospace, SFMono-Regular, Menlo, Consolas, monospace; font-size: .86em;
}
.columns { display: flex; flex-wrap: wrap; gap: .35rem .5rem; padding: 0; list-style: none; }
.columns li {
  border: 1px solid var(--line); border-radius: 1rem; padding: .05rem .7rem; color: var(--muted);
  background: var(--paper); font-size: .9rem; max-width: 100%;
}
.columns code { color: var(--ink); }
pre { padding: .8rem 1rem; overflow-x: auto; margin: 0 0 1rem; }
details { margin: .75rem 0; }
summary { cursor: pointer; color: var(--link); margin-bottom: .5rem; }
li { margin-bottom: .3rem; max-width: 48rem; }
@media (max-width: 34rem) {
  main { padding: 1.25rem .8rem 3rem; }
  th, td { padding: .45rem .5rem; }
  .cards { grid-template-columns: 1fr 1fr; }
  .cards dd { font-size: 1.25rem; }
  .facts { grid-template-columns: 1fr; gap: 0; }
  .facts dd { margin-bottom: .5rem; }
}
@media print {
  :root { color-scheme: light; }
  body { background: none; font-size: 10.5pt; }
  main { max-width: none; padding: 0; }
  figure, tr, .cards > div, pre { break-inside: avoid; }
  h2 { break-after: avoid; }
  .figures { grid-template-columns: 1fr 1fr; }
  .scroll, pre { overflow: visible; white-space: pre-wrap; }
  table { font-size: 7.5pt; }
  th, td { padding: .2rem .25rem; white-space: normal; }
  tbody th { white-space: nowrap; }
  .cards { grid-template-columns: repeat(4, 1fr); }
  .tooltip { display: none; }
}
"""
