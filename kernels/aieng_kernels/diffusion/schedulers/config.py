"""A scheduler's configuration: its constructor's arguments, kept as a dictionary and as JSON that ``diffusers`` reads too."""

from __future__ import annotations

import inspect
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NoReturn, Self

CONFIG_NAME = "scheduler_config.json"
_DEFAULTED = "_use_default_values"
"""Names of arguments that were not passed, so that another class built from this configuration takes its own defaults for them."""


class Config(dict[str, Any]):
    """A dictionary that cannot be changed and whose entries are also attributes."""

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(f"the configuration has no {name!r}") from None

    def _frozen(self, *_: Any, **__: Any) -> NoReturn:
        raise TypeError("a scheduler's configuration cannot be changed; build another with from_config")

    __setitem__ = __delitem__ = __setattr__ = __delattr__ = __ior__ = pop = popitem = setdefault = update = clear = _frozen

    def __reduce__(self) -> Any:
        return Config, (dict(self),)


class Configured:
    """Keeps the constructor's arguments as ``config``; loads and saves them."""

    config_name = CONFIG_NAME
    _internal_dict: Config  # the name that pipelines of diffusers replace when they correct an old configuration

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        signature = inspect.signature(cls.__init__)
        passed = signature.bind(self, *args, **kwargs).arguments
        given = {n: passed.get(n, p.default) for n, p in list(signature.parameters.items())[1:]}
        self._internal_dict = Config({**given, _DEFAULTED: [n for n in given if n not in passed]})
        return self

    @property
    def config(self) -> Config:
        return self._internal_dict

    @classmethod
    def from_config(cls, config: Mapping[str, Any], return_unused_kwargs: bool = False, **kwargs: Any) -> Any:
        """A scheduler from a configuration, of this class or another's; ``kwargs`` override it, entries unknown here are kept.

        Returns the scheduler, or with ``return_unused_kwargs`` the pair of it and what the constructor did not take.
        """
        if not isinstance(config, Mapping):
            raise TypeError(f"config must be a mapping, not {type(config).__name__}; from_pretrained reads a folder")
        defaulted = config.get(_DEFAULTED, [])
        stated = {n: v for n, v in config.items() if n not in defaulted and n != _DEFAULTED}
        names = list(inspect.signature(cls.__init__).parameters)[1:]
        scheduler = cls(**{n: kwargs.pop(n) if n in kwargs else stated[n] for n in names if n in kwargs or n in stated})
        others = {n: v for n, v in stated.items() if n not in names}
        if "_class_name" in others:
            others["_class_name"] = cls.__name__
        scheduler._internal_dict = Config({**scheduler._internal_dict, **others})
        return (scheduler, {**others, **kwargs}) if return_unused_kwargs else scheduler

    @classmethod
    def load_config(cls, path: str | os.PathLike[str], subfolder: str | None = None) -> dict[str, Any]:
        """The configuration in a JSON file, or in ``scheduler_config.json`` of a folder; OSError names what is not there."""
        file = Path(path)
        if not file.is_file():
            folders = [file / subfolder, file] if subfolder else [file]
            file = next((f / cls.config_name for f in folders if (f / cls.config_name).is_file()), file)
        if not file.is_file():
            raise OSError(f"there is no {cls.config_name} in {path}; only local folders are read")
        try:
            config = json.loads(file.read_text(encoding="utf-8"))
        except ValueError as error:
            raise OSError(f"{file} is not valid JSON: {error}") from None
        if not isinstance(config, dict):
            raise OSError(f"{file} does not hold a JSON object")
        return config

    def save_config(self, save_directory: str | os.PathLike[str]) -> None:
        """Write ``scheduler_config.json`` into a folder, which is made if it is not there."""
        os.makedirs(save_directory, exist_ok=True)
        (Path(save_directory) / self.config_name).write_text(self.to_json_string(), encoding="utf-8")

    @classmethod
    def from_pretrained(cls, path: str | os.PathLike[str], subfolder: str | None = None, **kwargs: Any) -> Any:
        """A scheduler from a local folder that ``save_pretrained`` of either library wrote."""
        return cls.from_config(cls.load_config(path, subfolder), **kwargs)

    def save_pretrained(self, save_directory: str | os.PathLike[str]) -> None:
        self.save_config(save_directory)

    def to_json_string(self) -> str:
        entries = {**self.config, "_class_name": type(self).__name__}
        entries.pop(_DEFAULTED, None)
        return json.dumps(entries, indent=2, sort_keys=True, default=lambda array: array.tolist()) + "\n"

    def __repr__(self) -> str:
        return f"{type(self).__name__} {self.to_json_string()}"
