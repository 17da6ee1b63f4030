#include <apps/report/assets.hpp>

namespace banach::report {

const std::string_view page_css = R"css(
:root {
  color-scheme: light;
  --page: #f7f7f5; --panel: #ffffff; --text: #1b1f24; --muted: #59626d; --faint: #dfe2e6; --hover: #f1f3f5;
  --rule: #c3c8ce;
  --accent: #0072B2; --good: #00785a; --warning: #b34d00; --shade: rgb(27 31 36 / .3);
  --serif: Charter, "Bitstream Charter", "Iowan Old Style", "Palatino Linotype", Palatino, Georgia,
    "Liberation Serif", serif;
  --sans: system-ui, -apple-system, "Segoe UI", Roboto, "Helvetica Neue", "Liberation Sans", Arial,
    sans-serif;
  --mono: ui-monospace, SFMono-Regular, Menlo, Consolas, "Liberation Mono", monospace;
}
@media screen and (prefers-color-scheme: dark) {
  :root {
    color-scheme: dark;
    --page: #111417; --panel: #191d22; --text: #e4e7ea; --muted: #9ba5b0; --faint: #2c323a; --hover: #20252b;
    --rule: #434b55;
    --accent: #6db7ec; --good: #3fc79d; --warning: #f0924d; --shade: rgb(228 231 234 / .28);
  }
}
* { box-sizing: border-box; }
html { -webkit-text-size-adjust: 100%; text-size-adjust: 100%; scroll-padding-top: 1rem; }
body { margin: 0; background: var(--page); color: var(--text); font: 1rem/1.6 var(--sans);
  overflow-wrap: break-word; }
header, main, footer { max-width: 74rem; margin: 0 auto; padding: 0 clamp(1rem, 4vw, 2.5rem); }
header { padding-top: clamp(1.75rem, 5vw, 3.5rem); }
h1, h2 { font-family: var(--serif); font-weight: 600; line-height: 1.2; text-wrap: balance; }
h1 { font-size: clamp(1.8rem, 5vw, 2.75rem); letter-spacing: -0.01em; margin: 0 0 .5rem; }
h2 { font-size: clamp(1.4rem, 3.5vw, 1.8rem); margin: 0 0 .6rem; }
h3 { font-size: 1.06rem; line-height: 1.35; font-weight: 650; margin: 0 0 .25rem; }
p { margin: 0 0 .8rem; max-width: 44rem; }
a { color: var(--accent); }
:focus-visible { outline: 2px solid var(--accent); outline-offset: 2px; }
.kicker { color: var(--accent); font-size: .82rem; font-weight: 650; letter-spacing: .07em; margin: 0 0 .4rem;
  }
.subtitle { color: var(--muted); font-size: 1.12rem; max-width: 50rem; margin: 0; }

.figures { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 11rem), 1fr)); gap: 0;
  margin: 2rem 0 0;
  border-top: 2px solid var(--text); border-bottom: 1px solid var(--rule); }
.figures div { padding: .9rem 1.25rem .9rem 0; }
.figures dt { color: var(--muted); font-size: .85rem; line-height: 1.35; }
.figures dd { margin: 0; }
.figures .value { font-family: var(--serif); font-size: 1.75rem; line-height: 1.25;
  font-variant-numeric: lining-nums tabular-nums; }
.figures .note { color: var(--muted); font-size: .85rem; line-height: 1.4; }

nav { margin: 1.1rem 0 0; font-size: .93rem; }
nav ol { list-style: none; display: flex; flex-wrap: wrap; gap: .2rem 1.4rem; margin: 0; padding: 0;
  counter-reset: part; }
nav li { counter-increment: part; }
nav li::before { content: counter(part) ". "; color: var(--muted); font-variant-numeric: tabular-nums; }
nav a { text-decoration: none; }
nav a:hover { text-decoration: underline; }

noscript p { margin-top: 1.5rem; }
section { margin: clamp(2.2rem, 5vw, 3.5rem) 0 0; }
.blocks { display: grid; grid-template-columns: repeat(auto-fit, minmax(min(100%, 28rem), 1fr)); gap: 1.25rem;
  align-items: stretch; }
.blocks > * { grid-column: 1 / -1; min-width: 0; margin: 0; }
.blocks > .half { grid-column: auto; }
.blocks > .half.alone { grid-column: 1 / -1; }
.panel { background: var(--panel); border: 1px solid var(--faint); border-radius: 6px;
  padding: 1.1rem clamp(.8rem, 2.5vw, 1.35rem); }
.text p:last-child { margin-bottom: 0; }

figure.chart, figure.diagram { display: flex; flex-direction: column; }
.look { color: var(--muted); font-size: .93rem; line-height: 1.5; margin: 0 0 .6rem; }
.look b { color: var(--text); font-weight: 600; }
.plot { position: relative; height: var(--plot-height, 21rem); width: 100%; min-width: 0; }
.plot canvas { position: absolute; inset: 0; }
.plot .failed { color: var(--muted); font-size: .9rem; }
.legend { list-style: none; display: flex; flex-wrap: wrap; gap: .1rem .2rem; margin: 0 0 .4rem -.4rem;
  padding: 0; }
.legend button { all: unset; box-sizing: border-box; display: inline-flex; align-items: center; gap: .45rem;
  padding: .25rem .45rem;
  border-radius: 4px; font-size: .87rem; line-height: 1.3; cursor: pointer; }
.legend button:hover { background: var(--faint); }
.legend button:focus-visible { outline: 2px solid var(--accent); }
.legend button[aria-pressed=false] { color: var(--muted); text-decoration: line-through; }
.legend button[aria-pressed=false] svg { opacity: .3; }
.legend svg { flex: none; width: 28px; height: 12px; fill: var(--c); stroke: var(--c); stroke-width: 2; }
.legend.many button { font-size: .82rem; padding: .12rem .3rem; gap: .3rem; }
.legend.many svg { width: 23px; height: 10px; }
.legend .entry { display: inline-flex; align-items: center; gap: .45rem; padding: .15rem .45rem;
  font-size: .87rem; line-height: 1.3; }
figure.diagram > svg { display: block; width: 100%; max-width: 31rem; height: auto; margin: 0 auto;
  overflow: visible; font: 12.5px var(--sans); }
.diagram .grid { stroke: var(--faint); stroke-width: 1; }
.diagram .ticks { fill: var(--muted); }
.diagram .label { fill: var(--text); font-weight: 600; paint-order: stroke; stroke: var(--panel);
  stroke-width: 4px; stroke-linejoin: round; text-anchor: middle; dominant-baseline: central; }
.small { color: var(--muted); font-size: .84rem; line-height: 1.45; margin: .5rem 0 0; }
details { margin-top: .6rem; font-size: .88rem; }
summary { color: var(--muted); cursor: pointer; width: fit-content; }
summary:hover { color: var(--text); }

/* What goes on beyond the right edge lies in its shade; the cover over it comes along with the table's end. */
.scroll { overflow-x: auto; max-width: 100%; margin-top: .5rem; -webkit-overflow-scrolling: touch;
  background: linear-gradient(to left, var(--panel) 30%, transparent) right / 2.5rem 100% no-repeat local,
    linear-gradient(to left, var(--shade), transparent) right / 1.1rem 100% no-repeat scroll; }
.scroll::-webkit-scrollbar { height: 8px; width: 8px; }
.scroll::-webkit-scrollbar-thumb { background: var(--rule); border-radius: 4px; }
@supports not selector(::-webkit-scrollbar) { .scroll { scrollbar-width: thin; } }
details .scroll { max-height: 24rem; overflow-y: auto; }
table { border-collapse: collapse; font-size: .92rem; line-height: 1.4;
  font-variant-numeric: lining-nums tabular-nums; }
.table table { min-width: min(100%, 32rem); }
th, td { padding: .38rem .55rem; text-align: right; border-bottom: 1px solid var(--faint); white-space: nowrap;
  vertical-align: baseline; }
th:first-child, td:first-child { padding-left: 0; }
th:last-child, td:last-child { padding-right: .2rem; }
thead th { border-bottom: 1.5px solid var(--text); font-weight: 600; vertical-align: bottom;
  white-space: normal; min-width: 4.5rem; }
tbody th { font-weight: 400; }
th.l, td.l { text-align: left; }
th.c, td.c { text-align: center; }
td.l { white-space: normal; min-width: 14rem; }
tbody tr:hover > * { background: var(--hover); }
.table th:first-child { position: sticky; left: 0; background: var(--panel); }
th .unit { color: var(--muted); font-weight: 400; font-size: .86em; }
abbr { text-decoration: underline dotted var(--rule); text-underline-offset: 3px; cursor: help; }
details table { font-size: .85rem; }
details thead th { position: sticky; top: 0; background: var(--panel); }
details.note { max-width: 50rem; }
.columns { margin: .5rem 0 0; display: grid; grid-template-columns: minmax(5rem, max-content) 1fr;
  gap: .2rem 1rem; max-width: 50rem; }
.columns dt { font-weight: 600; }
.columns dd { margin: 0; color: var(--muted); }

.settings { display: grid; grid-template-columns: repeat(auto-fill, minmax(min(100%, 20rem), 1fr));
  gap: 0 2.2rem; margin: .4rem 0 0; font-size: .92rem; }
.settings div { display: flex; justify-content: space-between; gap: 1rem; padding: .32rem 0;
  border-bottom: 1px solid var(--faint); }
.settings dt { color: var(--muted); }
.settings dd { margin: 0; text-align: right; font-variant-numeric: tabular-nums; overflow-wrap: anywhere; }
pre { margin: .4rem 0 0; font: .86rem/1.5 var(--mono); white-space: pre-wrap; overflow-wrap: anywhere; }

.callout { border-left: 4px solid var(--accent); }
.callout.good { border-left-color: var(--good); }
.callout.warning { border-left-color: var(--warning); }
.callout p { margin: 0; }
.callout .word { font-weight: 650; color: var(--accent); }
.callout.good .word { color: var(--good); }
.callout.warning .word { color: var(--warning); }

.pictures { display: flex; flex-wrap: wrap; gap: 1rem 1.1rem; margin-top: .7rem; }
.pictures figure { margin: 0; }
.pictures figcaption { font-size: .85rem; line-height: 1.35; margin-top: .3rem; }
.pictures figcaption span { display: block; color: var(--muted); font-size: .8rem; }
.picture { margin: 0; }
img { display: block; max-width: 100%; height: auto; border: 1px solid var(--faint); background: #fff; }
img.enlarged { image-rendering: pixelated; }
footer { color: var(--muted); font-size: .87rem; margin-top: 3rem; padding-top: 1rem; padding-bottom: 2.5rem;
  }
footer p { border-top: 1px solid var(--rule); padding-top: 1rem; max-width: none; white-space: pre-line; }

@media (max-width: 34rem) {
  .figures { grid-template-columns: 1fr 1fr; }
  .figures .value { font-size: 1.4rem; }
  .plot { height: var(--plot-height, 18rem); }
  .panel { margin-left: -.35rem; margin-right: -.35rem; }
}
@media print {
  @page { size: A4; margin: 15mm 14mm; }
  :root { --page: #fff; --panel: #fff; --faint: #d5d8dc; --hover: #fff; }
  body { font-size: 10pt; line-height: 1.45; }
  header, main, footer { max-width: none; padding-left: 0; padding-right: 0; }
  header { padding-top: 0; }
  nav, details:not([open]) { display: none; }
  p { orphans: 3; widows: 3; }
  .note > summary { list-style: none; }
  section { margin-top: 1.5rem; }
  section + section { break-before: page; margin-top: 0; }
  h1, h2, h3, .look, .legend { break-after: avoid; }
  .blocks { display: block; }
  .blocks > * { margin-bottom: 1.1rem; }
  .panel { border: 0; border-top: 1px solid var(--rule); border-radius: 0; padding: .7rem 0 0; margin-left: 0;
    margin-right: 0; }
  .callout { border-left: 4px solid var(--accent); border-top: 0; padding: .2rem 0 .2rem .8rem; }
  figure, .panel, tr, .figures, .pictures figure { break-inside: avoid; }
  figure.chart, figure.diagram { display: block; }
  .plot { height: auto; }
  .plot canvas { position: static; width: 100% !important; height: auto !important; }
  .legend button[aria-pressed=false] { display: none; }
  .scroll, details .scroll { overflow: visible; max-height: none; background: none; }
  table { font-size: 8.5pt; }
  th, td { padding: .2rem .45rem; }
  thead { display: table-header-group; }
  details thead th { position: static; }
}
)css";

}  // namespace banach::report
