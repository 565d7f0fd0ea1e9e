"""How the page looks: one accent colour, light and dark, and the scripts that its widgets share."""

import functools
from pathlib import Path

import gradio as gr
from gradio.themes.utils import colors, sizes

_STATIC = Path(__file__).parent / "static"
_SCRIPTS = (
    "core.js",
    "chart.js",
    "topbar.js",
    "runs.js",
    "scores.js",
    "compare.js",
    "watch.js",
    "start.js",
    "settings.js",
    "data.js",
    "evaluate.js",
    "problems.js",
    "export.js",
    "interrupted.js",
)
_SANS = ("ui-sans-serif", "system-ui", "-apple-system", "Segoe UI", "Roboto", "Helvetica Neue", "sans-serif")
_MONO = ("ui-monospace", "SF Mono", "Cascadia Mono", "Menlo", "DejaVu Sans Mono", "monospace")

CSS = (_STATIC / "page.css").read_text(encoding="utf-8")
HEAD = "".join(f"<script>{(_STATIC / name).read_text(encoding='utf-8')}</script>" for name in _SCRIPTS)

ACCENT = colors.Color(
    "#effaf7", "#d5f2ea", "#aee5d7", "#7bd1bf", "#46b5a2", "#23988a", "#0f766e", "#115e59", "#134e4a", "#123f3c",
    "#06201e", name="accent",
)  # fmt: skip
NEUTRAL = colors.Color(
    "#f8f8f6", "#f0f0ed", "#e2e2dd", "#cfcfc9", "#9c9d97", "#6f716b", "#555751", "#3d403c", "#262927", "#191b1a",
    "#101211", name="neutral",
)  # fmt: skip


make_html = functools.partial(gr.HTML, apply_default_css=False)
"""A gr.HTML in our own style only."""


def widget(name: str, *events: str) -> str:
    """Return the js_on_load that mounts one of our widgets once the shared scripts are there."""
    named = f"/* {' '.join(repr(event) for event in events)} */" if events else ""
    call = f"window.codexSpace.mount('{name}', element, props, trigger, watch)"
    return f"{named}(function wait() {{ window.codexSpace ? {call} : setTimeout(wait, 20); }})();"


def make_theme() -> gr.themes.Base:
    """Return Gradio's base theme in our colours; fonts are the system's, so that nothing is asked of other hosts."""
    theme = gr.themes.Base(
        primary_hue=ACCENT,
        secondary_hue=NEUTRAL,
        neutral_hue=NEUTRAL,
        text_size=sizes.text_md,
        spacing_size=sizes.spacing_md,
        radius_size=sizes.radius_md,
        font=_SANS,
        font_mono=_MONO,
    )
    return theme.set(
        body_background_fill="*neutral_50",
        body_background_fill_dark="*neutral_950",
        body_text_color="*neutral_900",
        body_text_color_dark="*neutral_100",
        body_text_color_subdued="*neutral_600",
        body_text_color_subdued_dark="*neutral_400",
        background_fill_primary="white",
        background_fill_primary_dark="*neutral_900",
        background_fill_secondary="*neutral_50",
        background_fill_secondary_dark="*neutral_950",
        border_color_primary="*neutral_200",
        border_color_primary_dark="*neutral_800",
        border_color_accent="*primary_600",
        border_color_accent_dark="*primary_400",
        color_accent="*primary_600",
        block_background_fill="transparent",
        block_background_fill_dark="transparent",
        block_border_width="0px",
        block_border_width_dark="0px",
        block_padding="0px",
        block_shadow="none",
        block_shadow_dark="none",
        block_label_background_fill="transparent",
        block_label_background_fill_dark="transparent",
        block_label_border_width="0px",
        block_label_border_width_dark="0px",
        block_label_text_color="*body_text_color",
        block_label_text_color_dark="*body_text_color",
        block_title_text_color="*body_text_color",
        block_title_text_color_dark="*body_text_color",
        block_title_text_weight="600",
        block_info_text_color="*body_text_color_subdued",
        block_info_text_color_dark="*body_text_color_subdued",
        block_info_text_size="13px",
        input_background_fill="white",
        input_background_fill_dark="*neutral_950",
        input_border_color="*neutral_300",
        input_border_color_dark="*neutral_700",
        input_border_color_focus="*primary_600",
        input_border_color_focus_dark="*primary_400",
        input_border_width="1px",
        input_border_width_dark="1px",
        input_shadow="none",
        input_shadow_focus="none",
        input_placeholder_color="*neutral_500",
        input_placeholder_color_dark="*neutral_400",
        button_primary_background_fill="*primary_600",
        button_primary_background_fill_dark="*primary_400",
        button_primary_background_fill_hover="*primary_700",
        button_primary_background_fill_hover_dark="*primary_300",
        button_primary_text_color="white",
        button_primary_text_color_dark="*primary_950",
        button_primary_border_color="transparent",
        button_primary_border_color_dark="transparent",
        button_secondary_background_fill="white",
        button_secondary_background_fill_dark="*neutral_900",
        button_secondary_background_fill_hover="*neutral_100",
        button_secondary_background_fill_hover_dark="*neutral_800",
        button_secondary_text_color="*neutral_900",
        button_secondary_text_color_dark="*neutral_100",
        button_secondary_border_color="*neutral_300",
        button_secondary_border_color_dark="*neutral_700",
        button_border_width="1px",
        button_border_width_dark="1px",
        button_large_text_weight="600",
        button_large_padding="9px 16px",
        button_large_text_size="15px",
        button_medium_padding="7px 13px",
        button_medium_text_size="14px",
        button_small_padding="5px 11px",
        slider_color="*primary_600",
        slider_color_dark="*primary_400",
        checkbox_background_color_selected="*primary_600",
        checkbox_background_color_selected_dark="*primary_600",
        checkbox_border_color_selected="*primary_600",
        checkbox_border_color_selected_dark="*primary_400",
        checkbox_label_background_fill_selected="*primary_50",
        checkbox_label_background_fill_selected_dark="*primary_950",
        checkbox_label_text_color_selected="*primary_700",
        checkbox_label_text_color_selected_dark="*primary_200",
        link_text_color="*primary_600",
        link_text_color_dark="*primary_300",
    )
