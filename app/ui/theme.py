"""Gradio's theme in our colours and shapes. All values point at the variables in app/static/atelier.css."""

from __future__ import annotations

from pathlib import Path

from gradio.themes import Base

FONT = (
    "Helvetica Neue", "Segoe UI", "Hiragino Sans", "Hiragino Kaku Gothic ProN", "Noto Sans JP", "Noto Sans CJK JP",
    "Yu Gothic UI", "Yu Gothic", "Meiryo", "sans-serif",
)  # fmt: skip
MONO = ("SFMono-Regular", "Cascadia Mono", "Consolas", "Noto Sans Mono CJK JP", "monospace")


class LightTable(Base):
    """Paper, ink, hairlines and one accent. Light and dark are the same names with other values."""

    def __init__(self) -> None:
        super().__init__(font=list(FONT), font_mono=list(MONO))
        values = {
            "body_background_fill": "var(--a-paper)",
            "body_text_color": "var(--a-ink)",
            "body_text_color_subdued": "var(--a-soft)",
            "background_fill_primary": "var(--a-card)",
            "background_fill_secondary": "var(--a-paper)",
            "border_color_primary": "var(--a-line)",
            "border_color_accent": "var(--a-accent)",
            "border_color_accent_subdued": "var(--a-line)",
            "color_accent_soft": "var(--a-wash)",
            "link_text_color": "var(--a-accent)",
            "link_text_color_hover": "var(--a-accent)",
            "link_text_color_visited": "var(--a-accent)",
            "link_text_color_active": "var(--a-accent)",
            "block_background_fill": "transparent",
            "block_border_color": "transparent",
            "block_label_background_fill": "transparent",
            "block_label_border_color": "transparent",
            "block_label_text_color": "var(--a-soft)",
            "block_title_background_fill": "none",
            "block_title_text_color": "var(--a-ink)",
            "block_info_text_color": "var(--a-soft)",
            "panel_background_fill": "transparent",
            "panel_border_color": "transparent",
            "input_background_fill": "var(--a-card)",
            "input_background_fill_focus": "var(--a-card)",
            "input_background_fill_hover": "var(--a-card)",
            "input_border_color": "var(--a-edge)",
            "input_border_color_focus": "var(--a-accent)",
            "input_border_color_hover": "var(--a-soft)",
            "input_placeholder_color": "var(--a-faint)",
            "checkbox_background_color": "var(--a-card)",
            "checkbox_background_color_selected": "var(--a-accent)",
            "checkbox_border_color": "var(--a-edge)",
            "checkbox_border_color_selected": "var(--a-accent)",
            "checkbox_label_background_fill": "transparent",
            "checkbox_label_background_fill_hover": "transparent",
            "checkbox_label_background_fill_selected": "transparent",
            "checkbox_label_border_color": "var(--a-line)",
            "checkbox_label_border_color_selected": "var(--a-accent)",
            "checkbox_label_text_color": "var(--a-ink)",
            "checkbox_label_text_color_selected": "var(--a-ink)",
            "button_primary_background_fill": "var(--a-accent)",
            "button_primary_background_fill_hover": "var(--a-accent-deep)",
            "button_primary_text_color": "var(--a-on-accent)",
            "button_primary_text_color_hover": "var(--a-on-accent)",
            "button_primary_border_color": "transparent",
            "button_secondary_background_fill": "var(--a-card)",
            "button_secondary_background_fill_hover": "var(--a-wash)",
            "button_secondary_text_color": "var(--a-ink)",
            "button_secondary_text_color_hover": "var(--a-ink)",
            "button_secondary_border_color": "var(--a-edge)",
            "button_cancel_background_fill": "var(--a-card)",
            "button_cancel_background_fill_hover": "var(--a-wash)",
            "button_cancel_text_color": "var(--a-bad)",
            "button_cancel_text_color_hover": "var(--a-bad)",
            "slider_color": "var(--a-accent)",
            "error_background_fill": "var(--a-bad-wash)",
            "error_border_color": "var(--a-bad)",
            "error_text_color": "var(--a-bad)",
            "error_icon_color": "var(--a-bad)",
            "code_background_fill": "var(--a-wash)",
            "loader_color": "var(--a-accent)",
            "stat_background_fill": "var(--a-wash)",
            "table_border_color": "var(--a-line)",
            "table_even_background_fill": "var(--a-card)",
            "table_odd_background_fill": "var(--a-card)",
            "table_row_focus": "var(--a-wash)",
            "accordion_text_color": "var(--a-ink)",
        }
        both: dict[str, str] = {}
        for name, value in values.items():
            both[name] = value
            if hasattr(self, f"{name}_dark"):
                both[f"{name}_dark"] = value
        super().set(
            **both,
            block_border_width="0px",
            block_shadow="none",
            block_padding="0px",
            block_radius="10px",
            block_title_text_weight="600",
            block_title_text_size="14px",
            block_label_text_size="13px",
            block_info_text_size="13px",
            container_radius="10px",
            input_radius="8px",
            input_shadow="none",
            input_shadow_focus="0 0 0 3px var(--a-ring)",
            input_padding="10px 12px",
            input_text_size="15px",
            button_large_radius="10px",
            button_medium_radius="8px",
            button_small_radius="8px",
            button_primary_shadow="none",
            button_primary_shadow_hover="none",
            button_secondary_shadow="none",
            button_secondary_shadow_hover="none",
            button_transition="background-color 120ms",
            layout_gap="16px",
            form_gap_width="0px",
            section_header_text_size="14px",
            prose_text_size="15px",
            shadow_drop="none",
            shadow_drop_lg="none",
            shadow_inset="none",
        )


STATIC = Path(__file__).parents[1] / "static"
