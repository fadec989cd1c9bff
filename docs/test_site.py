"""The site as a browser shows it: make site-test.

Every page loads without an error and asks nobody else for anything; no link inside is dead; search finds; the keyboard
reaches what a mouse does; pictures have alt texts; axe finds nothing to mend, light and dark, wide and narrow.
"""
import functools, http.server, os, re, shutil, threading
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote, urljoin, urlsplit
import pytest
from playwright.sync_api import sync_playwright

site = Path(__file__).resolve().parent.parent/'_docs'/'html'
pages = sorted(p.relative_to(site).as_posix() for p in site.rglob('*.html') if '_static' not in p.parts)
AXED = ['index.html', 'nbs/02a_init_research.html', 'nbs/05_anneal.html', 'nbs/09_regularize.html', 'nbs/19_results.html', 'ledger.html',
        'api/index.html', 'api/anneal.html', 'search.html?q=gradient+accumulation']
PHONE = dict(width=390, height=844)

class Read(HTMLParser): # links, ids and pictures of a page
    def __init__(self, text):
        super().__init__()
        self.links, self.ids, self.pictures = [], set(), []
        self.feed(text)
    def handle_starttag(self, tag, attrs):
        attrs = dict(attrs)
        if 'id' in attrs: self.ids.add(attrs['id'])
        if tag == 'img': self.pictures.append(attrs)
        for k in ('href', 'src'):
            if attrs.get(k): self.links.append(attrs[k])

@functools.lru_cache(None)
def read(page:str) -> Read: return Read((site/page).read_text(encoding='utf-8'))

def test_there_is_a_site(): assert len(pages) > 100, f'{site} has {len(pages)} pages: make site first'

def test_no_link_inside_is_dead():
    dead, seen = [], 0
    for page in pages:
        for link in set(read(page).links):
            parts = urlsplit(urljoin(f'http://site/{page}', link)) if not urlsplit(link).scheme else urlsplit(link)
            if urlsplit(link).scheme: continue                    # elsewhere: not ours to promise
            seen += 1
            to = unquote(parts.path).lstrip('/') or 'index.html'
            if not (site/to).is_file(): dead.append((page, link))
            elif parts.fragment and to.endswith('.html') and unquote(parts.fragment) not in read(to).ids: dead.append((page, link))
    assert seen > 5000
    assert not dead, dead[:20]

def test_pictures_have_alt_texts():
    pictures = [(page, p) for page in pages for p in read(page).pictures]
    without = [(page, p.get('src')) for page, p in pictures if len((p.get('alt') or '').strip()) < 12 or '_images/' in p['alt']]
    assert len(pictures) > 50 and not without, without[:20]

def test_every_public_name_has_an_entry():
    import sys
    sys.path.insert(0, str(Path(__file__).parent))
    from reference import modules
    missing = [full for name, m in modules(site.parent.parent/'minitrain').items() for full in m['names'].values()
               if full not in read(f'api/{name}.html').ids]
    assert not missing, missing

def test_llms_txt_names_every_notebook():
    text = (site/'llms.txt').read_text(encoding='utf-8')
    assert all(f'/nbs/{p.stem}.html' in text for p in (site.parent.parent/'nbs').glob('[0-9]*.ipynb'))

def test_no_formula_is_left_as_tex():
    left = [(page, m[0]) for page in pages if page.startswith('nbs/')
            for m in re.finditer(r'\\(frac|sqrt|sum|operatorname|mathrm|text)\b', re.sub(r'(?s)<(pre|code|annotation).*?</\1>', '', (site/page).read_text(encoding='utf-8')))]
    assert not left, left[:10]

# --- in a browser ---------------------------------------------------------------------------------------------------
class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *args): pass

@pytest.fixture(scope='module')
def address():
    server = http.server.ThreadingHTTPServer(('127.0.0.1', 0), functools.partial(Quiet, directory=site))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    yield f'http://127.0.0.1:{server.server_port}'
    server.shutdown()

@pytest.fixture(scope='module')
def browser():
    path = os.environ.get('MINITRAIN_CHROMIUM') or next(filter(None, map(shutil.which, ('chromium', 'chromium-browser', 'google-chrome'))), None)
    with sync_playwright() as p:
        b = p.chromium.launch(executable_path=path, args=['--no-sandbox'])
        yield b
        b.close()

@pytest.fixture
def tab(browser):
    page = browser.new_context(viewport=dict(width=1300, height=900), reduced_motion='reduce').new_page()
    yield page
    page.context.close()

def test_every_page_loads_without_an_error_and_asks_nobody_else(tab, address):
    wrong = []
    here = ['']
    tab.on('console', lambda m: m.type in ('error', 'warning') and wrong.append((here[0], m.text)))
    tab.on('pageerror', lambda e: wrong.append((here[0], str(e))))
    tab.on('request', lambda r: r.url.startswith((address, 'data:')) or wrong.append((here[0], r.url)))
    tab.on('response', lambda r: r.status >= 400 and wrong.append((here[0], r.url, r.status)))
    for page in pages:
        here[0] = page
        tab.goto(f'{address}/{page}')
        if tab.evaluate('document.documentElement.scrollWidth - innerWidth') > 0: wrong.append((page, 'is wider than the window'))
    assert not wrong, wrong[:20]

def test_nothing_is_wider_than_a_phone(browser, address):
    context = browser.new_context(viewport=PHONE)
    tab, wide = context.new_page(), []
    for page in pages:
        tab.goto(f'{address}/{page}')
        if (over := tab.evaluate('document.documentElement.scrollWidth - innerWidth')) > 0: wide.append((page, over))
    context.close()
    assert not wide, wide[:20]

@pytest.mark.parametrize('words, page', [('gradient accumulation', 'nbs/08_control.html'), ('Kaiming', 'nbs/02a_init_research.html'),
                                         ('one_cycle', 'api/anneal.html'), ('mixup', 'nbs/09_regularize.html')])
def test_search_finds(tab, address, words, page):
    tab.goto(f'{address}/index.html')
    tab.locator('input[name=q]').first.fill(words)
    tab.keyboard.press('Enter')
    tab.wait_for_selector('#search-results li a')
    found = tab.eval_on_selector_all('#search-results li a', 'l => l.slice(0, 8).map(a => a.href)')
    assert any(page in f for f in found), found

def test_search_works_from_the_disk(tab):
    errors = []
    tab.on('console', lambda m: m.type == 'error' and errors.append(m.text))
    tab.goto(f'{(site/"search.html").as_uri()}?q=gradient+accumulation')
    tab.wait_for_selector('#search-results li a')
    tab.wait_for_timeout(500)
    assert not errors, errors

def test_the_keyboard_opens_and_closes_what_a_mouse_does(tab, address):
    tab.goto(f'{address}/nbs/05_anneal.html')
    tab.keyboard.press('Tab')
    assert 'skip' in tab.evaluate('document.activeElement.textContent').lower()
    reached = []
    for _ in range(400):
        tab.keyboard.press('Tab')
        seen = tab.evaluate('''() => { const e = document.activeElement, r = e.getBoundingClientRect();
            return [e.tagName, e.className + '', e.getAttribute('href') || e.textContent.trim().slice(0, 40), r.width > 0 && r.height > 0] }''')
        if seen[0] == 'BODY': break
        reached.append(seen)
    hidden = [r for r in reached if not r[3]]
    assert not hidden, f'focus goes where nothing is seen: {hidden[:5]}'
    tags = {r[0] for r in reached}
    assert {'A', 'INPUT', 'BUTTON', 'SUMMARY'} <= tags, tags
    assert any('theme-toggle' in r[1] for r in reached)
    checks = tab.locator('details.checks > summary').first
    checks.focus()
    tab.keyboard.press('Enter')
    assert tab.locator('details.checks').first.evaluate('e => e.open')

def test_a_link_into_folded_checks_opens_them(tab, address):
    tab.goto(f'{address}/nbs/05_anneal.html')
    id = tab.evaluate("document.querySelector('details.checks section').id")
    tab.goto(f'{address}/nbs/05_anneal.html#{id}')
    tab.reload()
    assert tab.locator('details.checks').first.evaluate('e => e.open')

def test_in_a_narrow_window_the_menu_is_reached_by_keyboard(browser, address):
    context = browser.new_context(viewport=PHONE)
    tab = context.new_page()
    tab.goto(f'{address}/nbs/05_anneal.html')
    for _ in range(12):
        tab.keyboard.press('Tab')
        x = tab.evaluate('document.activeElement.getBoundingClientRect().right')
        assert x > 0, 'focus is in the closed menu'
        if tab.evaluate("document.activeElement.matches('.nav-overlay-icon, .mobile-header .nav-overlay-icon')"): break
    else: raise AssertionError('the menu button takes no focus')
    tab.keyboard.press('Enter')
    tab.wait_for_timeout(400)
    assert tab.locator('.sidebar-drawer').evaluate('e => e.getBoundingClientRect().left') >= 0
    tab.keyboard.press('Escape')
    tab.wait_for_timeout(400)
    assert tab.locator('.sidebar-drawer').evaluate('e => e.getBoundingClientRect().right') <= 0
    context.close()

def test_the_ledger_sorts_and_filters(tab, address):
    tab.goto(f'{address}/ledger.html')
    shown = 'table.ledger tbody tr:not([hidden])'
    total = tab.locator(shown).count()
    tab.fill('#ledger-words', 'kaiming')
    some = tab.locator(shown).count()
    assert 0 < some < total and tab.locator('#ledger-count').text_content() == f'{some} of {total} figures'
    tab.fill('#ledger-words', '')
    tab.select_option('#ledger-verdict', 'a lucky draw')
    assert tab.locator(shown).count() == 2
    tab.select_option('#ledger-verdict', '')
    tab.get_by_role('button', name='percentile').focus()
    tab.keyboard.press('Enter')
    at = lambda: [float(v) for v in tab.eval_on_selector_all('table.ledger tbody tr td:nth-child(5)', 'l => l.map(e => e.dataset.sort)') if v]
    assert at() == sorted(at()) and len(at()) > 100
    tab.keyboard.press('Enter')
    assert at() == sorted(at(), reverse=True)

@pytest.mark.parametrize('scheme', ['light', 'dark'])
@pytest.mark.parametrize('width', [1300, 390])
def test_axe_finds_nothing(browser, address, scheme, width):
    from axe_core_python.sync_playwright import Axe
    context = browser.new_context(viewport=dict(width=width, height=900), color_scheme=scheme)
    tab, found = context.new_page(), {}
    for page in AXED:
        tab.goto(f'{address}/{page}')
        if page.startswith('search'): tab.wait_for_selector('#search-results li a')
        for v in Axe().run(tab)['violations']:
            found.setdefault(v['id'], (v['help'], []))[1].append((page, len(v['nodes']), v['nodes'][0]['html'][:200], v['nodes'][0].get('failureSummary', '')[:300]))
    context.close()
    assert not found, found
