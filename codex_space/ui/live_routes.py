"""The page's own addresses beside Gradio's: what open pages poll, the log to download, and `/health`.

Permission is AccessMiddleware's, which stands around these routes too: an address is for those who may act
until access.py names it among what visitors may look at (all below /api but the files of exports). What visitors are
answered holds no money (`services.money.hide`).
"""

import json
from collections.abc import Callable
from typing import Any

from starlette.concurrency import run_in_threadpool
from starlette.requests import Request
from starlette.responses import FileResponse, JSONResponse, Response, StreamingResponse
from starlette.routing import BaseRoute, Route

from codex_space.core import scrub
from codex_space.core.errors import CodexError
from codex_space.services import datasets, evaluations, exports, first_model, money, runs, summary
from codex_space.services.context import Context
from codex_space.services.live import Live
from codex_space.ui.views.data import render_list
from codex_space.ui.views.runs import list_entry

PAGE_ROWS = 50
EVALUATIONS_POLL_MS = 2000
MAX_NAME_CHARS = 400
MAX_COMPARED = 64
# Said even where nothing is encoded: gradio 6.31 would compress each viewer's copy anew and spoil ranges of text.
_PLAIN = {"cache-control": "no-store", "content-encoding": "identity"}


def build_routes(ctx: Context, live: Live) -> list[BaseRoute]:
    """Return the routes to hand to launch()."""

    def read_list(request: Request) -> Response:
        offset, search = max(0, _number(request, "offset")), request.query_params.get("search", "")[:100]
        found = runs.list_runs(ctx, limit=PAGE_ROWS + 1, offset=offset, search=search)
        entries = [list_entry(run) for run in found[:PAGE_ROWS]]
        return _json(ctx, {"runs": entries, "offset": offset, "more": len(found) > PAGE_ROWS})

    def read_first_model(_: Request) -> Response:
        found = first_model.status(ctx)
        return _json(ctx, {"runs": [found.tokenizer.id, found.pretrain.id, found.sft.id] if found else []})

    def read_datasets(_: Request) -> Response:
        return _json(ctx, {"seq": 0, "html": render_list(datasets.list_datasets(ctx))})

    def read_samples(request: Request) -> Response:
        step = request.path_params["step"]
        return _json(ctx, {"step": step, "samples": runs.read_samples(ctx, request.path_params["run_id"], step)})

    def read_log(request: Request) -> Response:
        run = runs.show(ctx, request.path_params["run_id"])
        log = ctx.workspace.job(run.id).log
        if log.is_symlink() or not log.is_file():  # a link could lead to what only this process may read
            return JSONResponse({"what": "the run has written no log yet"}, 404)
        named = {"content-disposition": f'attachment; filename="{run.id}.log"'}
        return StreamingResponse(
            runs.iter_log(ctx, run.id), media_type="text/plain; charset=utf-8", headers={**_PLAIN, **named}
        )

    return [
        Route("/health", _health, methods=["GET", "HEAD"]),
        Route("/api/first-model", _guarded(read_first_model)),
        Route("/api/datasets", _guarded(read_datasets)),
        Route("/api/runs", _guarded(read_list)),
        Route("/api/compare", _guarded(lambda request: _json(ctx, summary.compare(ctx, _ids(request))))),
        *_polled_routes(ctx, live),
        Route("/api/runs/{run_id}/samples/{step:int}", _guarded(read_samples)),
        Route("/api/runs/{run_id}/log/content", _guarded(read_log)),
        *_evaluation_routes(ctx),
        *_export_routes(ctx),
    ]


def _evaluation_routes(ctx: Context) -> list[BaseRoute]:
    """A key is a query and not a part of the path: it holds slashes, and a benchmark's name may hold a plus."""

    def read_evaluations(_: Request) -> Response:
        found = evaluations.list_evaluations(ctx)
        return _json(ctx, {"seq": 0, "evaluations": found, "poll_after_ms": EVALUATIONS_POLL_MS})

    def read_evaluation(request: Request) -> Response:
        return _json(ctx, evaluations.read(ctx, _text(request, "key")))

    def read_problem(request: Request) -> Response:
        return _json(ctx, evaluations.read_problem(ctx, _text(request, "key"), _text(request, "task")))

    def read_comparison(request: Request) -> Response:
        return _json(ctx, evaluations.compare(ctx, _text(request, "key"), _text(request, "other")))

    return [
        Route("/api/evaluations", _guarded(read_evaluations)),
        Route("/api/evaluations/one", _guarded(read_evaluation)),
        Route("/api/evaluations/problem", _guarded(read_problem)),
        Route("/api/evaluations/compare", _guarded(read_comparison)),
    ]


def _export_routes(ctx: Context) -> list[BaseRoute]:
    """Files go out from where they lie, in ranges where a browser goes on with a transfer that broke off."""

    def read_exports(_: Request) -> Response:
        return _json(ctx, {"seq": 0, "exports": exports.list_exports(ctx), "poll_after_ms": EVALUATIONS_POLL_MS})

    def read_export(request: Request) -> Response:
        return _json(ctx, exports.read(ctx, _text(request, "run")))

    def read_file(request: Request) -> Response:
        path = exports.file_path(ctx, request.path_params["run_id"], request.path_params["name"])
        # no-store would keep a browser from going on with the part it has
        headers = {**_PLAIN, "cache-control": "private, no-cache", "x-content-type-options": "nosniff"}
        return FileResponse(path, media_type="application/octet-stream", filename=path.name, headers=headers)

    return [
        Route("/api/exports", _guarded(read_exports)),
        Route("/api/exports/one", _guarded(read_export)),
        Route("/api/exports/{run_id}/files/{name}/content", _guarded(read_file)),
    ]


def _polled_routes(ctx: Context, live: Live) -> list[BaseRoute]:
    """Return what all viewers ask for again and again: handed to a thread, bytes that are ready would cost twice as much."""

    def read_anew(request: Request) -> Response:
        after, with_money = _number(request, "after"), money.is_shown(ctx)
        return _json_bytes(live.run_bytes(request.path_params["run_id"], after, with_money=with_money))

    async def read_run(request: Request) -> Response:
        run_id, after = request.path_params["run_id"], _number(request, "after")
        ready = live.ready_bytes(run_id, after, with_money=money.is_shown(ctx))
        return await run_in_threadpool(_guarded(read_anew), request) if ready is None else _json_bytes(ready)

    def read_overview_anew(request: Request) -> Response:
        return _json_bytes(live.overview_bytes(_number(request, "after"), with_money=money.is_shown(ctx)))

    async def read_overview(request: Request) -> Response:
        ready = live.ready_overview(_number(request, "after"), with_money=money.is_shown(ctx))
        return await run_in_threadpool(_guarded(read_overview_anew), request) if ready is None else _json_bytes(ready)

    return [Route("/api/overview", read_overview), Route("/api/runs/{run_id}/live", read_run)]


def _health(_: Request) -> Response:
    return _json_bytes(b'{"ok": true}')


def _guarded(endpoint: Callable[[Request], Response]) -> Callable[[Request], Response]:
    """Starlette runs it in a thread, since it may read the disk; our errors become a 404 that says what is wrong."""

    def answer(request: Request) -> Response:
        try:
            return endpoint(request)
        except CodexError as error:
            told = {"what": error.what, "where": error.where, "cure": error.cure}
            return JSONResponse({name: scrub.clean(text) for name, text in told.items()}, 404, headers=_PLAIN)

    return answer


def _number(request: Request, name: str) -> int:
    text = request.query_params.get(name, "0")
    return int(text) if text.isascii() and text.isdigit() and len(text) < 16 else 0


def _text(request: Request, name: str) -> str:
    return request.query_params.get(name, "")[:MAX_NAME_CHARS]


def _ids(request: Request) -> list[str]:
    return request.query_params.get("runs", "").split(",")[:MAX_COMPARED]


def _json(ctx: Context, value: Any) -> Response:  # noqa: ANN401  # any JSON value
    return _json_bytes(json.dumps(value if money.is_shown(ctx) else money.hide(value)).encode())


def _json_bytes(body: bytes) -> Response:
    return Response(body, media_type="application/json", headers=_PLAIN)
