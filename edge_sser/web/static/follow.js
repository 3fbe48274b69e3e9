// Follows the server: what is heard now, and whether the connection holds.

import { now } from "./base.js";

const SILENT_SECONDS = 6; // the server says something every 2 s
const KEEP_SECONDS = 600;

export class Follower extends EventTarget {
  constructor() {
    super();
    this.connected = false;
    this.everConnected = false;
    this.skew = 0; // seconds that the server's clock is ahead
    this.state = null; // the newest message
    this.sources = new Map(); // by key, in order: {key, reading, health, episode}
    this.curves = new Map(); // by key: points of the last minutes
    this.open();
    setInterval(() => this.check(), 1000);
  }

  open() {
    this.stream?.close();
    this.heard = now();
    this.stream = new EventSource("api/live");
    this.stream.addEventListener("start", (event) => {
      const message = JSON.parse(event.data);
      this.curves = new Map(Object.entries(message.curves));
      this.take(message);
    });
    this.stream.addEventListener("now", (event) => this.take(JSON.parse(event.data)));
    this.stream.onerror = () => this.lose();
  }

  check() {
    if (this.stream.readyState === EventSource.CLOSED || now() - this.heard > SILENT_SECONDS) {
      this.lose();
      this.open();
    }
  }

  lose() {
    if (!this.connected && this.everConnected) return;
    this.connected = false;
    this.everConnected = true;
    this.dispatchEvent(new Event("connection"));
  }

  take(message) {
    this.heard = now();
    this.state = message;
    if (message.ts) this.skew = message.ts - now();
    this.sources = new Map(message.sources.map((source) => [source.key, source]));
    for (const { key, reading } of message.sources) if (reading) this.add(key, reading.point);
    const back = !this.connected;
    this.connected = this.everConnected = true;
    if (back) this.dispatchEvent(new Event("connection"));
    this.dispatchEvent(new Event("message"));
  }

  add(key, point) {
    if (!this.curves.has(key)) this.curves.set(key, []);
    const points = this.curves.get(key);
    if (!points.length || point[0] > points.at(-1)[0]) points.push(point);
    while (points[0][0] < point[0] - KEEP_SECONDS) points.shift();
  }
}
