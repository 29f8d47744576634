"""`stampwire mcp`: the API's operations as tools for an assistant, over the Model Context Protocol.

It talks to a server over HTTP with a key, so the rights are the server's to judge. Unless it is
told to allow writes, nothing it does changes anything.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Annotated, Any
from uuid import uuid4

import typer

from cli.common import demo_of, fail, settings_of, until_stopped

if TYPE_CHECKING:
    from aiohttp import ClientSession
    from graphql import GraphQLSchema
    from mcp.server import Server
    from mcp.types import CallToolResult
    from mcp.types import Tool as ToolCard

    from cli.tools import Tool

_SECONDS = 60
_SCHEMA = "stampwire://schema.graphql"
_ASK = "ask"
_ME = "{ viewer { actor { ... on Staff { role } } business { name mode } } }"
_INSTRUCTIONS = (
    "Stampwire keeps digital stamp cards: customers hold cards, staff add stamps, goals give "
    "rewards and vouchers. Amounts of money are text, times are UTC. A refusal stands in "
    "`userErrors` and is final until something changes; an error at top level says that the call "
    "was not understood or not allowed. Look before you change: mutations take `dryRun`."
)


def mcp(
    *,
    url: Annotated[
        str | None, typer.Option(help="The server; absent: the demo's, or the one of the settings.")
    ] = None,
    key: Annotated[
        str | None,
        typer.Option(
            envvar="STAMPWIRE_KEY",
            show_envvar=True,
            help="The API key; absent: that of the demo's owner.",
        ),
    ] = None,
    allow_writes: Annotated[
        bool, typer.Option("--allow-writes", help="Let tools change things, not only look.")
    ] = False,
    only: Annotated[
        str | None, typer.Option(help="Only these tools, comma-separated; absent: all.")
    ] = None,
) -> None:
    """Serve the API's operations as tools to an assistant, over standard input and output."""
    try:
        import mcp.server.stdio  # noqa: F401, PLC0415
    except ImportError:
        fail(
            "This needs the package mcp: "
            ".venv/bin/pip install --require-hashes -r requirements/mcp.txt"
        )
    settings = settings_of()
    demo = demo_of(settings) or {}
    key = key or demo.get("owner", {}).get("apiKey")
    if key is None:
        fail("Give an API key with --key or STAMPWIRE_KEY.")
    names = {name.strip() for name in only.split(",")} if only else None
    until_stopped(_serve(url or demo.get("url") or settings.url, key, names, writes=allow_writes))


@dataclass(frozen=True)
class Api:
    """A server of Stampwire, as a key sees it."""

    url: str
    session: "ClientSession"
    key: str = field(repr=False)

    async def send(self, document: str, variables: Mapping[str, Any] | None = None) -> Any:
        """What the server answers: `data`, `errors`, or both. OSError where it does not."""
        from aiohttp import ClientError, ClientTimeout  # noqa: PLC0415

        try:
            async with self.session.post(
                self.url,
                json={"query": document, "variables": variables or {}},
                headers={"authorization": f"Bearer {self.key}"},
                timeout=ClientTimeout(total=_SECONDS),
                allow_redirects=False,
            ) as answer:
                said = await answer.json(content_type=None)
        except (ClientError, TimeoutError, ValueError) as error:
            raise OSError(f"{self.url}: {error or type(error).__name__}") from error
        if not isinstance(said, dict):
            raise OSError(f"{self.url} answers as no GraphQL server does ({answer.status}).")
        return {name: said[name] for name in ("data", "errors") if name in said}


class Assistant:
    """Answers an assistant: which tools there are, and what calling one gives."""

    def __init__(
        self, api: Api, schema: "GraphQLSchema", tools: Mapping[str, "Tool"], *, writes: bool
    ) -> None:
        self._api = api
        self._schema = schema
        self._tools = tools
        self._writes = writes

    def cards(self) -> "list[ToolCard]":
        """Every tool, as an assistant is told of it."""
        from mcp.types import Tool, ToolAnnotations  # noqa: PLC0415

        asking = Tool(
            name=_ASK,
            description=(
                "Run a GraphQL query of your own, for what the other tools do not show. Only "
                f"queries. The schema is the resource {_SCHEMA}."
            ),
            input_schema={
                "type": "object",
                "properties": {
                    "query": {"type": "string", "description": "A document with one query."},
                    "variables": {"type": "object", "description": "Its variables."},
                },
                "required": ["query"],
                "additionalProperties": False,
            },
            annotations=ToolAnnotations(read_only_hint=True, open_world_hint=False),
        )
        return [
            asking,
            *(
                Tool(
                    name=tool.name,
                    description=tool.description,
                    input_schema=self._arguments_of(tool),
                    annotations=ToolAnnotations(
                        read_only_hint=not tool.writes or not self._writes,
                        destructive_hint=tool.destroys and self._writes,
                        idempotent_hint=not tool.writes or not self._writes,
                        open_world_hint=False,
                    ),
                )
                for tool in self._tools.values()
            ),
        ]

    def _arguments_of(self, tool: "Tool") -> dict[str, Any]:
        if not tool.writes:
            return tool.arguments
        dry_run = {
            "type": "boolean",
            "default": not self._writes,
            "description": "Change nothing: "
            + (
                "the server itself says what would happen."
                if tool.has_dry_run or tool.preview in self._tools
                else "show the operation that would be sent. The server is not asked, so the rules "
                "of the programme are not tried."
            )
            + ("" if self._writes else " Here nothing else is allowed."),
        }
        properties = {**tool.arguments["properties"], "dryRun": dry_run}
        return {**tool.arguments, "properties": properties}

    async def call(self, name: str, arguments: Mapping[str, Any]) -> "CallToolResult":
        """What a tool gives; a refusal or an error is marked as one, for the assistant to read."""
        try:
            if name == _ASK:
                return await self._ask(arguments)
            tool = self._tools.get(name)
            if tool is None:
                return _said({"error": f"There is no tool {name}."}, is_error=True)
            if not tool.writes:
                return _shown(await self._api.send(tool.document, arguments), name)
            return await self._write(tool, arguments)
        except OSError as error:
            return _said({"error": str(error)}, is_error=True)

    async def _ask(self, arguments: Mapping[str, Any]) -> "CallToolResult":
        from graphql import GraphQLError, OperationDefinitionNode, OperationType  # noqa: PLC0415
        from graphql import parse as parse_document  # noqa: PLC0415

        text = str(arguments.get("query", ""))
        try:
            parts = parse_document(text, max_tokens=10_000).definitions
        except GraphQLError as error:
            return _said({"error": error.message}, is_error=True)
        operations = [part for part in parts if isinstance(part, OperationDefinitionNode)]
        if [operation.operation for operation in operations] != [OperationType.QUERY]:
            return _said({"error": "This tool runs one query, and nothing else."}, is_error=True)
        return _shown(await self._api.send(text, arguments.get("variables") or {}))

    async def _write(self, tool: "Tool", arguments: Mapping[str, Any]) -> "CallToolResult":
        variables = {name: value for name, value in arguments.items() if name != "dryRun"}
        told = variables.get("input")
        if "idempotencyKey" in tool.input_fields and isinstance(told, dict):
            variables["input"] = {"idempotencyKey": str(uuid4()), **told}
        if arguments.get("dryRun", not self._writes):
            return await self._preview(tool, variables)
        if not self._writes:
            reason = "Nothing was sent: this server was started without --allow-writes."
            return _said({"error": reason, "code": "READ_ONLY"}, is_error=True)
        answer = await self._api.send(tool.document, variables)
        return _shown(answer, tool.name, sent=variables)

    async def _preview(self, tool: "Tool", variables: dict[str, Any]) -> "CallToolResult":
        """What would be sent, and what the server says of it where it has a way to say so."""
        problems = _problems(self._schema, tool, variables)
        told = {"sent": False, "document": tool.document, "variables": variables}
        if problems:
            return _said({**told, "errors": problems}, is_error=True)
        if tool.has_dry_run:
            dry = {**variables, "input": {**variables["input"], "dryRun": True}}
            return _shown(await self._api.send(tool.document, dry), tool.name, dry_run=dry)
        preview = self._tools.get(tool.preview or "")
        if preview is None:
            note = "The document fits the schema; rights and rules of the programme were not tried."
            return _said({**told, "note": note})
        asked = preview.variables_from(variables["input"])
        answer = await self._api.send(preview.document, asked)
        return _shown(answer, preview.name, preview_of=tool.name, **told)

    def sdl(self) -> str:
        """The schema, as text."""
        from graphql import print_schema  # noqa: PLC0415

        return print_schema(self._schema)


async def assistant_of(api: Api, names: set[str] | None, *, writes: bool) -> Assistant:
    """Whoever answers with the tools that this key has a right to, as the server tells them."""
    from graphql import build_client_schema, get_introspection_query  # noqa: PLC0415

    from cli.tools import tools_of  # noqa: PLC0415

    me = await api.send(_ME)
    if not (me.get("data") or {}).get("viewer"):
        [error, *_] = me.get("errors") or [{"message": "it does not say who we are"}]
        raise PermissionError(f"The server refused: {error['message']}")
    told = await api.send(get_introspection_query(one_of=True))
    if not told.get("data"):
        raise PermissionError("The server does not tell its schema.")
    schema = build_client_schema(told["data"])
    tools = tools_of(schema, (me["data"]["viewer"]["actor"] or {}).get("role"))
    unknown = sorted((names or set()) - set(tools))
    if unknown:
        raise PermissionError(f"This key has no such tools: {', '.join(unknown)}")
    chosen = {name: tool for name, tool in tools.items() if names is None or name in names}
    return Assistant(api, schema, chosen, writes=writes)


def server_of(assistant: Assistant) -> "Server":
    """The assistant's answers as a server of the protocol."""
    from mcp import MCPError, types  # noqa: PLC0415
    from mcp.server import Server  # noqa: PLC0415

    async def list_tools(_: Any, __: Any) -> types.ListToolsResult:
        return types.ListToolsResult(tools=assistant.cards())

    async def call_tool(_: Any, asked: types.CallToolRequestParams) -> types.CallToolResult:
        return await assistant.call(asked.name, asked.arguments or {})

    async def list_resources(_: Any, __: Any) -> types.ListResourcesResult:
        about = "The API's whole schema, every field described."
        schema = types.Resource(
            uri=_SCHEMA, name="schema.graphql", description=about, mime_type="text/plain"
        )
        return types.ListResourcesResult(resources=[schema])

    async def read_resource(
        _: Any, asked: types.ReadResourceRequestParams
    ) -> types.ReadResourceResult:
        if str(asked.uri) != _SCHEMA:
            raise MCPError(types.INVALID_PARAMS, "There is no such resource.")
        held = types.TextResourceContents(uri=_SCHEMA, mime_type="text/plain", text=assistant.sdl())
        return types.ReadResourceResult(contents=[held])

    return Server(
        "stampwire",
        instructions=_INSTRUCTIONS,
        on_list_tools=list_tools,
        on_call_tool=call_tool,
        on_list_resources=list_resources,
        on_read_resource=read_resource,
    )


async def _serve(url: str, key: str, names: set[str] | None, *, writes: bool) -> None:
    import aiohttp  # noqa: PLC0415
    from mcp.server.stdio import stdio_server  # noqa: PLC0415

    async with aiohttp.ClientSession() as session:
        try:
            api = Api(graphql_url(url), session, key)
            assistant = await assistant_of(api, names, writes=writes)
        except OSError as error:  # a PermissionError is one
            fail(str(error))
        server = server_of(assistant)
        async with stdio_server() as (read, write):
            await server.run(read, write, server.create_initialization_options())


def graphql_url(url: str) -> str:
    """Where the server answers: `http(s)://…/graphql`."""
    address = url if "://" in url else f"http://{url}"
    return f"{address.rstrip('/').removesuffix('/graphql')}/graphql"


def _problems(schema: "GraphQLSchema", tool: "Tool", variables: dict[str, Any]) -> list[str]:
    """In what the variables do not fit the schema."""
    from graphql import OperationDefinitionNode, get_variable_values  # noqa: PLC0415
    from graphql import parse as parse_document  # noqa: PLC0415

    [operation] = parse_document(tool.document).definitions
    if not isinstance(operation, OperationDefinitionNode):
        return []
    found = get_variable_values(schema, operation.variable_definitions or (), variables)
    return [error.message for error in found] if isinstance(found, list) else []


def _shown(answer: Mapping[str, Any], name: str | None = None, **beside: Any) -> "CallToolResult":
    """An answer of the API, with what the assistant should know besides."""
    data = answer.get("data") or {}
    payload = data.get(name) if name else None
    refused = payload.get("userErrors") if isinstance(payload, dict) else None
    told = {**({name: payload} if name else data), **beside}
    if answer.get("errors"):
        told["errors"] = [
            {"message": error["message"], **error.get("extensions", {})}
            for error in answer["errors"]
        ]
    return _said(told, is_error=bool(refused or answer.get("errors")))


def _said(told: Mapping[str, Any], *, is_error: bool = False) -> "CallToolResult":
    from mcp.types import CallToolResult, TextContent  # noqa: PLC0415

    text = json.dumps(told, ensure_ascii=False)
    return CallToolResult(
        content=[TextContent(type="text", text=text)],
        structured_content=dict(told),
        is_error=is_error,
    )
