"""What the site is made from: python docs/prepare.py OUT

Copies notebooks and pages into OUT as Sphinx wants them: directives and empty cells left out, alt texts and links to
source and Colab put in, names in prose linked to the reference, which is made here from the modules' own text. Nothing is
executed, and torch need not be installed. Only what changed is written, so that only that is built again.
"""
import ast, json, re, sys
from configparser import ConfigParser
from functools import lru_cache
from pathlib import Path
from reference import modules, page, pages_index
from ledger_page import ledger_page

root = Path(__file__).resolve().parent.parent
GROUPS = {'The lesson': '02a 02b 03 04 05 18',
          'Your own training': '17 17a 02c 05b 05c 04a 04b 06 08 08b 09 09a 10 11 12 12a 17b 17c',
          'Runs that can be trusted': '12b 13 13a 13b 14 14a',
          'Speed': '07 08a 15j 15 15a 15b 15c 15d 15e 15h 03a',
          'How it is measured': '19 16 15i 00a 01a 01b 01c 15f 15g',
          'Under the floor': '00 01 01d 01e 03c 03d 03e 03f 03g 05a 99'}

@lru_cache
def settings() -> dict:
    config = ConfigParser(delimiters=['='])
    config.read(root/'settings.ini', encoding='utf-8')
    return dict(config['DEFAULT'])

def notebooks() -> dict: # prefix → path
    return {p.stem.split('_')[0]: p for p in sorted((root/'nbs').glob('[0-9]*.ipynb'))}

def on_github(path:str, raw=False) -> str:
    return f"{settings()['git_url']}/{'raw' if raw else 'blob'}/{settings()['branch']}/{path}"

def slug(heading:str) -> str: # as notebooks link to a heading: as it stands, with hyphens for spaces
    return heading.strip().replace(' ', '-')

def source(cell) -> str: return ''.join(cell['source'])
def markdown(text:str, name:str) -> dict: return dict(cell_type='markdown', id=name, metadata={}, source=text)

# --- names in prose -------------------------------------------------------------------------------------------------
def names_seen(cells, module:str, public:dict) -> dict: # name → its full name, where this notebook exports or imports it
    seen = {n: f for n, f in public.items() if f.rsplit('.', 1)[0] == f'minitrain.{module}'}
    for cell in cells:
        if cell['cell_type'] != 'code' or 'minitrain' not in source(cell): continue
        try: tree = ast.parse(re.sub(r'^[%!].*$', '', source(cell), flags=re.M))
        except SyntaxError: continue
        for node in ast.walk(tree):
            if not isinstance(node, ast.ImportFrom) or not (node.module or '').startswith('minitrain'): continue
            if node.names[0].name == '*': seen = {**public, **seen}
            for a in node.names:
                if a.name in public: seen[a.name] = public[a.name]
    return seen

def linked(text:str, seen:dict) -> str:
    "Names in code style become links; not in headings, links or code blocks."
    out, fenced = [], False
    for line in text.split('\n'):
        if line.lstrip().startswith('```'): fenced = not fenced
        if not fenced and not line.startswith('#'):
            line = re.sub(r'(?<![`\[])`(@?)(\w+)(\(\))?`(?!\])', lambda m: f'{{py:obj}}`{m[1]}{m[2]}{m[3] or ""} <{seen[m[2]]}>`'
                          if m[2] in seen else m[0], line)
        out.append(line)
    return '\n'.join(out)

# --- pictures -------------------------------------------------------------------------------------------------------
def alt_text(cell, heading:str) -> str: # what the figure's own title says; else the question that it answers
    titles = re.findall(r'''title=f?(['"])(.+?)\1''', source(cell)) or re.findall(r'''set_title\(f?(['"])(.+?)\1''', source(cell))
    titles = [t for _, t in titles if '{' not in t]
    said = '; '.join(dict.fromkeys(titles))
    return f'Figure: {said}' + (f' (in: {heading})' if heading else '') if said else f'Figure that goes with: {heading}'

# --- a notebook -----------------------------------------------------------------------------------------------------
def links_of(path:Path) -> str:
    s, here = settings(), f'nbs/{path.name}'
    colab = f"https://colab.research.google.com/github/{s['user']}/{s['repo']}/blob/{s['branch']}/{here}"
    clone = f"!git clone -q {s['git_url']} && pip install -q -e './{s['repo']}[lab]'\n%cd {s['repo']}/nbs"
    return (f'[Run in Colab]({colab}) · [View source]({on_github(here)})\n\n'
            f'<details class="colab"><summary>In Colab, run this cell first</summary>\n\n```ipython\n{clone}\n```\n\n</details>')

def prepared(path:Path, public:dict) -> dict:
    nb = json.loads(path.read_text(encoding='utf-8'))
    nb['metadata']['language_info'] = dict(name='python', pygments_lexer='ipython3')
    index = path.stem == 'index'
    module = next((m[1] for c in nb['cells'] if (m := re.match(r'#\|\s*default_exp\s+(\S+)', source(c)))), '')
    seen, cells, heading = names_seen(nb['cells'], module, public), [], ''
    for cell in nb['cells']:
        text = source(cell)
        if cell['cell_type'] == 'markdown':
            for m in re.finditer(r'^##+ (.+)$', text, re.M): heading = m[1].replace('`', '')
            if index: text = re.sub(r'\]\(\.\./(?!nbs/|results/)([^)#]+)\)', lambda m: f']({page_of(m[1])})', text).replace('](../', '](')
            cells.append(dict(cell, source=linked(text, seen)))
            if text.startswith('# ') and not index: cells.append(markdown(links_of(path), f'links-{cell["id"]}'))
            continue
        if cell['cell_type'] != 'code': continue
        names = re.findall(r'^#\|\s*(\w+)', text, re.M)
        text = re.sub(r'^#\|.*\n?', '', text, flags=re.M).strip('\n')
        if not text and not cell['outputs']: continue
        tags = set(cell['metadata'].get('tags', []))
        imports = only_imports(text)
        if imports: tags.add('hide-input')
        shown = 'the imports' if imports else 'the code that made this'
        new = dict(cell, source=text, metadata=dict(tags=sorted(tags), mystnb=dict(code_prompt_show=f'Show {shown}', code_prompt_hide=f'Hide {shown}')))
        if any(k.startswith('image/') for o in cell['outputs'] for k in o.get('data', {})):
            new['metadata']['mystnb']['image'] = dict(alt=alt_text(cell, heading))
        if index: cell['outputs'] = json.loads(json.dumps(cell['outputs']).replace('](../', ']('))
        new['outputs'] = [o for o in cell['outputs'] if o.get('name') != 'stderr']
        exported = set(names) & {'export', 'exports', 'exporti'}
        if exported: cells.append(markdown(f'<span id="cell-{cell["id"]}"></span>', f'at-{cell["id"]}'))
        if flag := set(names) & {'slow', 'gpu', 'record'}:
            cells.append(markdown(f'*Flagged {", ".join(sorted(flag))}: not run by `make test`.*', f'flag-{cell["id"]}'))
        cells.append(new)
        if exported and (made := [n for n in defined(text) if n in public]):
            cells.append(markdown('Exported: ' + ', '.join(f'{{py:obj}}`{n} <{public[n]}>`' for n in made), f'api-{cell["id"]}'))
    nb['cells'] = cells
    return nb

def defined(text:str) -> list:
    try: return [n.name for n in ast.parse(text).body if isinstance(n, (ast.FunctionDef, ast.ClassDef))]
    except SyntaxError: return []

def only_imports(text:str) -> bool:
    try: return all(isinstance(n, (ast.Import, ast.ImportFrom)) for n in ast.parse(text).body)
    except SyntaxError: return False

def page_of(path:str) -> str: # a file beside the notebooks that has a page on the site, or its place on GitHub
    return {'CHANGELOG.md': 'changes.md', 'CONTRIBUTING.md': 'contributing.md'}.get(path, on_github(path))

# --- pages ----------------------------------------------------------------------------------------------------------
def title_of(path:Path) -> str:
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    return source(cells[0]).split('\n')[0].lstrip('# ')

def sentence_of(path:Path) -> str:
    cells = json.loads(path.read_text(encoding='utf-8'))['cells']
    m = re.search(r'^> (.+)$', '\n'.join(source(c) for c in cells[:2]), re.M)
    return m[1] if m else ''

def contents() -> str:
    "The order of the pages, as toctrees: the reader's road, not the modules' numbers."
    found, text = notebooks(), ''
    missing = set(found) - set(' '.join(GROUPS.values()).split())
    if missing: raise SystemExit(f'docs/prepare.py: GROUPS has no place for {", ".join(sorted(missing))}')
    for caption, prefixes in GROUPS.items():
        rows = '\n'.join(f'{k} {title_of(found[k])} <nbs/{found[k].stem}>' for k in prefixes.split())
        text += f'```{{toctree}}\n:hidden:\n:caption: {caption}\n\n{rows}\n```\n\n'
    rest = 'Every figure <ledger>\nReference <api/index>\nWhat changed <changes>\nContributing <contributing>\n' + f'Source on GitHub <{settings()["git_url"]}>'
    return text + f'```{{toctree}}\n:hidden:\n:caption: Look up\n\n{rest}\n```\n'

def llms_txt() -> str: # https://llmstxt.org: what a language model reads first
    s, found = settings(), notebooks()
    base = s['doc_host'] + s['doc_baseurl']
    text = f"# {s['lib_name']}\n\n> {s['description']}\n"
    for caption, prefixes in GROUPS.items():
        rows = [f'- [{title_of(found[k])}]({base}/nbs/{found[k].stem}.html): {sentence_of(found[k])}' for k in prefixes.split()]
        text += f'\n## {caption}\n\n' + '\n'.join(rows) + '\n'
    return text + f'\n## Look up\n\n- [Reference]({base}/api/index.html): every public name\n- [Every figure]({base}/ledger.html): the ledger\n'

def all_files() -> dict: # path in OUT → text or bytes
    mods = modules(root/'minitrain')
    public = {n: f for m in mods.values() for n, f in m['names'].items()}
    index = prepared(root/'nbs/index.ipynb', public)
    index['cells'].append(markdown(contents(), 'contents'))
    files = {'index.ipynb': index, 'ledger.md': ledger_page(root),
             'extra/llms.txt': llms_txt(), 'api/index.md': pages_index(mods, root)}
    for path in notebooks().values(): files[f'nbs/{path.name}'] = prepared(path, public)
    for name, m in mods.items(): files[f'api/{name}.md'] = page(name, m, on_github, root)
    for old, new in ('CHANGELOG.md', 'changes.md'), ('CONTRIBUTING.md', 'contributing.md'):
        text = (root/old).read_text(encoding='utf-8')
        files[new] = re.sub(r'\]\((?!https?:|#)([^)]+)\)', lambda m: f']({m[1]})' if m[1].startswith('nbs/') else f']({on_github(m[1])})', text)
    for path in (root/'results').glob('*.png'): files[f'results/{path.name}'] = path.read_bytes()
    # the ledger's page takes the place of the table on GitHub
    return {k: json.dumps(v, ensure_ascii=False, indent=1, sort_keys=True).replace('../results/claims.md', '../ledger.md').replace('(results/claims.md)', '(ledger.md)') if isinstance(v, dict) else v for k, v in files.items()}

def main(out:Path):
    files = all_files()
    for name, content in files.items():
        content = content if isinstance(content, bytes) else content.encode()
        path = out/name
        if path.exists() and path.read_bytes() == content: continue
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    for path in out.rglob('*'):
        if path.is_file() and str(path.relative_to(out)) not in files: path.unlink()

if __name__ == '__main__': main(Path(sys.argv[1]))
