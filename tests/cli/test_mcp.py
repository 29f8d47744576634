"""`stampwire mcp`, asked by the client of the protocol's own package, on a running server."""

from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import aiohttp
import pytest
from graphql import build_schema, parse, validate
from mcp import Client as Asker
from mcp import MCPError, StdioServerParameters

from cli.mcp import Api, assistant_of, server_of
from cli.tools import tools_of
from houses import House, database, deployment, house, open_house
from models import Role
from processes import ROOT, stampwire

__all__ = ["database", "deployment", "house", "open_house"]

pytestmark = pytest.mark.on("sqlite")

Asking = Callable[..., AbstractAsyncContextManager[Asker]]


@pytest.fixture
def asking(house: House) -> Asking:
    """An assistant that asks with the owner's key, or with another."""

    @asynccontextmanager
    async def ask(
        key: str = house.cafe.api_key, only: set[str] | None = None, *, writes: bool = False
    ) -> AsyncIterator[Asker]:
        async with aiohttp.ClientSession() as session:
            api = Api(house.owner.server.graphql, session, key)
            async with Asker(server_of(await assistant_of(api, only, writes=writes))) as asker:
                yield asker

    return ask


async def call(asker: Asker, name: str, **arguments: Any) -> tuple[bool, Any]:
    """Whether it went well, and what was said."""
    said = await asker.call_tool(name, arguments)
    return not said.is_error, said.structured_content


async def a_card(asker: Asker) -> str:
    """A published template, and a card of it."""
    award = {"award": {"title": "Cookie"}}
    template = {
        "name": "Kopi card", "stampsRequired": 3, "earningRule": {"perOrder": True},
        "goals": [{"stamps": 3, "reward": award}],
    }  # fmt: skip
    _, made = await call(asker, "createCardTemplate", input=template)
    template_id = made["createCardTemplate"]["cardTemplate"]["id"]
    await call(asker, "publishCardTemplate", input={"id": template_id})
    customer = {"email": "ana@mail.example"}
    _, issued = await call(
        asker, "issueCard", input={"templateId": template_id, "customer": customer}
    )
    id: str = issued["issueCard"]["card"]["id"]
    return id


async def test_every_tool_is_told_with_its_arguments_and_what_it_may_do(asking: Asking):
    async with asking(writes=True) as asker:
        tools = {tool.name: tool for tool in (await asker.list_tools()).tools}

    add, card, erase = tools["addStamps"], tools["card"], tools["eraseCustomer"]
    assert add.description.startswith("Add stamps to a card")
    assert set(add.input_schema["properties"]) == {"input", "dryRun"}
    told = add.input_schema["properties"]["input"]
    assert told["properties"]["count"]["type"] == "integer"
    assert told["properties"]["channel"]["default"] == "API"
    assert told["properties"]["card"]["maxProperties"] == 1
    assert told["required"] == ["card"]
    assert card.annotations.read_only_hint
    assert (add.annotations.read_only_hint, add.annotations.destructive_hint) == (False, False)
    assert (erase.annotations.read_only_hint, erase.annotations.destructive_hint) == (False, True)


async def test_no_tool_is_about_a_secret(asking: Asking):
    async with asking(writes=True) as asker:
        names = {tool.name for tool in (await asker.list_tools()).tools}

    assert not names & {
        "signIn", "changePassword", "createStaff", "generateApiKey", "regenerateApiKey",
        "createAccessToken", "createWebhookEndpoint", "rotateSigningSecret", "createBusiness",
    }  # fmt: skip


async def test_a_scanner_is_told_of_its_own_tools_and_the_server_refuses_the_others(
    house: House, asking: Asking
):
    _, scanner = await house.hire(Role.SCANNER)
    assert scanner.key

    async with asking(scanner.key, writes=True) as asker:
        names = {tool.name for tool in (await asker.list_tools()).tools}
        well, said = await call(asker, "ask", query="{ campaigns(first: 1) { nodes { id } } }")

    assert "addStamps" in names
    assert "createCardTemplate" not in names
    assert not well
    assert said["errors"][0]["code"] == "FORBIDDEN"


async def test_a_key_that_lost_its_rights_is_refused_by_the_server(house: House, asking: Asking):
    manager, caller = await house.hire(Role.MANAGER)
    assert caller.key
    async with asking(caller.key, writes=True) as asker:
        document = """mutation($input: UpdateStaffInput!)
            { updateStaff(input: $input) { staff { role } } }"""
        assert manager.staff
        await house.owner.do(document, {"input": {"id": manager.staff.id, "role": "SCANNER"}})
        before = await house.dump()

        well, said = await call(asker, "createLocation", input={"name": "Dago"})

        assert not well
        assert said["errors"][0]["code"] == "FORBIDDEN"
        assert await house.dump() == before


async def test_reading_gives_what_the_api_gives(asking: Asking):
    async with asking(writes=True) as asker:
        id = await a_card(asker)

        well, one = await call(asker, "card", ref={"id": id})
        _, all_of_them = await call(asker, "cards", first=5)
        _, own = await call(
            asker, "ask", query="query($ref: CardRef!) { card(ref: $ref) { stamps } }",
            variables={"ref": {"id": id}},
        )  # fmt: skip

    assert well
    assert one["card"]["customer"]["email"] == "ana@mail.example"
    assert [node["id"] for node in all_of_them["cards"]["nodes"]] == [id]
    assert own == {"card": {"stamps": 0}}


async def test_without_leave_to_write_nothing_is_changed(house: House, asking: Asking):
    async with asking(writes=True) as asker:
        id = await a_card(asker)
    before = await house.dump()
    stamps = {"card": {"id": id}, "count": 3}

    async with asking() as asker:
        add = next(tool for tool in (await asker.list_tools()).tools if tool.name == "addStamps")
        refused, why = await call(asker, "addStamps", input=stamps, dryRun=False)
        previewed, would = await call(asker, "addStamps", input=stamps)
        shown, document = await call(asker, "createLocation", input={"name": "Dago"})
        signing_out = "mutation { signOut(input: {}) { events { id } } }"
        _, asked = await call(asker, "ask", query=signing_out)
        unfit, problems = await call(asker, "createLocation", input={"name": 7})

    assert add.annotations.read_only_hint
    assert (refused, why["code"]) == (False, "READ_ONLY")
    assert previewed
    assert (would["sent"], would["preview_of"]) == (False, "addStamps")
    assert would["previewStamps"]["after"] == 3
    assert [reward["title"] for reward in would["previewStamps"]["expectedRewards"]] == ["Cookie"]
    assert (shown, document["sent"]) == (True, False)
    assert document["document"].startswith("mutation CreateLocation(")
    assert document["variables"]["input"]["name"] == "Dago"
    assert asked["error"] == "This tool runs one query, and nothing else."
    assert not unfit
    assert "String cannot represent" in problems["errors"][0]
    assert await house.dump() == before


async def test_with_leave_it_writes_and_a_refusal_is_carried(asking: Asking):
    async with asking(writes=True) as asker:
        id = await a_card(asker)
        stamps = {"card": {"id": id}, "count": 3}

        well, added = await call(asker, "addStamps", input=stamps)
        key = added["sent"]["input"]["idempotencyKey"]
        _, again = await call(asker, "addStamps", input={**stamps, "idempotencyKey": key})
        refused, why = await call(
            asker, "redeemVoucher", input={"voucher": {"id": "v_01jwsample0000000000000000"}}
        )

    assert well
    assert [reward["title"] for reward in added["addStamps"]["rewards"]] == ["Cookie"]
    assert again["addStamps"]["operation"] == added["addStamps"]["operation"]
    assert not refused
    assert why["redeemVoucher"]["userErrors"][0]["code"] == "NOT_FOUND"


async def test_a_dry_run_of_the_servers_own_is_used(house: House, asking: Asking):
    async with asking(writes=True) as asker:
        kept, merged = [
            (await call(asker, "createCustomer", input={"email": f"{name}@mail.example"}))[1]
            for name in ("ana", "anna")
        ]
        ids = [one["createCustomer"]["customer"]["id"] for one in (kept, merged)]
    async with asking() as asker:
        told = {"keepId": ids[0], "mergeId": ids[1]}
        well, said = await call(asker, "mergeCustomers", input=told)
        _, customers = await call(asker, "customers")

    assert well
    assert said["dry_run"]["input"]["dryRun"] is True
    assert customers["customers"]["totalCount"] == 2


async def test_fewer_tools_where_fewer_are_asked_for(asking: Asking):
    async with asking(only={"cards", "customers"}) as asker:
        names = [tool.name for tool in (await asker.list_tools()).tools]

    assert sorted(names) == ["ask", "cards", "customers"]
    with pytest.raises(PermissionError, match="no such tools: signIn"):
        async with asking(only={"signIn"}):
            pass


async def test_the_schema_can_be_read(asking: Asking):
    async with asking() as asker:
        [listed] = (await asker.list_resources()).resources
        [held] = (await asker.read_resource(str(listed.uri))).contents
        with pytest.raises(MCPError, match="no such resource"):
            await asker.read_resource("stampwire://something-else")

    assert "type Mutation {" in held.text


async def test_a_wrong_key_is_told_at_once(asking: Asking):
    with pytest.raises(PermissionError, match="The server refused"):
        async with asking("7loc_sc_" + "x" * 36):
            pass


def test_every_document_fits_the_schema():
    schema = build_schema((ROOT / "docs" / "schema.graphql").read_text())

    for role in Role:
        for tool in tools_of(schema, role.name).values():
            assert validate(schema, parse(tool.document)) == [], tool.name


async def test_the_command_speaks_over_standard_input_and_output(house: House):
    command, *words = stampwire()
    parameters = StdioServerParameters(
        command=command,
        args=[*words, "mcp", "--url", house.owner.server.url],
        env={"STAMPWIRE_KEY": house.cafe.api_key},
        cwd=ROOT,
    )

    async with Asker(parameters) as asker:
        well, said = await call(asker, "viewer")

    assert well
    assert said["viewer"]["business"]["id"] == house.cafe.business.id
