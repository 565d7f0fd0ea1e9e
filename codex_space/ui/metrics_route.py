"""`/metrics`, for Prometheus; those who may act may read it (a scraper gives the password or a token)."""

from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from codex_space.services import gauges
from codex_space.services.context import Context


def metrics_route(ctx: Context) -> Route:
    """Return the route."""

    def read_metrics(_: Request) -> Response:
        return Response(
            gauges.render(ctx), media_type="text/plain; version=0.0.4", headers={"cache-control": "no-store"}
        )

    return Route("/metrics", read_metrics)
