"What the site is made from: every notebook has its place, every public name its entry. make site-test looks at the pages."
import json, sys
from pathlib import Path

root = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(root/'docs'))
import prepare, reference
files = prepare.all_files()

def test_every_notebook_is_there_and_in_the_contents():
    stems = [p.stem for p in (root/'nbs').glob('[0-9]*.ipynb')]
    assert all(f'nbs/{s}.ipynb' in files and f'<nbs/{s}>' in files['index.ipynb'] and f'/nbs/{s}.html' in files['extra/llms.txt'] for s in stems)

def test_nothing_shown_is_lost():
    for path in (root/'nbs').glob('[0-9]*.ipynb'):
        ours, made = (json.loads(t)['cells'] for t in (path.read_text(encoding='utf-8'), files[f'nbs/{path.name}']))
        outputs = lambda cells: sum(len(c.get('outputs', [])) for c in cells)
        stderr = sum(o.get('name') == 'stderr' for c in ours for o in c.get('outputs', []))
        assert outputs(made) == outputs(ours) - stderr, path.name
        assert sum('image' in c['metadata'].get('mystnb', {}) for c in made) == \
               sum(any('image/' in k for o in c.get('outputs', []) for k in o.get('data', {})) for c in ours), path.name

def test_the_reference_has_every_public_name_and_what_its_arguments_are():
    page = files['api/anneal.md']
    assert '{py:function} sched_lin(start, end)' in page                      # as the decorator leaves it
    assert '| `lr:float=.5 → Callable` | Learning rate |' in page
    for name, m in reference.modules(root/'minitrain').items():
        assert all(f'}} {n}' in files[f'api/{name}.md'] for n in m['names']), name

def test_a_signature_keeps_its_comments():
    import ast
    text = 'def f(a:int, # How many\n      # of them\n      *, b="#:(", # A mark\n     ) -> int: # The sum\n    return a # no comment of the signature'
    rows = reference.signature_rows(ast.parse(text).body[0], text.split('\n'))
    assert rows == [('a:int', 'How many of them'), ('*, b="#:("', 'A mark'), ('returns int', 'The sum')], rows

def test_names_in_prose_are_linked_outside_headings_and_code():
    text = '# `Runner`\n`Runner` and `other`, [`Runner`](x)\n```\n`Runner`\n```'
    assert prepare.linked(text, dict(Runner='minitrain.callbacks.Runner')) == \
           '# `Runner`\n{py:obj}`Runner <minitrain.callbacks.Runner>` and `other`, [`Runner`](x)\n```\n`Runner`\n```'

def test_the_ledger_has_a_line_a_figure():
    claims = json.loads((root/'results'/'claims.json').read_text(encoding='utf-8'))['claims']
    assert files['ledger.md'].count('<tr data-verdict') == len(claims)
