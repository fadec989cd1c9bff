"How the site looks and is built: make site. Nothing is executed; what docs/prepare.py wrote is rendered."
import sys
from configparser import ConfigParser
from pathlib import Path
from docutils import nodes
from sphinx.transforms.post_transforms import SphinxPostTransform

here = Path(__file__).resolve().parent
config = ConfigParser(delimiters=['='])
config.read(here.parent/'settings.ini', encoding='utf-8')
cfg = config['DEFAULT']

project, author, copyright, release = cfg['lib_name'], cfg['author'], cfg['copyright'], cfg['version']
extensions = ['myst_nb', 'sphinx_copybutton']
add_module_names, toc_object_entries_show_parents = False, 'hide'
html_theme, html_title = 'furo', f"{project} {release}"
html_static_path, html_extra_path = [str(here/'_static')], [str(here.parent/'_docs'/'src'/'extra')]
html_css_files, html_js_files = ['site.css'], ['site.js']
html_baseurl = cfg['doc_host'] + cfg['doc_baseurl'] + '/'
html_use_index = html_domain_indices = html_copy_source = html_show_sourcelink = html_show_sphinx = False
html_favicon = str(here/'_static'/'icon.svg')
pygments_style, pygments_dark_style = 'a11y-high-contrast-light', 'a11y-high-contrast-dark'
nb_execution_mode, nb_merge_streams, nb_render_markdown_format = 'off', True, 'myst'
myst_enable_extensions = ['dollarmath', 'amsmath', 'colon_fence', 'attrs_inline', 'deflist']
myst_heading_anchors = 3
myst_dmath_allow_digits = False
html_math_renderer = 'mathml'
copybutton_exclude = '.linenos, .gp, .go'
exclude_patterns = ['extra']
sys.path.insert(0, str(here))
myst_heading_slug_func = 'prepare.slug'         # by its name: a function would not pass to another process

# --- formulas are MathML, made at build time: no script, no font ----------------------------------------------------
def mathml(tex:str, display:str) -> str:
    from latex2mathml.converter import convert
    return convert(tex, display=display)
def visit_math(self, node):
    self.body.append(mathml(node.astext(), 'inline'))
    raise nodes.SkipNode
def visit_display(self, node):
    self.body.append(f'<div class="math-block" tabindex="0" role="group" aria-label="formula">{mathml(node.astext(), "block")}</div>')
    raise nodes.SkipNode

# --- checks are there, and folded -----------------------------------------------------------------------------------
class FoldChecks(SphinxPostTransform):
    default_priority = 900
    def run(self):
        for section in list(self.document.findall(nodes.section)):
            if section[0].astext() != 'Checks' or len(section) < 2: continue
            raw = lambda html: nodes.raw('', html, format='html')
            n = len(list(section.findall(nodes.section))) - 1
            said = f'Show the checks ({n} parts)' if n > 1 else 'Show the checks'
            section.insert(1, raw(f'<details class="checks"><summary>{said}</summary>'))
            section.append(raw('</details>'))

def setup(app):
    app.add_html_math_renderer('mathml', (visit_math, None), (visit_display, None))
    app.add_post_transform(FoldChecks)
    return dict(parallel_read_safe=True, parallel_write_safe=True)
