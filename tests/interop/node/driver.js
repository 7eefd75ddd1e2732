// Node's ws, driven by the tests in the folder above.
//
// It prints the port of its control socket and ends when its standard input does.
// Each control connection is a session with one WebSocket, as a client or as a
// server: JSON objects, one a line. Commands come in, {"do": ...}, and are named
// after the methods of Session; what happens goes out, {"event": ...}. The end of
// the control connection ends everything that the session has opened.

"use strict";

const http = require("node:http");
const https = require("node:https");
const net = require("node:net");
const readline = require("node:readline");
const { WebSocket, WebSocketServer } = require("ws");

class Session {
  constructor(control) {
    this.control = control;
    this.ws = null;
    this.server = null;
    control.on("close", () => this.end());
    const lines = readline.createInterface({ input: control });
    lines.on("error", () => {}); // "close" follows
    lines.on("line", (line) => {
      const command = JSON.parse(line);
      try {
        this[command.do](command);
      } catch (error) {
        this.tell("failed", { command, message: error.message });
      }
    });
  }

  tell(event, facts = {}) {
    if (this.control.writable) {
      this.control.write(JSON.stringify({ event, ...facts }) + "\n");
    }
  }

  end() {
    if (this.ws !== null) this.ws.terminate();
    if (this.server !== null) {
      this.server.close();
      this.server.closeAllConnections();
    }
  }

  // -------------------------------------------------------------- opening

  // Open `url`; `options` are those of ws, TLS included.
  connect({ url, protocols, options }) {
    let headers = {};
    const ws = new WebSocket(url, protocols, options);
    this.take(ws);
    ws.on("upgrade", (response) => (headers = response.headers));
    ws.on("open", () => this.tellOpen(ws, headers["sec-websocket-extensions"]));
    ws.on("unexpected-response", (request, response) => {
      const chunks = [];
      response.on("data", (chunk) => chunks.push(chunk));
      response.on("end", () => {
        const body = Buffer.concat(chunks).toString("base64");
        this.tell("refused", { status: response.statusCode, headers: response.headers, body });
      });
    });
  }

  // Listen on a free port; `refuse` holds the answer for every client, if any.
  listen({ protocols, options, tls, refuse, greeting }) {
    this.server = tls === null ? http.createServer() : https.createServer(tls);
    const wss = new WebSocketServer({
      ...options,
      server: this.server,
      handleProtocols: (offered) => protocols.find((name) => offered.has(name)) ?? false,
      verifyClient:
        refuse === null
          ? undefined
          : (info, done) => done(false, refuse.status, refuse.body, refuse.headers),
    });
    let answered = "";
    wss.on("headers", (lines) => {
      const line = lines.find((text) => text.startsWith("Sec-WebSocket-Extensions:"));
      answered = line === undefined ? "" : line.slice(line.indexOf(":") + 2);
    });
    wss.on("connection", (ws) => {
      this.take(ws);
      if (greeting !== null) ws.send(greeting);
      this.tellOpen(ws, answered);
    });
    this.server.listen(0, "127.0.0.1", () => {
      this.tell("listening", { port: this.server.address().port });
    });
  }

  take(ws) {
    this.ws = ws;
    ws.on("message", (data, isBinary) => {
      const kind = isBinary ? "binary" : "text";
      this.tell("message", { kind, data: data.toString("base64") });
    });
    ws.on("pong", (payload) => this.tell("pong", { payload: payload.toString("base64") }));
    ws.on("close", (code, reason) => this.tell("close", { code, reason: reason.toString() }));
    ws.on("error", (error) => this.tell("error", { message: error.message }));
  }

  // `ws.extensions` says what ws uses, the header field with which parameters.
  tellOpen(ws, answer = "") {
    this.tell("open", { protocol: ws.protocol, extensions: ws.extensions, answer });
  }

  // ----------------------------------------------------------------- open

  // Send a fragment of a message; the last one has `fin`.
  send({ kind, data, fin }) {
    this.ws.send(Buffer.from(data, "base64"), { binary: kind === "binary", fin });
  }

  ping({ payload }) {
    this.ws.ping(Buffer.from(payload, "base64"));
  }

  close({ code, reason }) {
    this.ws.close(code ?? undefined, reason);
  }

  abort() {
    this.ws.terminate();
  }
}

const control = net.createServer((socket) => new Session(socket));
control.listen(0, "127.0.0.1", () => console.log(control.address().port));
process.stdin.on("end", () => process.exit(0)).resume();
