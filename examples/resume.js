// A client of simplews.resume.v1 for browsers and Node.js, without dependencies.
//
//   const client = new ResumeClient("ws://localhost:8765", {
//     rooms: ["lobby"],
//     onmessage: (room, data) => show(room, data),    // a string or a Uint8Array
//     ongap: (room, reason) => reload(room),          // messages are missing
//   });
//   client.send("lobby", "hi");
//
// Each message comes once and in order, through all reconnections, or there is a gap.
// What is sent is sent again until the server has acknowledged it.

const SUBPROTOCOL = "simplews.resume.v1";
const STOP = [1002, 1008, 1009]; // ends that coming again would not cure
const MOST_UNACKNOWLEDGED = 256;

class ResumeClient {
  constructor(url, options = {}) {
    const ignore = () => {};
    this.url = url;
    this.options = {
      rooms: [],
      onmessage: ignore,
      ongap: ignore,
      onrefused: ignore, // (room, reason, number or undefined)
      onend: ignore, // (code, reason): it does not come again
      firstDelay: 1000, // milliseconds, of the longest first pause; it doubles
      mostDelay: 60000,
      WebSocket: globalThis.WebSocket,
      ...options,
    };
    this.positions = new Map(this.options.rooms.map((room) => [room, undefined]));
    this.unacknowledged = new Map(); // number → frame, in order
    this.number = 0;
    const crypto = globalThis.crypto ?? require("crypto").webcrypto; // Node.js 18 has no global
    const random = crypto.getRandomValues(new Uint8Array(16));
    this.name = Array.from(random, (byte) => byte.toString(16).padStart(2, "0")).join("");
    this.delay = this.options.firstDelay;
    this.ended = false;
    this.connect();
  }

  join(room) {
    if (this.positions.has(room)) return;
    this.positions.set(room, undefined);
    this.write({ type: "join", room });
  }

  leave(room) {
    if (this.positions.delete(room)) this.write({ type: "leave", room });
  }

  // The number of the message. It throws when too many are not acknowledged.
  send(room, data) {
    if (this.unacknowledged.size >= MOST_UNACKNOWLEDGED) throw new Error("too many wait");
    const frame = { type: "message", room, number: ++this.number };
    if (typeof data === "string") frame.data = data;
    else frame.base64 = btoa(Array.from(data, (byte) => String.fromCharCode(byte)).join(""));
    this.unacknowledged.set(frame.number, frame);
    this.write(frame);
    return frame.number;
  }

  close() {
    this.ended = true;
    clearTimeout(this.timer);
    this.ws.close();
  }

  write(frame) {
    if (this.ws.readyState === 1) this.ws.send(JSON.stringify(frame));
  }

  connect() {
    const ws = (this.ws = new this.options.WebSocket(this.url, SUBPROTOCOL));
    ws.onopen = () => {
      this.write({ type: "hello", client: this.name });
      for (const [room, since] of this.positions) this.write({ type: "join", room, since });
      for (const frame of this.unacknowledged.values()) this.write(frame);
    };
    ws.onmessage = (event) => this.take(JSON.parse(event.data));
    ws.onerror = () => {}; // the close that follows is what counts
    ws.onclose = (event) => {
      if (this.ended || STOP.includes(event.code)) {
        this.ended = true;
        return this.options.onend(event.code, event.reason);
      }
      this.timer = setTimeout(() => this.connect(), Math.random() * this.delay);
      this.delay = Math.min(this.delay * 2, this.options.mostDelay);
    };
  }

  take({ type, room, number, position, data, base64, gap, reason }) {
    const { onmessage, ongap, onrefused } = this.options;
    if (type === "ack" || (type === "error" && number !== undefined)) {
      for (const done of this.unacknowledged.keys()) {
        if (done > number) break;
        this.unacknowledged.delete(done);
      }
      if (type === "error") onrefused(room, reason, number);
    } else if (this.positions.has(room)) {
      if (type === "error") {
        this.positions.delete(room);
        onrefused(room, reason);
      } else if (type === "joined") {
        this.delay = this.options.firstDelay;
        this.positions.set(room, position);
        if (gap !== undefined) ongap(room, gap);
      } else if (type === "message") {
        if (position !== undefined) this.positions.set(room, position);
        const bytes = () => Uint8Array.from(atob(base64), (char) => char.charCodeAt(0));
        onmessage(room, base64 === undefined ? data : bytes());
      }
    }
  }
}

if (typeof module !== "undefined") module.exports = { ResumeClient };
