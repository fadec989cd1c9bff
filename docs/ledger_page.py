"The ledger as a page: a table that sorts and filters, each figure on the distribution that was drawn."
import html, json, sys
from pathlib import Path
sys.path.insert(0, str(Path(__file__).resolve().parent.parent))           # the site's environment has no torch, and needs none of it
from minitrain.lab.ledger import claim_notebooks, notebook_of

W, H = 180, 34                        # of a drawing, in pixels of CSS

def drawing(row:dict) -> str:
    "The density between the recorded quantiles, and the lesson's figure on it, as SVG."
    q = sorted((float(k), v) for k, v in row['quantiles'].items())
    if len(q) < 4 or q[-1][1] == q[0][1]: return ''
    inner = [(p, v) for p, v in q if .004 < p < .996]
    lo, hi, lesson = inner[0][1], inner[-1][1], row.get('lesson')
    if lo == hi: return ''
    span, beyond = hi - lo, ''
    if lesson is not None:
        if lesson < lo - span: beyond = 'left'
        elif lesson > hi + span: beyond = 'right'
        else: lo, hi = min(lo, lesson), max(hi, lesson)
    lo, hi = lo - .06*(hi - lo), hi + .06*(hi - lo)
    x = lambda v: round(3 + (W - 6)*(v - lo)/(hi - lo), 1)
    bars = [(a, b, (q1 - q0)/(b - a)) for (q0, a), (q1, b) in zip(inner, inner[1:]) if b > a]
    if not bars: return ''
    # far apart from the bulk, a spike would hide the rest
    top = sorted(h for *_, h in bars)[-1] if len(bars) < 3 else min(max(h for *_, h in bars), 3*sorted(h for *_, h in bars)[-2])
    rects = ''.join(f'<rect x="{x(a)}" y="{round(H - 2 - (H - 8)*min(1, h/top), 1)}" width="{max(.8, round(x(b) - x(a), 1))}" '
                    f'height="{round((H - 8)*min(1, h/top), 1)}"/>' for a, b, h in bars)
    mark = '' if lesson is None else (
        f'<path class="lesson" d="M{x(lesson)} 1V{H}"/>' if not beyond else
        f'<path class="lesson" d="M{3 if beyond == "left" else W - 3} {H/2:.0f}l{8 if beyond == "left" else -8} -5v10z"/>')
    said = f'Draws from {inner[0][1]:.4g} to {inner[-1][1]:.4g} (99 %)'
    if lesson is not None: said += f'; the lesson, {lesson:.4g}, ' + (f'far to the {beyond}' if beyond else f'at percentile {row["percentile"]:.0f}')
    return (f'<svg class="draws" width="{W}" height="{H}" viewBox="0 0 {W} {H}" role="img" aria-label="{said}"><title>{said}</title>'
            f'<path class="axis" d="M0 {H - 1.5}H{W}"/>{rects}{mark}</svg>')

def cell(value, text=None) -> str: # `value` is what it is sorted by
    return f'<td data-sort="{html.escape(str(value), quote=True)}">{text if text is not None else html.escape(str(value))}</td>'

def ledger_page(root:Path) -> str:
    claims = json.loads((root/'results'/'claims.json').read_text(encoding='utf-8'))['claims'].values()
    verdicts = sorted({r['verdict'] for r in claims})
    found = claim_notebooks(root/'nbs')
    rows = []
    for r in claims:
        nb = notebook_of(r, found)
        lesson, place = r.get('lesson'), r.get('percentile')
        id = f'<code>{html.escape(r["id"])}</code>'
        if nb: id = f'<a href="nbs/{Path(nb).stem}.html">{id}</a>'
        number = lambda v: '' if v is None else f'{v:.4g}'
        ours = number(r['mean']) if r['n'] == 1 or not r.get('sd') else f'{number(r["mean"])} ± {number(r["sd"])}<br><small>n={r["n"]:,}</small>'
        rows.append(f'<tr data-verdict="{r["verdict"]}">'
                    + cell(r['sentence'], f'{html.escape(r["sentence"])}<br>{id}')
                    + cell('' if lesson is None else lesson, number(lesson)) + cell('' if r.get('mean') is None else r['mean'], ours)
                    + f'<td>{drawing(r)}</td>' + cell('' if place is None else place, number(place))
                    + cell(r['verdict']) + '</tr>')
    heads = [('sentence', 1), ('lesson', 1), ('ours, mean ± sd', 1), ('draws', 0), ('percentile', 1), ('verdict', 1)]
    head = ''.join(f'<th scope="col"{" aria-sort=none" if s else ""}>{f"<button type=button>{h}</button>" if s else h}</th>' for h, s in heads)
    options = ''.join(f'<option>{v}</option>' for v in verdicts)
    when = sorted({r['date'] for r in claims})
    where = '; '.join(sorted({r['hardware'] for r in claims}))
    return f"""# Every figure of the lesson, and what we drew

The lesson printed one run of each, without a seed. Here each figure is one line: what the lesson said, the mean and standard
deviation of our draws, and where the lesson's figure falls among them. The drawing shows how the draws spread (between their .5th
and 99.5th percentile); the line across it is the lesson's figure, a triangle at the edge says that it lies further out.
How a claim is made and checked: [01a](nbs/01a_claims.ipynb) and [00a](nbs/00a_counting.ipynb).

```{{raw}} html
<form class="ledger-filter" role="search" onsubmit="return false"><label>Filter <input type="search" id="ledger-words" placeholder="words, or an id"></label>
<label>Verdict <select id="ledger-verdict"><option value="">all</option>{options}</select></label> <output id="ledger-count" aria-live="polite">{len(rows)} figures</output></form>
<div class="ledger-box" tabindex="0" role="region" aria-label="Table of all figures"><table class="ledger"><thead><tr>{head}</tr></thead><tbody>
{chr(10).join(rows)}
</tbody></table></div>
```

Recorded {when[0]} to {when[-1]} on {where}; `minitrain claims --record` measures them anew.
"""
