// examples/resume.js, driven by lines of JSON: orders in, events out.

const { WebSocket } = require("ws");
const { ResumeClient } = require("../../../examples/resume.js");

const tell = (...event) => console.log(JSON.stringify(event));
const client = new ResumeClient(process.argv[2], {
  rooms: ["lobby", "secret"],
  onmessage: (room, data) =>
    tell("message", room, typeof data === "string" ? data : Array.from(data)),
  ongap: (room, reason) => tell("gap", room, reason),
  onrefused: (room, reason, number) => tell("refused", room, reason, number ?? null),
  onend: (code) => {
    tell("end", code);
    process.stdin.destroy();
  },
  firstDelay: 1,
  mostDelay: 1,
  WebSocket,
});

require("readline")
  .createInterface({ input: process.stdin })
  .on("line", (line) => {
    const [name, room, data] = JSON.parse(line);
    client[name](room, Array.isArray(data) ? Uint8Array.from(data) : data);
  })
  .on("close", () => client.ended || client.close());
