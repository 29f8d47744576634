// Shows what the café sends to this browser, and opens the card when it is touched.
"use strict";

self.addEventListener("push", (event) => {
  let said = {};
  try {
    said = event.data.json();
  } catch {
    said = { text: event.data ? event.data.text() : "" };
  }
  const shown = { body: said.text ?? "", tag: said.id, data: { url: said.url ?? null } };
  event.waitUntil(self.registration.showNotification(said.title || "Stamp card", shown));
});

self.addEventListener("notificationclick", (event) => {
  event.notification.close();
  const { url } = event.notification.data;
  if (url) event.waitUntil(self.clients.openWindow(url));
});
