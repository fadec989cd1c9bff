"The reference: a page a module, made from its text. Comments on arguments are kept, nothing is imported."
import ast, io, re, tokenize
from pathlib import Path

def calls(root:Path) -> dict: # module → {name: signature as Python sees it}: what a decorator makes of a function
    found, module = {}, ''
    for line in (root/'tests'/'signatures.txt').read_text(encoding='utf-8').splitlines():
        if line.startswith('# '): module = found.setdefault(line[2:], {})
        elif m := re.match(r'(\w+)(\(.*)', line): module[m[1]] = m[2]
    return found

def modules(package:Path) -> dict: # name as after `minitrain.` → dict of its text, tree and public names
    found = {}
    for path in sorted(package.rglob('*.py')):
        if path.stem.startswith('_') or path.name == 'all.py': continue
        name = '.'.join(path.relative_to(package).with_suffix('').parts)
        text = path.read_text(encoding='utf-8')
        tree = ast.parse(text)
        own = {n.name: n for n in tree.body if isinstance(n, (ast.FunctionDef, ast.ClassDef)) and not n.name.startswith('_')}
        constants = {t.id: n for n in tree.body if isinstance(n, ast.Assign) for t in n.targets
                     if isinstance(t, ast.Name) and t.id in exported(tree) and not t.id.startswith('_')}
        found[name] = dict(text=text, tree=tree, own=own, constants=constants, path=path,
                           names={n: f'minitrain.{name}.{n}' for n in (*own, *constants)})
    return found

def exported(tree) -> list: # `__all__`
    for n in tree.body:
        if isinstance(n, ast.Assign) and getattr(n.targets[0], 'id', '') == '__all__': return ast.literal_eval(n.value)
    return []

def signature_rows(node, lines:list) -> list: # (code of a line of the signature, its comment), where there is a comment
    first = node.lineno - 1
    text = '\n'.join(lines[first:node.body[0].lineno - 1] or [lines[first]])
    comments, depth, end = {}, 0, None
    try:
        for t in tokenize.generate_tokens(io.StringIO(text).readline):
            if t.type == tokenize.COMMENT: comments[t.start[0] - 1] = (t.start[1], t.string.lstrip('# '))
            if t.type == tokenize.OP: depth += (t.string in '([{') - (t.string in ')]}')
            if t.type == tokenize.OP and t.string == ':' and not depth: end = t.start
            if end and t.type in (tokenize.NEWLINE, tokenize.NL): break
    except (tokenize.TokenError, IndentationError): pass        # the body is cut off
    rows = []
    for i, line in enumerate(text.split('\n')):
        if i not in comments: continue
        at, said = comments[i]
        code = re.sub(r'^\s*(async )?def \w+\(', '', line[:at]).strip().rstrip(',')
        code = re.sub(r'\)\s*(->.*?)?:$', lambda m: ' ' + (m[1] or '').replace('->', '→'), code) if i == (end or (0,))[0] - 1 else code
        code = re.sub(r'^self(, )?', '', code).strip()
        if not code and rows: rows[-1] = (rows[-1][0], f'{rows[-1][1]} {said}')
        elif code.startswith('→'): rows.append((f'returns {code[1:].strip()}', said))
        else: rows.append((code or 'all', said))
    return rows

def signature(node) -> str:
    args = ast.unparse(node.args)
    return f'({args})' + (f' -> {ast.unparse(node.returns)}' if node.returns else '')

def without_self(sig:str) -> str: return re.sub(r'^\(self(, )?', '(', sig)

def init_of(node): return next((n for n in node.body if isinstance(n, ast.FunctionDef) and n.name == '__init__'), None)

def prose(doc:str) -> str: # `Raises:` and its like begin a paragraph of their own
    return re.sub(r'\n(?=(Shape|Raises|Source|Returns):)', '\n\n', doc or '')

def fields(node) -> str: # of a dataclass
    if not any('dataclass' in ast.unparse(d) for d in node.decorator_list): return ''
    return '(' + ', '.join(ast.unparse(n) for n in node.body if isinstance(n, ast.AnnAssign)) + ')'

def entry(kind:str, name:str, node, lines:list, links:str='', colons:int=5, call:str='') -> str:
    sig = without_self(signature(node)) if isinstance(node, ast.FunctionDef) else (without_self(signature(init_of(node))).replace(' -> None', '')
                                                                                   if init_of(node) else fields(node))
    decorators = [ast.unparse(d).split('(')[0] for d in node.decorator_list]
    if 'property' in decorators: kind, sig = 'py:property', ''
    of = init_of(node) if isinstance(node, ast.ClassDef) else node
    rows = signature_rows(of, lines) if of else []
    body = prose(ast.get_docstring(node))
    if bases := [ast.unparse(b) for b in getattr(node, 'bases', [])]: body = f'Base: {", ".join(f"`{b}`" for b in bases)}\n\n{body}'
    own = [d for d in decorators if d not in ('property', 'staticmethod', 'classmethod', 'dataclass', 'contextmanager', 'functools.wraps')
           and not d.endswith('.setter')]
    if own and call: sig = call
    if own: body += f'\n\nMade by the decorator `@{"`, `@".join(own)}`.'
    table = '' if not rows else '\n\n| argument | what it is |\n|---|---|\n' + '\n'.join(
        f'| {code(c)} | {said.replace("|", chr(92) + "|")} |' for c, said in rows)
    inner = f'{body}{table}\n\n{links}'
    if isinstance(node, ast.ClassDef):
        for n in node.body:
            if isinstance(n, ast.FunctionDef) and not n.name.startswith('_') and not any('.setter' in ast.unparse(d) for d in n.decorator_list):
                if not ast.get_docstring(n) and not signature_rows(n, lines): continue     # an event's handler: the class says what it does
                inner += '\n\n' + entry('py:method', n.name, n, lines, colons=colons - 1)
    return f'{":"*colons}{{{kind}}} {name}{sig}\n\n{inner.strip()}\n{":"*colons}\n'

def code(c:str) -> str:
    text = c.replace('|', '\\|')
    return f'`{text}`' if not c.startswith('returns ') else f'returns `{text[8:]}`'

def cells_of(text:str) -> list: # (line, notebook, id) of each exported cell, in order
    return [(text[:m.start()].count('\n') + 1, m[1], m[2]) for m in re.finditer(r'^# %% \.\./(nbs/\S+)\.ipynb #(\w+)', text, re.M)]

def page(name:str, m:dict, on_github, root:Path) -> str:
    here = m['path'].relative_to(root).as_posix()
    lines, cells, called = m['text'].split('\n'), cells_of(m['text']), calls(root).get(name, {})
    out = f'# minitrain.{name}\n\n{ast.get_docstring(m["tree"]) or ""}\n\n[View source]({on_github(here)})'
    if cells: out += f' · notebook [{cells[0][1].split("/")[1]}](../{cells[0][1]}.ipynb)'
    out += f'\n\n```{{py:module}} minitrain.{name}\n```\n\n'
    for n, node in sorted({**m['own'], **m['constants']}.items(), key=lambda x: x[1].lineno):
        before = [c for c in cells if c[0] < node.lineno]
        links = f'<a class="source" href="{on_github(here)}#L{node.lineno}">source<span class="visually-hidden"> of {n}</span></a>'
        if before: links += f' <a class="source" href="../{before[-1][1]}.html#cell-{before[-1][2]}">where it is written<span class="visually-hidden">: {n}</span></a>'
        if isinstance(node, ast.Assign):
            value = ast.unparse(node.value)
            shown = value if len(value) < 300 else value[:300].rsplit(', ', 1)[0] + ', …'
            out += f':::::{{py:data}} {n}\n\n```text\n{shown}\n```\n\n{links}\n:::::\n\n'
        else: out += entry('py:class' if isinstance(node, ast.ClassDef) else 'py:function', n, node, lines, links,
                           call=called.get(n, '')) + '\n'
    return out

def pages_index(mods:dict, root:Path) -> str:
    inside = {}
    for name, m in mods.items():
        inside.setdefault('lab' if name.startswith('lab.') else 'train', []).append(name)
    text = '# Reference\n\nEvery public name, each on the page of its module. Two houses: what trains, and `minitrain.lab`, what measures.\n'
    for house, title in ('train', 'What trains'), ('lab', 'What measures'):
        text += f'\n## {title}\n\n| module | what it is for | names |\n|---|---|---|\n'
        for name in inside[house]:
            doc = (ast.get_docstring(mods[name]['tree']) or '').split('\n')[0].replace('|', '\\|')
            names = ', '.join(f'{{py:obj}}`{n} <{f}>`' for n, f in mods[name]['names'].items())
            text += f'| [{name}]({name}.md) | {doc} | {names} |\n'
    return text + '\n```{toctree}\n:hidden:\n\n' + '\n'.join(mods) + '\n```\n'
