// Verifies requests with the reference library: a line of JSON each in, whether it is ours out.
import { createInterface } from "node:readline";
import { Webhook } from "standardwebhooks";

for await (const line of createInterface({ input: process.stdin })) {
  const { secret, body, headers } = JSON.parse(line);
  try {
    const said = new Webhook(secret).verify(Buffer.from(body, "base64"), headers);
    console.log(JSON.stringify({ said }));
  } catch (error) {
    console.log(JSON.stringify({ refused: error.message }));
  }
}
