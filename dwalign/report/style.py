"""How a page looks: light or dark as the reader's system is, on wide and narrow windows, and on paper."""

STYLE = """
:root { color-scheme: light dark; --ink: #1c1c1c; --quiet: #5c5c5c; --paper: #ffffff; --line: #dddddd;
  --good: #00694d; --bad: #b3261e; }
@media (prefers-color-scheme: dark) {
  :root { --ink: #e6e6e6; --quiet: #a6a6a6; --paper: #161616; --line: #3a3a3a; --good: #5fd0a8; --bad: #ff8a80; }
  /* light becomes dark, and colours stay what they are called; scales of colour keep their light */
  svg { filter: invert(0.91) hue-rotate(180deg) brightness(1.3); }
  svg:has(image) { filter: none; background: #f2f2f2; }
}
body { margin: 0; background: var(--paper); color: var(--ink); line-height: 1.5;
  font-family: system-ui, -apple-system, "Segoe UI", Roboto, "DejaVu Sans", sans-serif; }
main { max-width: 72rem; margin: 0 auto; padding: 2rem 1.25rem 4rem; }
h1 { font-size: 1.9rem; line-height: 1.2; margin: 0 0 0.75rem; overflow-wrap: anywhere; }
h2 { font-size: 1.25rem; margin: 2.5rem 0 0.75rem; }
h3 { font-size: 1rem; margin: 1.5rem 0 0.5rem; }
p { max-width: 46rem; margin: 0.75rem 0; overflow-wrap: anywhere; }
.lead { font-size: 1.2rem; }
.quiet, figcaption, footer { color: var(--quiet); font-size: 0.9rem; }
.met { color: var(--good); }
.missed { color: var(--bad); font-weight: bold; }
.wide { overflow-x: auto; }
.wide:focus-visible { outline: 2px solid var(--quiet); outline-offset: 2px; }
table { border-collapse: collapse; font-size: 0.9rem; font-variant-numeric: tabular-nums; }
th, td { text-align: left; vertical-align: top; padding: 0.3rem 1.25rem 0.3rem 0; border-bottom: 1px solid var(--line);
  white-space: nowrap; }
thead th { color: var(--quiet); font-weight: normal; vertical-align: bottom; white-space: normal; min-width: 4.5rem; }
tbody th { font-weight: 600; }
.sentence { white-space: normal; min-width: 14rem; overflow-wrap: anywhere; }
figure { margin: 1rem 0; }
svg { display: block; max-width: 100%; height: auto; }
[id*="-halo-"] text { paint-order: stroke; stroke: #ffffff; stroke-width: 2.5px; stroke-linejoin: round; }
figcaption { margin: 0.5rem 0; max-width: 46rem; }
details { margin: 1rem 0; }
summary { cursor: pointer; }
footer { margin-top: 3rem; border-top: 1px solid var(--line); padding-top: 0.75rem; }
@media (max-width: 40rem) {
  main { padding: 1.25rem 1rem 3rem; }
  tbody th { white-space: normal; min-width: 7rem; }
  th, td { padding-right: 0.9rem; }
  .sentence { min-width: 9rem; }
}
@media print {
  :root { --ink: #000000; --quiet: #444444; --paper: #ffffff; --line: #bbbbbb; --good: #00694d; --bad: #b3261e; }
  main { max-width: none; padding: 0; }
  .wide { overflow: visible; }
  svg { min-width: 0 !important; filter: none; }
  tr, figure, h2 { break-inside: avoid; break-after: auto; }
  h2 { break-after: avoid; }
}
"""
