"""Write configs/fields/KIND.json from the installed TRL and transformers (`make fields`)."""

import dataclasses
import json
import typing
from pathlib import Path
from typing import Any

FIELDS = Path(__file__).parent.parent / "configs" / "fields"


def describe(config: Any) -> dict[str, dict[str, Any]]:  # noqa: ANN401  # any dataclass
    """Return {name: {type, default, help}} for a config dataclass."""
    hints = typing.get_type_hints(config)
    return {
        field.name: {"type": _type(hints[field.name]), "default": _default(field), "help": _help(field)}
        for field in sorted(dataclasses.fields(config), key=lambda field: field.name)
        if field.init and not field.name.startswith("_")
    }


def configs() -> dict[str, type]:
    """Return the config class behind each kind's `train:` section."""
    from trl import DPOConfig, KTOConfig, RewardConfig, SFTConfig
    from trl.experimental.orpo import ORPOConfig

    from codex_space.work.loop_arguments import LoopArguments

    return {
        "sft": SFTConfig,
        "dpo": DPOConfig,
        "kto": KTOConfig,
        "orpo": ORPOConfig,
        "reward": RewardConfig,
        "pretrain": LoopArguments,
    }


def _type(hint: Any) -> str:  # noqa: ANN401  # typing constructs
    names = {str(getattr(arg, "__name__", arg)) for arg in (typing.get_args(hint) or (hint,))} - {"NoneType"}
    if typing.get_origin(hint) in (list, dict):
        return typing.get_origin(hint).__name__
    if names == {"int", "float"} or names == {"float"}:
        return "float"
    return names.pop() if len(names) == 1 and names <= {"bool", "int", "str", "dict", "list"} else "any"


def _default(field: "dataclasses.Field[Any]") -> Any:  # noqa: ANN401  # any JSON value
    value = field.default
    if value is dataclasses.MISSING:
        value = field.default_factory() if field.default_factory is not dataclasses.MISSING else None
    value = getattr(value, "value", value)
    return value if isinstance(value, str | int | float | bool | list | dict | None) else str(value)


def _help(field: "dataclasses.Field[Any]") -> str:
    return " ".join(str(field.metadata.get("help", "")).split()).replace("%%", "%")


def main() -> None:
    """Write one file per kind."""
    FIELDS.mkdir(exist_ok=True)
    for kind, config in configs().items():
        text = json.dumps(describe(config), indent=1, ensure_ascii=False, sort_keys=True)
        (FIELDS / f"{kind}.json").write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
