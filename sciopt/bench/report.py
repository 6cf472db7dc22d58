"""The report: one self-contained HTML page with every claim, its verdict and its figure."""

from __future__ import annotations

import re
from collections.abc import Sequence
from html import escape
from pathlib import Path

from sciopt.bench.domain import Answer, Status
from sciopt.bench.evidence import Evidence
from sciopt.bench.store import write_atomically

ANSWER_CLASSES = {
    Answer.HOLDS: "holds",
    Answer.HOLDS_UNDER_CONDITIONS: "conditions",
    Answer.FAILS: "fails",
    Answer.UNDECIDED: "undecided",
}

PAGE = """<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>sciopt: claims and verdicts</title>
<style>
:root {{ color-scheme: light dark; --text: #1a1a1a; --page: #fff; --line: #ccc; --soft: #666;
  --holds: #0b6e2d; --conditions: #8a5a00; --fails: #a4161a; --undecided: #555; }}
@media (prefers-color-scheme: dark) {{ :root {{ --text: #e6e6e6; --page: #16181c; --line: #444;
  --soft: #a0a0a0; --holds: #5fd38a; --conditions: #f0b44c; --fails: #ff7b7b;
  --undecided: #bbb; }} }}
body {{ font: 16px/1.5 system-ui, sans-serif; color: var(--text); background: var(--page);
  max-width: 62rem; margin: 0 auto; padding: 1rem; }}
table {{ border-collapse: collapse; }}
.summary {{ width: 100%; }}
.scroll {{ overflow-x: auto; }}
th, td {{ text-align: left; padding: .3rem .6rem; border-bottom: 1px solid var(--line);
  vertical-align: top; }}
td.number {{ text-align: right; font-variant-numeric: tabular-nums; white-space: nowrap; }}
.holds {{ color: var(--holds); }} .conditions {{ color: var(--conditions); }}
.fails {{ color: var(--fails); }} .undecided {{ color: var(--undecided); }}
.verdict {{ font-weight: 600; }}
figure {{ margin: 1rem 0; background: #fff; border: 1px solid var(--line); padding: .5rem;
  overflow-x: auto; }}
figure svg {{ display: block; width: 100%; min-width: 30rem; height: auto; margin: 0 auto; }}
code {{ background: color-mix(in srgb, var(--text) 8%, transparent); padding: .1rem .3rem;
  overflow-wrap: anywhere; }}
.soft {{ color: var(--soft); font-size: .9rem; }}
section {{ border-top: 2px solid var(--line); margin-top: 2rem; }}
a {{ color: inherit; }}
</style>
</head>
<body>
<h1>sciopt: claims and verdicts</h1>
<div class="scroll"><table class="summary">
<thead><tr><th>domain</th><th>claim</th><th>verdict</th><th>seconds</th></tr></thead>
<tbody>
{summary}
</tbody></table></div>
{sections}
{missing}
</body>
</html>
"""


def write_report(
    file: Path, evidence: Sequence[Evidence], missing: Sequence[tuple[str, str, str]]
) -> Path:
    """Write the page; `missing` lists (domain, claim, sentence) of claims not run yet."""
    page = PAGE.format(
        summary="\n".join(map(_summary_row, evidence)),
        sections="\n".join(map(_section, evidence)),
        missing=_missing(missing),
    )
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(file, page.encode())
    return file


def _summary_row(one: Evidence) -> str:
    return (
        f'<tr><td>{escape(one.domain)}</td><td><a href="#{_anchor(one)}">{escape(one.claim.says)}'
        f'</a></td><td class="verdict {ANSWER_CLASSES[one.verdict.answer]}">'
        f'{one.verdict.answer.value}</td><td class="number">{one.seconds:.1f}</td></tr>'
    )


def _section(one: Evidence) -> str:
    numbers = "\n".join(
        f'<tr><td>{escape(name)}</td><td class="number">{value:.6g}</td></tr>'
        for name, value in one.verdict.numbers.items()
    )
    return f"""<section id="{_anchor(one)}">
<h2>{escape(one.claim.says)}</h2>
<p><span class="verdict {ANSWER_CLASSES[one.verdict.answer]}">{one.verdict.answer.value}</span>:
{escape(one.verdict.because)}</p>
<figure role="img" aria-label="{escape(one.claim.says)}">
{_inline(one.svg)}
</figure>
<p>Made by <code>{escape(one.command)}</code></p>
<details open><summary>Numbers</summary><div class="scroll"><table><tbody>
{numbers}
</tbody></table></div></details>
<p class="soft">{_provenance(one)}</p>
</section>"""


def _provenance(one: Evidence) -> str:
    """Runs, how they ended, the commit, and a warning where the figure mixes sources."""
    failed = sum(result.status.failed for result in one.results)
    text = f"{len(one.results)} runs, {failed} diverged; commit {', '.join(one.commits)}."
    if late := sum(result.status is Status.OUT_OF_TIME for result in one.results):
        text += f" Warning: {late} runs were cut by their time limit."
    if len(one.commits) > 1:
        text += " Warning: this figure mixes runs of several commits."
    if one.stale:
        text += " Warning: the source has changed since; the command above makes it again."
    return escape(text)


def _inline(svg: str) -> str:
    """The svg element alone, scaled to the page's width but to no more than 1.4 times its own."""
    start, end = svg.index("<svg"), svg.index(">", svg.index("<svg"))
    opening = svg[start:end]
    width = float(re.findall(r' width="([\d.]+)pt"', opening)[0])
    opening = re.sub(r' (width|height)="[^"]*"', "", opening)
    return f'{opening} style="max-width: {1.4 * width:.0f}pt"{svg[end:]}'


def _anchor(one: Evidence) -> str:
    return f"{one.domain}-{one.name}"


def _missing(missing: Sequence[tuple[str, str, str]]) -> str:
    if not missing:
        return ""
    rows = "\n".join(
        f"<tr><td>{escape(domain)}</td><td>{escape(says)}</td>"
        f"<td><code>python -m applications.{escape(domain)} claim {escape(name)}</code></td></tr>"
        for domain, name, says in missing
    )
    return f"""<section><h2>Not run yet</h2>
<div class="scroll"><table><tbody>
{rows}
</tbody></table></div></section>"""
