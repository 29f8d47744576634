// The button of a card's page that lets this browser be notified. Without script it stays hidden.
"use strict";

const button = document.getElementById("push");
const root = new URL(".", document.currentScript.src);

async function subscription() {
  const worker = await navigator.serviceWorker.register(new URL("push-worker.js", root), {
    scope: new URL("c/", root),
  });
  return { worker, known: await worker.pushManager.getSubscription() };
}

function bytes(text) {
  const plain = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(plain, (letter) => letter.charCodeAt(0));
}

async function tell(method, one) {
  const answer = await fetch(`${location.pathname}/push`, {
    method,
    headers: { "content-type": "application/json" },
    body: JSON.stringify(one),
  });
  if (!answer.ok) throw new Error(`answered ${answer.status}`);
}

function show(isOn) {
  button.textContent = isOn ? button.dataset.off : button.dataset.on;
  button.setAttribute("aria-pressed", String(isOn));
  button.hidden = false;
}

async function change() {
  button.disabled = true;
  try {
    const { worker, known } = await subscription();
    if (known) {
      await tell("DELETE", known);
      await known.unsubscribe();
    } else if ((await Notification.requestPermission()) === "granted") {
      const made = await worker.pushManager.subscribe({
        userVisibleOnly: true,
        applicationServerKey: bytes(button.dataset.key),
      });
      await tell("POST", made).catch(async (error) => {
        await made.unsubscribe();
        throw error;
      });
    }
  } catch (error) {
    console.warn("notifications:", error.message);
  }
  button.disabled = false;
  show(Boolean((await subscription()).known));
}

if (button && "serviceWorker" in navigator && "PushManager" in window) {
  button.addEventListener("click", change);
  subscription().then(({ known }) => show(Boolean(known)), () => {});
}
