// GraphiQL with a field for the key: every request and socket goes to this server, by that key.

import { setNonce } from "get-nonce";
import { GraphiQL } from "graphiql";
import { parse, getOperationAST } from "graphql";
import { createClient } from "graphql-ws";
import { useEffect, useMemo, useState } from "react";
import { createRoot } from "react-dom/client";

import "graphiql/graphiql.css";
import "./page.css";

const KEPT_AS = "stampwire:key"; // in this tab alone, until it is closed
const BEGINNING = `# Ctrl + Space completes, Ctrl + Enter runs.
# This one follows what happens, over a socket:
#   subscription { events { id type occurredAt } }

query Viewer {
  viewer {
    business {
      id
      name
    }
    actor {
      name
      role
    }
  }
}
`;

setNonce(document.querySelector("meta[name=nonce]").content);

function Explorer() {
  const [key, setKey] = useState(() => sessionStorage.getItem(KEPT_AS) ?? "");
  const use = (form) => {
    form.preventDefault();
    const said = new FormData(form.target).get("key").trim();
    sessionStorage.setItem(KEPT_AS, said);
    setKey(said);
  };
  return (
    <>
      <form className="stampwire-key" onSubmit={use}>
        <label htmlFor="key">API key</label>
        <input
          id="key"
          name="key"
          type="password"
          autoComplete="off"
          spellCheck={false}
          placeholder="7loc_sc_…, or the secret of a session"
          defaultValue={key}
        />
        <button>Use it</button>
        <span>{key ? "" : "Nothing is told without a key."}</span>
      </form>
      {key && <Editor key={key} secret={key} />}
    </>
  );
}

function Editor({ secret }) {
  const [fetcher, sockets] = useMemo(() => fetcherWith(`Bearer ${secret}`), [secret]);
  useEffect(() => () => sockets.dispose(), [sockets]);
  return (
    <GraphiQL
      fetcher={fetcher}
      defaultQuery={BEGINNING}
      shouldPersistHeaders={false}
      isHeadersEditorEnabled={false}
      storage={null}
    />
  );
}

function fetcherWith(authorization) {
  const address = new URL("/graphql", location.href);
  const sockets = createClient({
    url: address.href.replace(/^http/, "ws"),
    connectionParams: { Authorization: authorization },
    retryAttempts: 3,
  });
  const fetcher = (asked) =>
    isSubscription(asked) ? sockets.iterate(asked) : post(address, authorization, asked);
  return [fetcher, sockets];
}

function isSubscription({ query, operationName }) {
  try {
    return getOperationAST(parse(query), operationName)?.operation === "subscription";
  } catch {
    return false; // the server says what is wrong with it
  }
}

async function post(address, authorization, asked) {
  const answer = await fetch(address, {
    method: "POST",
    credentials: "omit",
    headers: {
      accept: "application/graphql-response+json, application/json",
      authorization,
      "content-type": "application/json",
    },
    body: JSON.stringify(asked),
  });
  return answer.json();
}

createRoot(document.getElementById("explorer")).render(<Explorer />);
