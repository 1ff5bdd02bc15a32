// The frames of `openclawmu.terminal.v1`: the first byte says what it is, numbers are big endian.

const [OUTPUT, INPUT, RESIZE, ACK, PING, EXIT, VIEWERS, RESUME] = [0, 1, 2, 3, 4, 5, 6, 7];
/** The largest piece of input that is sent at once, in bytes. */
const PIECE = 32 * 1024;

const utf8 = new TextEncoder();

/** A frame with this many bytes after the first; `fill` writes them. */
function frame(kind, length, fill) {
  const bytes = new Uint8Array(1 + length);
  bytes[0] = kind;
  fill(new DataView(bytes.buffer, 1), bytes.subarray(1));
  return bytes;
}

/** What was typed, as frames. */
export function* input(data) {
  const bytes = typeof data === "string" ? utf8.encode(data) : data;
  for (let at = 0; at < bytes.length; at += PIECE) {
    const piece = bytes.subarray(at, at + PIECE);
    yield frame(INPUT, piece.length, (_, rest) => rest.set(piece));
  }
}

/** The size of the screen. */
export const resize = (cols, rows) =>
  frame(RESIZE, 4, (view) => {
    view.setUint16(0, cols);
    view.setUint16(2, rows);
  });

/** How far the output was shown. */
export const ack = (seq) => frame(ACK, 8, (view) => view.setBigUint64(0, BigInt(seq)));

/** A sign of life. */
export const ping = () => frame(PING, 8, (view) => view.setBigUint64(0, BigInt(Date.now())));

/** From where on the output is wanted. */
export const resume = (session, seq) => {
  const name = utf8.encode(session);
  return frame(RESUME, 8 + name.length, (view, rest) => {
    view.setBigUint64(0, BigInt(seq));
    rest.set(name, 8);
  });
};

/** What the gateway sent. */
export function read(buffer) {
  const view = new DataView(buffer);
  switch (view.getUint8(0)) {
    case OUTPUT:
      return { kind: "output", seq: Number(view.getBigUint64(1)), bytes: new Uint8Array(buffer, 9) };
    case EXIT:
      return { kind: "exit", code: view.getInt32(1) };
    case VIEWERS:
      return { kind: "viewers", drivers: view.getUint16(1), observers: view.getUint16(3), moderators: view.getUint16(5) };
    case PING:
      return { kind: "ping" };
    default:
      return { kind: "unknown" };
  }
}
