"""One kind of task: its function, the parameters that it takes and the result that it returns."""

from __future__ import annotations

import inspect
import typing
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

from pydantic import (
    BaseModel,
    ConfigDict,
    Field,
    PydanticUserError,
    TypeAdapter,
    create_model,
)

from opscore_middleware.agent.tasks.context import TaskContext
from opscore_middleware.errors import ConfigurationError

__all__ = ["Handler"]

_BY_NAME: Final = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True)
class Handler:
    """What does tasks of one name."""

    name: str
    function: Callable[..., Awaitable[Any]]
    inline: bool
    takes_context: str | None
    """The parameter that gets the `TaskContext`."""
    whole: str | None
    """The parameter that gets the whole payload."""
    names: Mapping[str, str]
    """The other parameters by the fields of `parameters`."""
    parameters: type[BaseModel]
    result: TypeAdapter[Any]

    @classmethod
    def of(cls, name: str, function: Callable[..., Awaitable[Any]], *, inline: bool) -> Handler:
        """Read a handler off a function's signature, as FastAPI reads an endpoint's.

        A parameter that is annotated with `TaskContext`, or with `TaskContext | None`, gets that.
        One other parameter alone that is a pydantic model gets the whole payload; else each
        parameter gets the payload's field of its name.

        Raises:
            ConfigurationError: it cannot be called like that.
        """
        if not (inspect.isroutine(function) and inspect.iscoroutinefunction(function)):
            raise ConfigurationError(
                f"the handler of task {name!r} must be an `async def` function, not {function!r}; "
                "have it run what blocks with anyio.to_thread.run_sync."
            )
        try:
            hints = typing.get_type_hints(function, include_extras=True)
        except NameError as unknown:
            raise ConfigurationError(
                f"the handler of task {name!r} is annotated with {unknown.name!r}, which is not "
                "known where it is defined; define that at the top of the module."
            ) from None
        takes_context = None
        taken: dict[str, inspect.Parameter] = {}
        for parameter in inspect.signature(function).parameters.values():
            hint = hints.get(parameter.name)
            if hint is TaskContext or TaskContext in typing.get_args(hint):
                takes_context = parameter.name
            elif parameter.kind in _BY_NAME:
                taken[parameter.name] = parameter
            else:
                raise ConfigurationError(
                    f"the handler of task {name!r} takes {parameter}, which no field of a payload "
                    "can be given to; name each parameter."
                )
        only = next(iter(taken)) if len(taken) == 1 else None
        model = hints.get(only) if only is not None else None
        is_whole = isinstance(model, type) and issubclass(model, BaseModel)
        names = {} if is_whole else {f"parameter_{n}": name for n, name in enumerate(taken)}
        return cls(
            name,
            function,
            inline,
            takes_context,
            only if is_whole else None,
            names,
            typing.cast("type[BaseModel]", model) if is_whole else _model(taken, names, hints),
            _result(name, hints),
        )

    def arguments(self, payload: Mapping[str, Any]) -> dict[str, Any]:
        """Return the payload as arguments. Raises `pydantic.ValidationError` where it is unfit."""
        given = self.parameters.model_validate(payload)
        if self.whole is not None:
            return {self.whole: given}
        return {name: getattr(given, field) for field, name in self.names.items()}

    async def __call__(self, arguments: Mapping[str, Any], context: TaskContext) -> bytes:
        """Do a task; returns the result as JSON."""
        if self.takes_context is not None:
            arguments = {**arguments, self.takes_context: context}
        returned = await self.function(**arguments)
        return self.result.dump_json(self.result.validate_python(returned), by_alias=True)


def _result(name: str, hints: Mapping[str, Any]) -> TypeAdapter[Any]:
    """Return what checks a result and writes it as JSON."""
    returned = hints.get("return", Any)
    try:
        return TypeAdapter(Any if returned in (typing.NoReturn, typing.Never) else returned)
    except PydanticUserError:
        raise ConfigurationError(
            f"the handler of task {name!r} returns {returned!r}, which has no form in JSON; return "
            "a pydantic model, a dataclass or plain values."
        ) from None


def _model(
    taken: Mapping[str, inspect.Parameter], names: Mapping[str, str], hints: Mapping[str, Any]
) -> type[BaseModel]:
    """Return a model of the parameters, whose fields are safe from what they may be called."""
    fields: dict[str, Any] = {}
    for field, name in names.items():
        default = taken[name].default
        required = default is inspect.Parameter.empty
        info = Field(alias=name) if required else Field(default=default, alias=name)
        fields[field] = (hints.get(name, Any), info)
    return create_model("Parameters", __config__=ConfigDict(arbitrary_types_allowed=True), **fields)
