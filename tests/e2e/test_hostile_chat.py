"""What a model says in the Playground is shown as text: nothing of it runs, covers the page, or asks another host for anything."""

import http.server
import sys
import threading

import pytest
from playwright.sync_api import expect

from codex_space.core.paths import MANIFEST
from codex_space.jobs.warm import WarmWorker
from codex_space.store import runs as run_rows
from tests.ui.test_playground import WORKER
from tests.ui.test_uploads import Visitor

pytestmark = [pytest.mark.e2e, pytest.mark.slow, pytest.mark.timeout(300)]

RECIPE = "kind: sft\nmodel: {model_name_or_path: fresh:tiny}\ndatasets: [{path: sample:python-first-chat}]\n"
FETCHES = [
    "![pixel](ELSEWHERE/markdown.png)",
    "![pixel][there]\n\n[there]: ELSEWHERE/reference.png",
    "[![pixel](ELSEWHERE/linked.png)](ELSEWHERE/click)",
    "<img src='ELSEWHERE/img.png'>",
    "<img srcset='ELSEWHERE/srcset.png 1x'><picture><source srcset='ELSEWHERE/picture.png'><img></picture>",
    "<div style='background:url(ELSEWHERE/style.png)'>x</div>",
    "<style>body{background:url(ELSEWHERE/sheet.png)} @import url(ELSEWHERE/import.css);</style>",
    "<link rel=stylesheet href='ELSEWHERE/link.css'><link rel=prefetch href='ELSEWHERE/prefetch'>",
    "<iframe src='ELSEWHERE/iframe'></iframe><object data='ELSEWHERE/object'></object><embed src='ELSEWHERE/embed'>",
    "<video src='ELSEWHERE/video' poster='ELSEWHERE/poster.png' autoplay></video><audio src='ELSEWHERE/audio' autoplay></audio>",
    "<svg><image href='ELSEWHERE/svg.png'/><use href='ELSEWHERE/use.svg#a'/></svg>",
    "<svg><style>@font-face{font-family:x;src:url(ELSEWHERE/font)}*{font-family:x}</style><text>x</text></svg>",
    "<input type=image src='ELSEWHERE/input.png'><body background='ELSEWHERE/body.png'><table background='ELSEWHERE/table.png'>",
    "<meta http-equiv=refresh content='0;url=ELSEWHERE/meta'><base href='ELSEWHERE/'>",
    '```mermaid\nflowchart TD\n A@{ img: "ELSEWHERE/mermaid.png", label: "x" }\n B["<img src=\'ELSEWHERE/label.png\'>"] --> A\n```',
    "$$\\includegraphics{ELSEWHERE/latex.png} \\href{ELSEWHERE/x}{y} \\rule{9999em}{9999em}$$",
    "`` ` <img src='ELSEWHERE/ticks.png'> ` ``` ` ``<img src='ELSEWHERE/ticks2.png'>` ``` ``",
    "````\n```\n````\n<img src='ELSEWHERE/fence.png'>\n```\n![x](ELSEWHERE/fence2.png)\n~~~\n<img src='ELSEWHERE/fence3.png'>\n~~~",
    "- a\n  ```html\n  <img src='ELSEWHERE/nested.png'>\n ```\n<img src='ELSEWHERE/after.png'>",
    "``` a`b\n<img src='ELSEWHERE/info.png'>\n```",
    "<details open ontoggle=\"fetch('ELSEWHERE/toggle')\"><summary>x</summary></details><!-- --!><img src='ELSEWHERE/comment.png'>-->",
]
RUNS = [
    "<script>window.ran=1</script><img src=x onerror='window.ran=1'><svg onload='window.ran=1'>",
    "<a href='javascript:window.ran=1' id=planted>x</a> [x](javascript:window.ran=1) <form action='javascript:window.ran=1'><button id=go>",
    "<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror=window.ran=1&gt;'>",
    "<div style='position:fixed;inset:0;z-index:99999;background:red' id=cover>Sign in again</div>",
]


@pytest.fixture
def canary():
    """Another host, which notes who asks it for anything."""
    asked = []

    class Note(http.server.BaseHTTPRequestHandler):
        def do_GET(self):  # http.server's name
            asked.append(self.path)
            self.send_response(200)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Note)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    server.asked = asked
    yield server
    server.shutdown()
    server.server_close()


@pytest.fixture
def playground(tmp_path, open_tab):
    """The Playground of a page whose model says what it is told to."""
    served = Visitor(tmp_path)
    served.page.chat._worker = WarmWorker([sys.executable, str(WORKER)], {}, served.ctx.workspace.root / "chat.log")
    run_id = "20270115-080000-sft-aaaa"
    run_rows.insert_run(served.ctx.db, id=run_id, name="parrot", kind="sft", recipe=RECIPE, repo_id=None, now=1.0)
    checkpoint = served.ctx.workspace.job(run_id).checkpoint(1)
    checkpoint.mkdir(parents=True)
    (checkpoint / MANIFEST).write_text("{}")

    def open_one(**options):
        tab = open_tab(served, **options).go("Playground")
        expect(tab.page.locator("#chat-input textarea")).to_be_visible()
        return tab

    yield open_one
    served.close()


def say(tab, text):
    page = tab.page
    answered = page.locator("#chat-log .bot.message").count()
    page.locator("#chat-input textarea").fill(f"say: {text}")
    page.locator("#chat-send").click()
    expect(page.locator("#chat-log .bot.message")).to_have_count(answered + 1)
    expect(page.locator("#chat-log .bot.message").last).to_contain_text("tokens/s")
    expect(page.locator("#chat-send")).to_have_text("Send")
    return page.locator("#chat-log .bot.message").last


def test_nothing_that_a_model_says_runs_or_asks_another_host(playground, canary):
    tab = playground()
    address, other = tab.page.url, f"http://127.0.0.1:{canary.server_port}"
    asked = []
    tab.page.on("request", lambda request: asked.append(request.url) if other in request.url else None)
    for text in (*FETCHES, *RUNS):
        say(tab, text.replace("ELSEWHERE", other))
    tab.page.wait_for_timeout(500)  # a picture or a diagram is fetched a moment later
    assert (canary.asked, asked) == ([], [])
    assert tab.page.evaluate("window.ran || null") is None
    assert tab.page.url == address
    made = "img, iframe, object, embed, video, audio, style, link, form, input, meta, base, script, svg image, #planted, #cover, #go, [style*=fixed]"
    assert tab.page.locator("#chat-log .message").locator(made).count() == 0
    assert tab.page.locator("a[href^='javascript:']").count() == 0
    tab.shot("hostile-chat")


def test_the_browser_fetches_no_picture_of_another_host_even_where_one_gets_into_the_page(playground, canary):
    tab = playground()
    blocked = tab.page.evaluate(
        """address => new Promise(resolve => {
            document.addEventListener("securitypolicyviolation", event => resolve(event.effectiveDirective));
            document.body.append(Object.assign(new Image(), { src: address }));
            setTimeout(() => resolve("nothing was refused"), 5000);
        })""",
        f"http://127.0.0.1:{canary.server_port}/pixel.png",
    )
    assert blocked == "img-src"
    assert not canary.asked


def test_what_looks_like_markup_is_read_as_it_was_written(playground):
    tab = playground()
    answer = say(tab, "See <b>bold</b>, `List<String>`, $$x$$ and ![a](http://x/y.png).\n```html\n<img src=x>\n```")
    for text in ("<b>bold</b>", "List<String>", "$$x$$", "!a", "<img src=x>"):
        expect(answer).to_contain_text(text)
    answer = say(tab, "```python\nif a < b: print('\u202e\u2066')  # \x1b[31m\n```")
    expect(answer.locator("pre")).to_contain_text("\\u202e\\u2066')  # \\x1b[31m")
    tab.shot("markup-in-chat")


@pytest.mark.parametrize("width", [390, 1440])
def test_a_line_without_end_widens_nothing(playground, width):
    tab = playground(viewport={"width": width, "height": 800})
    for text in (
        "x" * 20_000,
        f"```\n{'y' * 20_000}\n```",
        f"`{'z' * 20_000}`",
        "<" * 3000,
        "`" * 3000,
        "[" * 3000,
        "> " * 2000,
    ):
        say(tab, text)
        assert tab.page.evaluate("document.documentElement.scrollWidth") <= width
    tab.shot(f"long-lines-{width}")
